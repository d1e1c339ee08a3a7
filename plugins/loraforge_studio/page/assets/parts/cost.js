// SPDX-License-Identifier: Apache-2.0
// What a training takes, as `check` estimates it, and what would make it fit.

import { button, make } from "/assets/dom.js";
import { shown } from "/assets/parts/fields.js";
import { problemList } from "/assets/parts/problems.js";
import { bytes, duration, number, t } from "/assets/words.js";

const figure = (name, value, ...more) => make("div", {}, make("dt", {}, name), make("dd", {}, value), more.filter(Boolean).map((text) => make("dd", { className: "soft small" }, text)));
const big = (value) => (value >= 1e9 ? `${number(value / 1e9, 1)} B` : value >= 1e6 ? `${number(value / 1e6, 1)} M` : number(value));
const part = (name) => (t(`part_${name}`) === `part_${name}` ? name : t(`part_${name}`));

/** The sentences of `check` about keys, with the key before each. */
export const sentences = (list) => list.map((one) => (one.key ? `${one.key}: ${one.text}` : one.text));

/** What `told`, the answer of /estimate, says; `take(values)` takes a proposal. */
export function costs(told, take) {
  const fit = told.fit;
  const made = [];
  if (told.problems.length) made.push(make("div", { className: "card bad in-the-way" }, make("h3", {}, t("in_the_way")), problemList(sentences(told.problems))));
  if (fit) {
    const share = fit.available_bytes ? Math.min(1, fit.memory_bytes / fit.available_bytes) : 0;
    made.push(
      make("dl", { className: "figures costs" },
        figure(t("cost_memory"), bytes(fit.memory_bytes), fit.available_bytes ? t("cost_free", { n: bytes(fit.available_bytes) }) : ""),
        figure(t("cost_time"), t("cost_time_range", { least: duration(fit.seconds_least), most: duration(fit.seconds) })),
        figure(t("cost_steps"), number(told.steps)),
        figure(t("cost_examples"), number(told.examples), t("cost_held", { n: number(told.held_out) })),
        figure(t("cost_disk"), bytes(fit.disk_bytes), fit.disk_free_bytes ? t("cost_free", { n: bytes(fit.disk_free_bytes) }) : ""),
        figure(t("cost_base"), t("cost_parameters", { n: big(fit.parameters) }), told.base_model),
        figure(t("cost_trained"), t("cost_parameters", { n: big(fit.trainable_parameters) })),
        figure(t("cost_licence"), fit.licence ?? t("licence_unknown"), fit.licence ? "" : t("licence_hint"))),
      make("progress", { value: share, "aria-label": t("cost_memory") }),
      make("p", { className: fit.fits ? "good-text" : "bad-text" }, t(fit.fits ? "fits" : "fits_not")),
      make("details", {}, make("summary", {}, t("memory_parts")), make("ul", { className: "plain" }, Object.entries(fit.memory_parts).map(([name, value]) => make("li", { className: "row" }, make("span", { className: "grow" }, part(name)), bytes(value))))));
    for (const proposal of fit.proposals) {
      made.push(make("div", { className: "card note" }, make("p", {}, t("proposal", { n: bytes(proposal.memory_bytes) })),
        make("ul", { className: "plain" }, Object.entries(proposal.set).map(([key, value]) => make("li", {}, make("code", {}, `${key}: ${shown(value)}`)))),
        button(t("take_proposal"), () => take(proposal.set), { primary: true })));
    }
  } else if (!told.problems.length) made.push(make("p", {}, t("no_fit")));
  if (told.advice.length) made.push(make("div", { className: "card note advice" }, make("h3", {}, t("advice")), make("ul", { className: "plain" }, sentences(told.advice).map((line) => make("li", {}, line)))));
  if (told.notes?.length) made.push(make("details", {}, make("summary", {}, t("notes")), make("ul", { className: "plain" }, told.notes.map((line) => make("li", { className: "soft" }, line)))));
  return made;
}
