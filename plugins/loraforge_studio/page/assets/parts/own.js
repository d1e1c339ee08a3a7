// SPDX-License-Identifier: Apache-2.0
// The `t` of one step: its own words first, then those of all.

import { t } from "/assets/words.js";

export const own = (step) => (key, values) => {
  const name = `${step}.${key}`;
  const said = t(name, values);
  return said === name ? t(key, values) : said;
};
