// SPDX-License-Identifier: Apache-2.0
// What was found in the data that somebody brought.

import { get, of, put } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { columnsForm } from "/assets/parts/data/columns.js";
import { lesson, tile } from "/assets/parts/data/lesson.js";
import { problemList } from "/assets/parts/problems.js";
import { duration, number, t } from "/assets/words.js";

const SHEET = 24; // pictures that are shown at once

/** Draws the account into `place`. */
export async function account(place, at) {
  const image = at.info.task === "image";
  const brought = await get(of(at.work, "brought"), {}, at.signal);
  const waiting = make("section", { className: "card" }, make("p", { className: "waiting" }, t(image ? "looking_pictures" : "looking_texts")));
  const result = make("div", { className: "stack wide" }, waiting);
  const sheet = make("div", {});
  fill(place, result, sheet);
  if (image) await contactSheet(sheet, at);
  const look = async () => {
    fill(result, waiting);
    const found = await get(of(at.work, "check"), {}, at.signal);
    told(found.command);
    const values = (await get(of(at.work, "brought"), {}, at.signal)).values;
    fill(result, found.told ? summary(found.told, at, image) : trouble(found.problems, at, values, again),
      image ? trigger(at, values, again) : await columnsCard(at, values, brought.table, !found.told, found.problems, again),
      found.told ? rows(found.told, image) : null);
    announce(found.told ? t("found_title") : found.problems.join(" "));
  };
  const again = async () => {
    await at.inform();
    await look();
  };
  look().catch((error) => {
    if (error.name !== "AbortError") fill(result, make("section", { className: "card bad" }, problemList(error.problems ?? [String(error)])));
  });
}

function summary(found, at, image) {
  const figure = (name, value, hint) => make("div", {}, make("dt", {}, name), make("dd", {}, value), hint ? make("p", { className: "soft" }, hint) : null);
  const counts = found.findings;
  const open = counts.error + counts.warning + counts.hint;
  return make("section", { className: `card ${counts.error ? "note" : "fine"} found`, "aria-label": t("found_title") },
    make("dl", { className: "figures" },
      figure(t(image ? "figure_pictures" : "figure_rows"), number(found.pictures ?? found.examples + found.held_out + found.set_aside)),
      figure(t("figure_learned"), number(found.examples)),
      figure(t("figure_held"), number(found.held_out), t("figure_held_hint")),
      figure(t("figure_findings"), number(open), open ? t("figure_findings_hint", counts) : t("figure_none_hint")),
      found.fit?.seconds ? figure(t("figure_time"), duration(found.fit.seconds)) : null),
    found.notes.length ? make("details", { open: found.notes.length <= 6 }, make("summary", {}, t("notes_title")),
      make("ul", { className: "notes" }, found.notes.map((line) => make("li", {}, line)))) : null);
}

/** What is in the way, and what can be done about it here. */
function trouble(problems, at, values, again) {
  const skip = problems.some((line) => line.includes("on_bad_row")) && values.on_bad_row !== "skip";
  return make("section", { className: "card bad trouble" }, make("h2", {}, t("trouble_title")), problemList(problems),
    make("p", { className: "soft" }, t("trouble_hint")),
    make("div", { className: "row" },
      skip ? button(t("leave_out"), async () => {
        await put(of(at.work, "config"), { values: { on_bad_row: "skip" } });
        await again();
      }, { primary: true }) : null,
      button(t("look_again"), again)));
}

async function columnsCard(at, values, table, open, problems, again) {
  if (table) return null;
  const given = values.columns && typeof values.columns === "object" ? values.columns : {};
  const inside = make("div", { className: "within" });
  const card = make("details", { className: "card columns-card" }, make("summary", {}, t("columns_title")), inside);
  const draw = async () => {
    if (inside.childElementCount) return;
    fill(inside, make("p", { className: "soft" }, t("loading")));
    try {
      fill(inside, await columnsForm(at, given, again));
    } catch (error) {
      fill(inside, problemList(error.problems ?? [String(error)]));
    }
  };
  card.addEventListener("toggle", () => card.open && draw());
  card.open = open && problems.some((line) => line.includes("columns"));
  return card;
}

/** The word that calls a style. */
function trigger(at, values, again) {
  const field = make("input", { id: "trigger", value: values.trigger_word ?? "", maxLength: 200, autocomplete: "off" });
  const save = async () => {
    const word = field.value.trim();
    if (word === (values.trigger_word ?? "")) return;
    await put(of(at.work, "config"), { values: { trigger_word: word || null } });
    await again();
  };
  return make("section", { className: "card" },
    make("div", { className: "field" }, make("label", { htmlFor: "trigger" }, t("trigger")), make("p", { className: "soft", id: "trigger-hint" }, t("trigger_hint")),
      make("div", { className: "row" }, field, button(t("save"), save))));
}

function rows(found, image) {
  if (!found.rows?.length) return null;
  return make("section", { className: "card" }, make("h2", {}, t(image ? "captions_title" : "rows_title")),
    make("p", { className: "soft" }, t(image ? "captions_hint" : "rows_hint")),
    make("ol", { className: "lessons" }, found.rows.slice(0, 6).map(lesson)));
}

async function contactSheet(place, at) {
  const found = await get(of(at.work, "pictures"), {}, at.signal);
  if (!found.total) return;
  const list = make("ul", { className: "sheet" });
  const more = button(t("more_pictures"), () => add());
  let shown = 0;
  const add = () => {
    const next = found.files.slice(shown, shown + SHEET);
    list.append(...next.map((file) => make("li", {}, tile(at.work, file), make("span", { className: "soft one-line", title: file }, file))));
    shown += next.length;
    more.hidden = shown >= found.files.length;
  };
  add();
  fill(place, make("section", { className: "card" }, make("h2", {}, t("sheet_title", { n: number(found.total) })), list, make("div", { className: "row" }, more)));
}
