// SPDX-License-Identifier: Apache-2.0
// One row or picture: what was found in it, its texts to be mended, and what a reviewer decides.

import { announce, button, fill, make } from "/assets/dom.js";
import { checkName, tagOf, wordsOf } from "/assets/parts/data/list.js";
import { thumbOf } from "/assets/parts/data/lesson.js";
import { openMask } from "/assets/parts/data/mask.js";
import { problemList } from "/assets/parts/problems.js";
import { number, t } from "/assets/words.js";

const OUT = /^(no|n|false|0|否)$/i;
const LONG = ["output", "text"];

/** Opens the editor at a place of the list. `about`: at, rows, image, state, index, total(), rowAt(index), check(), changed(row), closed(index). */
export async function openEditor(about) {
  const { at, rows, image, total, rowAt } = about;
  const title = make("h2", { className: "grow", id: "editor-title", tabIndex: -1 });
  const body = make("div", { className: "stack wide" });
  const told = make("div", { role: "alert" });
  const said = make("span", { className: "good", role: "status" });
  const dialog = make("dialog", { className: "editor", "aria-labelledby": "editor-title" });
  let index = about.index;
  let now = null; // {row, cells, fields, waived}

  const values = () => {
    const changed = {};
    for (const field of now.fields) if (field.changed() !== undefined) changed[field.name] = field.changed();
    return changed;
  };
  const save = async (more = {}) => {
    const wanted = { ...values(), ...more };
    for (const [name, value] of Object.entries(wanted)) if (value === (now.cells[name] ?? "")) delete wanted[name];
    if (!Object.keys(wanted).length) return true;
    try {
      now.cells = await rows.change(now.row, now.cells, wanted);
    } catch (error) {
      await refused(error);
      return false;
    }
    for (const field of now.fields) field.reset(now.cells);
    fill(told);
    said.textContent = t("saved");
    announce(t("saved"));
    setTimeout(() => (said.textContent = ""), 2500);
    about.changed(now.row);
    return true;
  };
  /** Somebody else was quicker: what they wrote is shown, and what was typed here stays. */
  const refused = async (error) => {
    const parts = [problemList(error.problems ?? [String(error)])];
    if (error.status === 409) {
      const typed = values();
      now.cells = await rows.again(now.row);
      for (const name of Object.keys(typed)) {
        parts.push(make("details", { open: true }, make("summary", {}, t("as_it_is", { name: labelOf(name) })), make("p", { className: "as-it-is" }, now.cells[name] || "–")));
      }
      parts.push(make("p", { className: "soft" }, t("save_again_hint")));
    }
    fill(told, make("section", { className: "card bad" }, parts));
    told.scrollIntoView({ block: "nearest" });
  };
  const go = async (step) => {
    if (!(await save())) return;
    const next = index + step;
    if (next < 0 || next >= total()) return;
    index = next;
    await draw();
  };
  const decide = async (approved) => {
    const reviewer = reviewerField.value.trim();
    if (!reviewer) {
      fill(told, make("section", { className: "card note" }, t("reviewer_missing")));
      reviewerField.focus();
      return;
    }
    localStorage.setItem("reviewer", reviewer);
    if (!(await save({ approved, reviewer: approved ? reviewer : "" }))) return;
    if (approved && index + 1 < total()) await go(1);
    else await draw();
  };
  const reviewerField = make("input", { id: "reviewer", value: localStorage.getItem("reviewer") ?? "", maxLength: 80, autocomplete: "name" });
  const previous = button("‹", () => go(-1), { quiet: true });
  const next = button("›", () => go(1), { quiet: true });
  previous.setAttribute("aria-label", t("previous_row"));
  next.setAttribute("aria-label", t("next_row"));
  const approve = button(t("approve"), () => decide("yes"));
  const reject = button(t("reject"), () => decide("no"));
  const undecide = button(t("undecide"), () => decide(""), { quiet: true });

  const draw = async () => {
    fill(told);
    const row = rowAt(index);
    now = { row, cells: await rows.get(row), fields: [] };
    title.textContent = image ? now.cells.file_name : t("row_of", { n: row + 2 });
    const fields = image ? pictureFields(now.cells) : textFields(now.cells);
    now.fields = fields;
    const found = about.state.found.by.get(row) ?? [];
    const findings = findingList(found, now, save, about);
    const form = make("div", { className: "stack wide form" }, fields.map((field) => field.element));
    const left = image ? picture(at, now, save, draw) : form;
    const right = image ? make("div", { className: "stack wide" }, form, findings) : findings;
    fill(body, right ? make("div", { className: "beside" }, left, right) : left);
    previous.disabled = index <= 0;
    next.disabled = index + 1 >= total();
    const decided = (now.cells.approved ?? "").trim();
    approve.setAttribute("aria-pressed", String(/^(yes|true|1|是|通过)$/i.test(decided)));
    reject.setAttribute("aria-pressed", String(/^(no|false|0|否|不通过)$/i.test(decided)));
    undecide.hidden = !decided;
  };

  fill(dialog,
    make("div", { className: "row head" }, title, previous, make("span", { className: "soft" }, ""), next, button(t("close"), () => finish(), { quiet: true })),
    told, body,
    make("div", { className: "row foot" },
      make("div", { className: "row" }, make("label", { htmlFor: "reviewer" }, t("reviewer")), reviewerField), approve, reject, undecide,
      make("span", { className: "grow" }), said, button(t("save"), () => save(), { primary: true })));
  const finish = async () => {
    if (await save()) dialog.close();
    else return;
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      go(1);
    }
  });
  dialog.addEventListener("cancel", (event) => {
    if (!Object.keys(values()).length) return;
    event.preventDefault(); // what was typed is not lost by one key
    finish();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    about.closed(index);
  });
  // A reload asks first; a step that is left by going back saves what was typed.
  addEventListener("beforeunload", (event) => dialog.open && now && Object.keys(values()).length && event.preventDefault(), { signal: at.signal });
  at.signal.addEventListener("abort", () => {
    if (dialog.open && now) save();
    dialog.remove();
  }, { once: true });
  document.body.append(dialog);
  await draw();
  dialog.showModal();
  title.focus();
}

