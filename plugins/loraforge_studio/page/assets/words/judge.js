// SPDX-License-Identifier: Apache-2.0
// What the step "judge" says.

export default {
  en: {},
  zh: {},
};
