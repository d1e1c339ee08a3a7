// SPDX-License-Identifier: Apache-2.0
// What the step "train" says.

export default {
  en: {},
  zh: {},
};
