// SPDX-License-Identifier: Apache-2.0
// Base beside adapter on the examples that were held out.

import { get, of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { jobCard } from "/assets/parts/jobs.js";
import { own } from "/assets/parts/own.js";
import { jobOf } from "/assets/steps/judge.js";
import { answerCards } from "/assets/steps/judging/pictures.js";
import { number } from "/assets/words.js";

const t = own("judge");

const PAGE = 8; // questions at once
const TONE = { better: "good", worse: "wrong", mixed: "doubt", nearer: "good" };

export async function compare(place, at, found) {
  const evaluation = found.evaluation;
  const below = make("div", { className: "stack" });
  const follow = (job) => fill(below, jobCard(job, { title: t("compare_runs"), signal: at.signal, ended: (now) => now.state === "done" && at.reload() }));
  const running = jobOf(at, "eval", found.run);
  if (running && running.state !== "done") follow(running);
  const start = button(evaluation ? t("compare_again") : t("compare_now"), async () => follow(await post(of(at.work, "judge", "eval"), { run: found.run })), { primary: !evaluation });
  if (!evaluation) {
    place.append(make("section", { className: "card" }, make("h2", {}, t("compare_none")), make("p", {}, t("compare_why")), make("div", { className: "row" }, start)), below);
    return;
  }
  place.append(summary(evaluation, start), below);
  if (found.grades?.sentence) place.append(gradesCard(found.grades));
  place.append(measureTable(evaluation));
  if (evaluation.answers) await questions(place, at, found.run);
  else if (found.samples.length) place.append(make("p", { className: "soft" }, t("compare_pictures")));
}

/** What the comparison came to: its own sentences, and the measure that decides, on both parts of the hold-out. */
function summary(evaluation, start) {
  const [first, ...others] = evaluation.sentence;
  const deciding = evaluation.measures.filter((one) => one.measure === evaluation.headline);
  return make("section", { className: "card" },
    make("p", { className: `verdict ${TONE[evaluation.verdict] ?? ""}`, data: { verdict: evaluation.verdict } }, first ?? t("compare_untold")),
    deciding.length ? make("dl", { className: "figures" }, deciding.flatMap((one) => [
      figure(partName(evaluation, one), `${value(one.base, one.share)} → ${value(one.adapter, one.share)}`, one.name),
    ])) : null,
    evaluation.parts && !evaluation.parts.reworded && deciding.length ? make("p", { className: "soft" }, t("none_reworded")) : null,
    others.length ? make("ul", { className: "dots stack" }, others.map((line) => make("li", {}, line))) : null,
    evaluation.memorisation?.learned_asked ? make("p", {}, t("by_heart", { all: evaluation.memorisation.learned_asked, n: evaluation.memorisation.learned_word_for_word })) : null,
    make("div", { className: "row" }, start, make("span", { className: "soft" }, t("compare_takes"))));
}

/** Pictures have no answers: all that were held out are one part. */
const partName = (evaluation, one) => t(evaluation.parts ? (one.new ? "part_new" : "part_reworded") : "part_held", { n: number(one.rows) });

const figure = (name, text, below) => make("div", {}, make("dt", {}, name), make("dd", {}, text), make("dd", { className: "soft" }, below));

/** A figure as the terminal writes it: shares in percent. */
export const value = (one, share) => (one === null || one === undefined ? "–" : share ? `${number(100 * one, 1)} %` : number(one, 3));

function difference(one) {
  const signed = (figure) => (figure === null ? "" : `${figure > 0 ? "+" : ""}${number(one.share ? 100 * figure : figure, one.share ? 1 : 3)}`);
  return one.low === null || one.high === null ? signed(one.difference) : `${signed(one.difference)} [${signed(one.low)}, ${signed(one.high)}]`;
}

/** Every measure in a table, closed at first. */
export function measureTable(evaluation, open = false) {
  const cell = (name, text, className = "number") => make("td", { className, data: { name } }, text);
  const heads = [t("measure"), t("their_answer"), t("side_base"), t("side_adapter"), t("difference"), t("verdict")];
  return make("details", { className: "card", open }, make("summary", {}, t("all_measures")), make("div", { className: "within" },
    evaluation.measures.length ? make("div", { className: "scroll" }, make("table", { className: "stacked" },
      make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, evaluation.measures.map((one) => make("tr", {}, make("td", {}, make("strong", {}, one.name)),
        cell(heads[1], partName(evaluation, one), ""),
        cell(heads[2], value(one.base, one.share)), cell(heads[3], value(one.adapter, one.share)), cell(heads[4], difference(one)),
        make("td", { data: { name: heads[5] } }, make("span", { className: `tag ${TONE[one.verdict] ?? ""}` }, one.verdict_name))))))) : null,
    evaluation.figures.length ? make("div", { className: "scroll" }, make("table", { className: "stacked" },
      make("thead", {}, make("tr", {}, [heads[0], heads[2], heads[3]].map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, evaluation.figures.map((one) => make("tr", {}, make("td", {}, make("strong", {}, one.name)), cell(heads[2], one.base, ""), cell(heads[3], one.adapter, "")))))) : null,
    make("p", { className: "soft" }, t("interval_hint"))));
}

/** What people found who judged blind. */
export function gradesCard(grades) {
  const accuracy = grades.accuracy ?? {};
  const percent = (side) => (accuracy[side] ? `${number(100 * accuracy[side].mean, 0)} %` : "–");
  return make("section", { className: "card", data: { part: "grades" } }, make("h2", {}, t("graded")),
    make("p", { className: "verdict" }, grades.sentence),
    make("dl", { className: "figures" },
      accuracy.base ? figure(t("accurate"), `${percent("base")} → ${percent("adapter")}`, t("base_to_adapter")) : null,
      figure(t("preferred"), `${number(grades.wins)} : ${number(grades.losses)}`, t("ties_n", { n: number(grades.ties) })),
      figure(t("judged_questions"), number(grades.graded), t("of_n", { n: number(grades.questions) })),
      grades.agreement?.share !== undefined && grades.agreement?.share !== null ? figure(t("agreement"), `${number(100 * grades.agreement.share, 0)} %`, t("agreement_hint", { n: grades.files?.length ?? 2 })) : null),
    make("p", { className: "soft" }, (grades.files ?? []).map((file) => `${file.grader} (${file.graded})`).join(", ")));
}

/** Question by question, some at once. */
async function questions(place, at, run) {
  const rows = await get(of(at.work, "judge", "rows"), { run }, at.signal);
  const list = make("div", { className: "stack", "aria-live": "polite" });
  const where = make("span", { className: "soft" });
  const only = make("select", { id: "only", "aria-label": t("show_which"), onchange: () => turn(0) },
    ["all", "new", "reworded"].map((key) => make("option", { value: key }, t(`only_${key}`))));
  let first = 0;
  const turn = (to) => {
    const shown = rows.filter((row) => only.value === "all" || Boolean(row.answer_learned) === (only.value === "reworded"));
    first = Math.min(Math.max(0, to), Math.max(0, shown.length - 1));
    where.textContent = shown.length ? t("from_to", { a: first + 1, b: Math.min(first + PAGE, shown.length), n: shown.length }) : t("none_such");
    back.disabled = first === 0;
    on.disabled = first + PAGE >= shown.length;
    fill(list, shown.slice(first, first + PAGE).map((row) => make("article", { className: "pair" },
      make("h3", {}, row.question), make("p", { className: "soft" }, row.where),
      answerCards([["base", row.base], [t("side_adapter"), row.adapter]], { base: row.ended?.base, [t("side_adapter")]: row.ended?.adapter }),
      make("details", {}, make("summary", { className: "soft" }, t("reference")), make("p", { className: "answer" }, row.reference)))));
  };
  const back = make("button", { type: "button", onclick: () => turn(first - PAGE) }, t("back"));
  const on = make("button", { type: "button", onclick: () => turn(first + PAGE) }, t("on"));
  turn(0);
  place.append(make("section", { className: "card" }, make("div", { className: "row" }, make("h2", { className: "grow" }, t("questions")), only),
    list, make("div", { className: "row" }, back, where, on)));
}
