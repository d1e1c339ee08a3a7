// SPDX-License-Identifier: Apache-2.0
// One question after the other: both answers, without names, and the keys 1-3 and 4-6, a, b and =. Each verdict stands in the workbook at once.

import { get, of, put } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { own } from "/assets/parts/own.js";
import { showProblems } from "/assets/parts/problems.js";
import { number } from "/assets/words.js";

const t = own("judge");

const OK = ["yes", "partly", "no"];
const BETTER = ["A", "B", "same"];
const KEYS = { 1: ["a_ok", "yes"], 2: ["a_ok", "partly"], 3: ["a_ok", "no"], 4: ["b_ok", "yes"], 5: ["b_ok", "partly"], 6: ["b_ok", "no"], a: ["better", "A"], b: ["better", "B"], "=": ["better", "same"], 0: ["better", "same"] };
const SHOWN = { a_ok: ["1", "2", "3"], b_ok: ["4", "5", "6"], better: ["a", "b", "="] };

export async function grading(place, at, run, file) {
  const sheet = await get(of(at.work, "judge", "sheet"), { file }, at.signal);
  const { rows } = sheet;
  const key = `place:${at.work}:${file}`;
  const whole = (row) => (row.equal ? Boolean(row.a_ok || row.b_ok) : Boolean(row.a_ok && row.b_ok));
  const open = rows.findIndex((row) => !whole(row) || (!row.equal && !row.better));
  const kept = Number(sessionStorage.getItem(key) ?? Number.NaN);
  let index = kept >= 0 && kept < rows.length ? kept : Math.max(0, open);
  let waiting = 0;
  let saving = Promise.resolve(); // one verdict after the other, in the order of the keys
  const card = make("section", { className: "card blind", tabIndex: -1 });
  const state = make("span", { className: "soft", role: "status" });
  const progress = make("progress", { max: rows.length, "aria-label": t("progress") });

  const set = (row, values) => {
    Object.assign(row, values);
    state.textContent = t("saving");
    waiting += 1;
    saving = saving.then(async () => {
      try {
        await put(of(at.work, "judge", "sheet"), { file, row: row.row, values }); // without `at.signal`: it is kept though the page is left
        waiting -= 1;
        if (!waiting) state.textContent = t("saved");
      } catch (error) {
        waiting -= 1;
        state.textContent = t("not_saved");
        showProblems(error);
      }
    });
    marks();
  };
  const press = (name, value) => {
    const row = rows[index];
    const next = row[name] === value ? "" : value;
    set(row, row.equal && name !== "better" ? { a_ok: next, b_ok: next } : { [name]: next });
    announce(next ? `${t(name)}: ${t(next === "same" ? "same" : `verdict_${next}`)}` : t("taken_back"));
  };
  const go = (to) => {
    index = Math.min(Math.max(0, to), rows.length - 1);
    sessionStorage.setItem(key, String(index));
    draw();
  };
  const choice = (name, values) => make("fieldset", { className: "choices", data: { name } }, make("legend", {}, t(name)),
    values.map((value, at_) => make("button", { type: "button", data: { value }, onclick: () => press(name, value) },
      t(value === "same" ? "same" : `verdict_${value}`), make("kbd", { "aria-hidden": "true" }, SHOWN[name][at_]))));
  const marks = () => {
    const row = rows[index];
    for (const field of card.querySelectorAll("fieldset[data-name]")) {
      for (const one of field.querySelectorAll("button")) one.setAttribute("aria-pressed", String(row[field.dataset.name] === one.dataset.value));
    }
    progress.value = rows.filter(whole).length;
    place.querySelector("#judged").textContent = t("judged_of", { n: number(progress.value), all: number(rows.length) });
  };
  const answer = (letter, text, name) => make("div", { className: "answer" }, make("h3", {}, t(`answer_${letter}`)),
    make("div", { className: "texts", tabIndex: 0, role: "group", "aria-label": t(`answer_${letter}`) }, text), choice(name, OK));
  const draw = () => {
    const row = rows[index];
    const remark = make("textarea", { id: "remark", rows: 2, maxLength: 30000, value: row.remarks });
    remark.addEventListener("change", () => set(row, { remarks: remark.value }));
    fill(card,
      make("div", { className: "row" }, make("h2", { className: "grow" }, t("question_of", { n: number(index + 1), all: number(rows.length) })), state),
      make("p", { className: "question" }, row.question),
      make("details", { open: true }, make("summary", { className: "soft" }, t("reference")), make("p", { className: "texts", tabIndex: 0 }, row.reference)),
      row.equal ? make("p", { className: "soft" }, t("equal_answers")) : null,
      make("div", { className: "columns" }, answer("a", row.a, "a_ok"), answer("b", row.b, "b_ok")),
      row.equal ? null : choice("better", BETTER),
      make("div", { className: "field" }, make("label", { htmlFor: "remark" }, t("remarks")), remark),
      make("div", { className: "row" }, button(t("back"), () => go(index - 1), {}), button(t("on"), () => go(index + 1), { primary: true }),
        button(t("next_open"), () => go(nextOpen()), { quiet: true })));
    marks();
  };
  const nextOpen = () => {
    const after = rows.findIndex((row, number_) => number_ > index && !whole(row));
    const first = after >= 0 ? after : rows.findIndex((row) => !whole(row));
    return first >= 0 ? first : index;
  };
  const typed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || document.querySelector("dialog[open]")) return;
    if (event.key === "ArrowRight" || (event.key === "Enter" && event.target.tagName !== "BUTTON" && event.target.tagName !== "A")) go(index + 1);
    else if (event.key === "ArrowLeft") go(index - 1);
    else if (KEYS[event.key.toLowerCase()]) {
      const [name, value] = KEYS[event.key.toLowerCase()];
      if (name === "better" && rows[index].equal) return;
      press(name, value);
    } else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", typed, { signal: at.signal });
  place.append(
    make("div", { className: "row" }, make("a", { className: "press", href: `#/judge/${encodeURIComponent(at.work)}/blind/${encodeURIComponent(run.split("/").pop())}` }, t("to_sheets")),
      make("strong", {}, sheet.grader), make("span", { className: "soft", id: "judged" })),
    progress, card, make("p", { className: "soft" }, t("keys_hint")));
  draw();
}
