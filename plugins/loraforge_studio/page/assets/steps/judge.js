// SPDX-License-Identifier: Apache-2.0
// The step "judge": is the adapter better than the base, where, and which checkpoint is?

import { get, of } from "/assets/api.js";
import { make } from "/assets/dom.js";
import { own } from "/assets/parts/own.js";
import { ask } from "/assets/steps/judging/ask.js";
import { blind } from "/assets/steps/judging/blind.js";
import { checkpoints } from "/assets/steps/judging/checkpoints.js";
import { compare } from "/assets/steps/judging/compare.js";
import { number } from "/assets/words.js";

const t = own("judge");

const PARTS = { compare, ask, blind, checkpoints };

/** Shows the step in `place`; see app.js for what `at` has. Its address goes on with the part and the run's name. */
export async function show(place, at) {
  place.append(make("h1", {}, t("judge_title")));
  const run = pickRun(place, at, "judge", at.rest[1]);
  if (!run) return;
  const part = at.rest[0] in PARTS ? at.rest[0] : "compare";
  const name = run.split("/").pop();
  if (part === "blind" && at.rest[2]) {
    await blind(place, at, { run }, at.rest.slice(2).join("/"));
    return;
  }
  const found = await get(of(at.work, "judge"), { run }, at.signal);
  const facts = [found.base, found.facts.step ? t("step_n", { n: number(found.facts.step) }) : "", t("examples_n", { n: number(found.facts.examples) })];
  place.append(
    make("p", { className: "soft" }, [name, ...facts].filter(Boolean).join(" · ")),
    make("nav", { className: "tabs", "aria-label": t("judge") }, Object.keys(PARTS).map((key) => make("a", {
      href: `#/judge/${encodeURIComponent(at.work)}/${key}/${encodeURIComponent(name)}`,
      "aria-current": key === part ? "page" : undefined,
    }, t(`judge_${key}`)))),
  );
  await PARTS[part](place, at, found);
}

/** The run that the address names, or the newest; a list to choose from where there are several. Without any, says what comes first. */
export function pickRun(place, at, step, named) {
  const runs = at.info?.finished ?? [];
  if (!runs.length) {
    place.append(make("section", { className: "card" }, make("h2", {}, t("not_yet")), make("p", {}, t(at.info?.begun ? "go_train" : "go_begin")),
      make("div", { className: "row" }, make("a", { className: "press primary", href: at.info?.begun ? `#/train/${encodeURIComponent(at.work)}` : "#/begin" }, t(at.info?.begun ? "train" : "begin")))));
    return "";
  }
  const run = runs.find((one) => one.split("/").pop() === named) ?? runs[0];
  if (runs.length > 1) {
    const chosen = make("select", { id: "run", onchange: () => {
      const rest = step === "judge" ? [at.rest[0] || "compare", chosen.value] : [chosen.value];
      at.go(step, at.work, ...rest);
    } }, runs.map((one) => make("option", { value: one.split("/").pop(), selected: one === run }, one.split("/").pop())));
    place.append(make("div", { className: "row" }, make("label", { htmlFor: "run" }, t("which_run")), chosen));
  }
  return run;
}

/** The newest job of a kind that belongs to a run, null if there is none. */
export const jobOf = (at, kind, run) => at.info.jobs.find((job) => job.kind === kind && (!run || job.about.run === run)) ?? null;
