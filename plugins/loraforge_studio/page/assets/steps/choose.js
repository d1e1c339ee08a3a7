// SPDX-License-Identifier: Apache-2.0
// The step "choose".

import { fill, make } from "/assets/dom.js";
import { t } from "/assets/words.js";

/** Shows the step in `place`; see app.js for what `at` has. */
export async function show(place, at) {
  fill(place, make("h1", {}, t("choose")));
}
