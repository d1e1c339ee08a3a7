// SPDX-License-Identifier: Apache-2.0
// What the step "begin" says.

export default {
  en: {},
  zh: {},
};
