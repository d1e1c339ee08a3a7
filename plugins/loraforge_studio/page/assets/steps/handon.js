// SPDX-License-Identifier: Apache-2.0
// The step "hand on": files for other programs, a server to talk to, the card, and the proof that nothing was altered.

import { get, of } from "/assets/api.js";
import { make } from "/assets/dom.js";
import { own } from "/assets/parts/own.js";
import { exporters } from "/assets/steps/handing/exports.js";
import { serving } from "/assets/steps/handing/serving.js";
import { trust } from "/assets/steps/handing/trust.js";
import { pickRun } from "/assets/steps/judge.js";

const t = own("handon");

/** Shows the step in `place`; see app.js for what `at` has. Its address goes on with the run's name. */
export async function show(place, at) {
  place.append(make("h1", {}, t("handon_title")));
  const run = pickRun(place, at, "handon", at.rest[0]);
  if (!run) return;
  const found = await get(of(at.work, "hand"), { run }, at.signal);
  place.append(make("p", { className: "soft" }, t(found.task === "image" ? "about_pictures" : "about_text", { base: found.base, folder: `${at.info.folder}/${run}` })));
  if (found.golden) place.append(make("p", { className: "card note" }, t("golden")));
  serving(place, at, found);
  exporters(place, at, found);
  await trust(place, at, found);
}

/** Where a file, or a folder packed as one, is downloaded from. */
export const download = (at, path) => `${of(at.work, "download")}?${new URLSearchParams({ path })}`;
