// SPDX-License-Identifier: Apache-2.0
// What is in the way, in the command's own sentences.

import { $, button, fill, make } from "/assets/dom.js";
import { t } from "/assets/words.js";

/** A list of sentences, each its own line. */
export function problemList(problems) {
  return make("ul", { className: "problems" }, problems.map((line) => make("li", {}, line)));
}

/** Shows an error above the step until it is closed or the step changes. */
export function showProblems(error) {
  if (error.name === "AbortError") return;
  if (!error.problems) console.error(error);
  const problems = error.problems ?? [String(error.message ?? error)];
  fill(
    $("problems"),
    make("h2", {}, t("problems", { n: problems.length })),
    problemList(problems),
    error.command ? make("p", { className: "soft" }, make("code", {}, error.command)) : null,
    button(t("close"), clearProblems, { quiet: true }),
  );
  $("problems").hidden = false;
  $("problems").scrollIntoView({ block: "nearest" }); // and role="alert" has it read
}

export function clearProblems() {
  $("problems").hidden = true;
  fill($("problems"));
}
