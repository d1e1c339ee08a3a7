// SPDX-License-Identifier: Apache-2.0
// What the step "choose" says.

export default {
  en: {},
  zh: {},
};
