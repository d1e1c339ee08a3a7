// SPDX-License-Identifier: Apache-2.0
// What the step "handon" says.

export default {
  en: {},
  zh: {},
};