const labelOf = (name) => (t(`cell_${name}`) === `cell_${name}` ? name : t(`cell_${name}`));

// A field is {name, element, changed() - its new value, undefined if nobody has changed it -, reset(cells) once it is saved}.

function area(name, value, label, rows) {
  const text = make("textarea", { id: `cell-${name}`, value, rows });
  let initial = text.value; // as the browser holds it
  return {
    name,
    changed: () => (text.value === initial ? undefined : text.value),
    reset: () => (initial = text.value),
    element: make("div", { className: "field" }, make("label", { htmlFor: text.id }, label), text),
  };
}

function textFields(cells) {
  if (cells.messages) return [conversation(cells.messages)];
  return ["system", "instruction", "input", "output"].filter((name) => cells[name] !== undefined && (cells[name] || name === "instruction" || name === "output"))
    .map((name) => area(name, cells[name], labelOf(name), LONG.includes(name) ? 7 : 3));
}

/** A conversation: each turn a text of its own. */
function conversation(written) {
  let said;
  try {
    said = JSON.parse(written);
  } catch {
    return area("messages", written, labelOf("messages"), 10);
  }
  const turns = said.map((one, place) => area(`turn-${place}`, typeof one.content === "string" ? one.content : "", labelOf(one.role), one.role === "assistant" ? 6 : 3));
  return {
    name: "messages",
    changed: () => (turns.some((one) => one.changed() !== undefined)
      ? JSON.stringify(said.map((one, place) => (turns[place].changed() === undefined ? one : { ...one, content: turns[place].changed() }))) : undefined),
    reset: (cells) => {
      said = JSON.parse(cells.messages);
      for (const one of turns) one.reset();
    },
    element: make("div", { className: "stack wide" }, turns.map((one) => one.element)),
  };
}

function pictureFields(cells) {
  const keep = make("input", { type: "checkbox", id: "cell-keep", checked: !OUT.test(cells.keep ?? "") });
  let was = keep.checked;
  return [area("text", cells.text ?? "", labelOf("text"), 5), {
    name: "keep",
    changed: () => (keep.checked === was ? undefined : keep.checked ? "yes" : "no"),
    reset: (fresh) => (keep.checked = was = !OUT.test(fresh.keep ?? "")),
    element: make("div", { className: "stack" }, make("label", { className: "row", htmlFor: "cell-keep" }, keep, labelOf("keep")), cells.why ? make("p", { className: "soft" }, cells.why) : null),
  }];
}

