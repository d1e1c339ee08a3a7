// SPDX-License-Identifier: Apache-2.0
// Blind grading: sheets, those who judge, and what they found. Judging itself is in `grading.js`.

import { get, of, post, upload } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { jobCard } from "/assets/parts/jobs.js";
import { own } from "/assets/parts/own.js";
import { problemList, showProblems } from "/assets/parts/problems.js";
import { jobOf } from "/assets/steps/judge.js";
import { gradesCard } from "/assets/steps/judging/compare.js";
import { grading } from "/assets/steps/judging/grading.js";
import { number } from "/assets/words.js";

const t = own("judge");

export async function blind(place, at, found, file = "") {
  if (file) {
    await grading(place, at, found.run, file);
    return;
  }
  if (found.task !== "text" && !found.evaluation?.answers) {
    place.append(make("section", { className: "card" }, make("p", {}, t("blind_no_words"))));
    return;
  }
  const sheets = (await get(of(at.work, "judge", "sheets"), {}, at.signal));
  const below = make("div", { className: "stack" });
  const follow = (job) => fill(below, jobCard(job, { title: t("sheet_written"), signal: at.signal, ended: (now) => now.state === "done" && at.reload() }));
  const last = jobOf(at, "sheet", found.run);
  if (last && last.state !== "done") follow(last);
  const write = button(t(sheets.length ? "another_sheet" : "write_sheet"), async () => follow(await post(of(at.work, "judge", "sheets"), { run: found.run })), { primary: !sheets.length });
  place.append(
    make("section", { className: "card" }, make("h2", {}, t("blind_title")), make("p", {}, t("blind_why")), make("p", { className: "soft" }, t("blind_rules")),
      make("div", { className: "row" }, write, make("span", { className: "soft" }, t("compare_takes")))),
    below);
  const empty = sheets.filter((one) => !one.problems && !one.brought && !one.grader);
  if (empty.length) place.append(begin(at, found, empty));
  const filled = sheets.filter((one) => one.problems || one.brought || one.grader || one.judged);
  const result = make("div", { className: "stack" }, found.grades?.sentence ? gradesCard(found.grades) : null);
  if (filled.length) place.append(begun(at, found, filled, result));
  place.append(result, bring(at));
}

const address = (at, run, path) => `#/judge/${encodeURIComponent(at.work)}/blind/${encodeURIComponent(run.split("/").pop())}/${path.split("/").map(encodeURIComponent).join("/")}`;
const taken = (at, path) => `${of(at.work, "download")}?${new URLSearchParams({ path })}`;

/** Somebody begins to judge, here or in a spreadsheet program. */
function begin(at, found, empty) {
  const name = make("input", { id: "grader", maxLength: 100, autocomplete: "name" });
  const sheet = make("select", { id: "sheet" }, empty.map((one, index) => make("option", { value: one.path, selected: index === empty.length - 1 }, t("sheet_of", { name: one.path.split("/").pop(), n: number(one.count) }))));
  const go = button(t("begin_judging"), async () => {
    const made = await post(of(at.work, "judge", "graders"), { sheet: sheet.value, name: name.value });
    location.hash = address(at, found.run, made.path);
  }, { primary: true });
  const take = make("a", { className: "press", href: taken(at, sheet.value), download: "" }, t("take_sheet"));
  sheet.addEventListener("change", () => (take.href = taken(at, sheet.value)));
  name.addEventListener("keydown", (event) => event.key === "Enter" && go.click());
  return make("section", { className: "card" }, make("h2", {}, t("who_judges")),
    empty.length > 1 ? make("div", { className: "field" }, make("label", { htmlFor: "sheet" }, t("which_sheet")), sheet) : null,
    make("div", { className: "field" }, make("label", { htmlFor: "grader" }, t("your_name")), name, make("p", { className: "soft" }, t("name_hint"))),
    make("div", { className: "row" }, go, take));
}

/** The sheets that are being judged, and counting them. */
function begun(at, found, filled, result) {
  const boxes = [];
  const items = filled.map((one, index) => {
    const title = one.grader || one.path.split("/").pop();
    const box = make("input", { type: "checkbox", id: `count-${index}`, checked: !one.problems && one.judged > 0, disabled: Boolean(one.problems), value: one.path });
    boxes.push(box);
    return make("li", { className: "pair", data: { sheet: one.path } }, make("div", { className: "row" }, box, make("label", { htmlFor: box.id, className: "grow" }, title),
      one.problems ? null : make("span", { className: one.judged === one.count ? "tag good" : "tag" }, t("judged_of", { n: number(one.judged), all: number(one.count) })),
      one.brought ? make("span", { className: "tag" }, t("brought")) : null,
      one.problems || one.brought ? null : make("a", { className: "press", href: address(at, found.run, one.path), "aria-label": t("go_on_of", { name: title }) }, t(one.judged === one.count ? "look" : "go_on")),
      make("a", { className: "press quiet", href: taken(at, one.path), download: "", "aria-label": t("take_of", { name: title }) }, t("take"))),
    one.problems ? problemList(one.problems) : make("progress", { max: one.count, value: one.judged, "aria-label": t("judged_of", { n: one.judged, all: one.count }) }));
  });
  const count = button(t("count"), async () => {
    const files = boxes.filter((box) => box.checked).map((box) => box.value);
    const grades = await post(of(at.work, "judge", "grade"), { run: found.run, files });
    told(grades.command);
    fill(result, gradesCard(grades));
    result.scrollIntoView({ block: "nearest" });
  }, { primary: true });
  return make("section", { className: "card" }, make("h2", {}, t("sheets")), make("ul", { className: "stack" }, items),
    make("div", { className: "row" }, count, make("span", { className: "soft" }, t("count_hint"))));
}

/** A sheet that somebody filled in elsewhere. */
function bring(at) {
  const chosen = make("input", { type: "file", accept: ".xlsx", id: "filled", multiple: true });
  chosen.addEventListener("change", async () => {
    try {
      for (const file of chosen.files) await upload(at.work, `review/${file.name}`, file);
      at.reload();
    } catch (error) {
      showProblems(error);
    }
  });
  return make("details", { className: "card" }, make("summary", {}, t("bring_sheet")), make("div", { className: "within" },
    make("p", {}, t("bring_sheet_hint")), make("label", { htmlFor: "filled" }, t("filled_sheets")), chosen));
}
