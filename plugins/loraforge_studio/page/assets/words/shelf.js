// SPDX-License-Identifier: Apache-2.0
// What the step "shelf" says.

export default {
  en: {},
  zh: {},
};