function picture(at, now, save, draw) {
  const image = make("img", { src: thumbOf(at.work, now.cells.file_name, 1024), alt: now.cells.text || now.cells.file_name });
  image.addEventListener("error", () => image.replaceWith(make("p", { className: "soft" }, t("no_preview"))));
  const box = make("div", { className: "large-picture" }, image);
  return make("div", { className: "stack" }, box, make("div", { className: "row" },
    button(now.cells.mask ? t("mask_again") : t("mask_paint"), () => openMask({ at, row: now.row, cells: now.cells, box, saved: async (mask) => (await save({ mask })) && draw() }), { quiet: true }),
    now.cells.mask ? button(t("mask_none"), async () => (await save({ mask: "" })) && draw(), { quiet: true }) : null));
}

/** What was found in this row, each with a way to let it stay; rows that are like it stand beside it. */
function findingList(found, now, save, about) {
  if (!found.length) return null;
  const waived = () => (now.cells.waive ?? "").split(/[\s,，、;；]+/).filter(Boolean);
  const one = (finding) => {
    const may = make("input", { type: "checkbox", checked: Boolean(finding.waived) || waived().includes(finding.check) });
    may.addEventListener("change", async () => {
      const names = new Set(waived());
      if (may.checked) names.add(finding.check);
      else names.delete(finding.check);
      if (!(await save({ waive: [...names].join(", ") }))) may.checked = !may.checked;
    });
    const others = finding.rows.filter((row) => row !== now.row).slice(0, 6);
    return make("li", { className: "finding", data: { severity: finding.severity } },
      make("div", { className: "row" }, make("span", { className: `tag ${tagOf(finding.severity)}` }, checkName(finding.check)),
        finding.check === "unreadable" ? null : make("label", { className: "row may-stay" }, may, t("may_stay"))),
      make("p", {}, finding.rows.length && finding.rows[0] !== now.row ? make("strong", {}, `${t("about_row", { n: finding.rows[0] + 2 })} `) : null, finding.message), finding.excerpt ? make("p", { className: "soft" }, `«${finding.excerpt}»`) : null,
      others.length ? beside(others, now, about) : null);
  };
  return make("ul", { className: "findings", "aria-label": t("figure_findings") }, found.map(one));
}

/** Rows that a finding names beside this one, side by side with it. */
function beside(others, now, about) {
  const { at, rows, image } = about;
  const place = make("div", { className: "twins" });
  const side = (row, cells, mine) => {
    const { question, answer } = wordsOf(cells);
    const out = image ? OUT.test(cells.keep ?? "") : /^(no|false|0|否|不通过)$/i.test(cells.approved ?? "");
    const act = async () => {
      const reviewer = localStorage.getItem("reviewer") || "";
      const values = image ? { keep: out ? "yes" : "no" } : { approved: out ? "" : "no", ...(reviewer && !out ? { reviewer } : {}) };
      const fresh = await rows.change(row, cells, values);
      if (mine) {
        now.cells = fresh;
        for (const field of now.fields) if (field.name === "keep") field.reset(fresh);
      }
      about.changed(row);
      fill(element, ...side(row, fresh, mine).childNodes);
      element.classList.toggle("out", !out);
    };
    const element = make("div", { className: `twin ${out ? "out" : ""}` },
      make("strong", {}, mine ? t("this_one") : image ? cells.file_name : t("row_of", { n: row + 2 })),
      image ? make("img", { src: thumbOf(at.work, cells.file_name, 256), alt: cells.file_name }) : make("p", { className: "clamp" }, question),
      make("p", { className: "soft clamp" }, image ? cells.text : answer),
      button(out ? t("take_in") : t("leave_one_out"), act));
    return element;
  };
  Promise.all(others.map((row) => rows.get(row))).then((cells) => fill(place, side(now.row, now.cells, true), cells.map((one, number_) => one && side(others[number_], one, false))));
  return make("details", { open: true }, make("summary", {}, t("side_by_side", { n: number(others.length + 1) })), place);
}
