// SPDX-License-Identifier: Apache-2.0
// What the step "data" says.

export default {
  en: {},
  zh: {},
};
