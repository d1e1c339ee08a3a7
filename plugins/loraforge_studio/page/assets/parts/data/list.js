// SPDX-License-Identifier: Apache-2.0
// All rows or pictures with what was found in them; filters above, and what is chosen opens in an editor.

import { get, of } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { openEditor } from "/assets/parts/data/editor.js";
import { tile } from "/assets/parts/data/lesson.js";
import { findingsOf, worst } from "/assets/parts/data/store.js";
import { problemList, showProblems } from "/assets/parts/problems.js";
import { virtual } from "/assets/parts/virtual.js";
import { number, t } from "/assets/words.js";

const QUICK = 20; // seconds of a check that is asked again by itself after a change

/** The list with its filters. */
export function rowList(at, rows, image) {
  const state = { rows: null, filter: { kind: "all" }, found: { by: new Map(), checks: new Map() }, checked: null, words: "" };
  const chips = make("div", { className: "chips", role: "group", "aria-label": t("filters") });
  const status = make("div", { className: "row", role: "status" });
  const trouble = make("div", {});
  const place = make("div", {});
  const search = make("input", { type: "search", placeholder: t("search_rows"), "aria-label": t("search_rows"), className: "grow" });
  const count = make("span", { className: "soft" });
  const all = make("div", { className: "row" });
  let list = null;

  const total = () => (state.rows ? state.rows.length : rows.total);
  const draw = (index, chosen) => {
    const row = chosen ? chosen[index] : index;
    const element = make("div", { className: image ? "cell" : "line", data: { row } });
    rows.get(row).then((cells) => cells && drawRow(element, at, row, cells, state.found.by.get(row), image, () => open(index, chosen))).catch(showProblems);
    return element;
  };
  const lay = () => {
    const chosen = state.rows; // a list that is on its way out must not draw another one's rows
    count.textContent = t("shown_of", { n: number(total()), all: number(rows.total) });
    if (!total()) {
      list = null;
      fill(all);
      fill(place, make("p", { className: "card soft" }, t("nothing_here")));
      return;
    }
    list = virtual({ count: total(), height: image ? 216 : 118, width: image ? 168 : 0, draw: (index) => draw(index, chosen), label: t(image ? "figure_pictures" : "figure_rows") });
    fill(place, list.element);
    fill(all, state.rows && !image ? button(t("approve_all", { n: total() }), () => decide("yes"), { quiet: true }) : null);
  };
  const redraw = (row) => {
    const element = place.querySelector(`[data-row="${row}"]`);
    const index = Number(element?.getAttribute("aria-posinset")) - 1;
    const chosen = state.rows;
    if (element) rows.get(row).then((cells) => drawRow(element, at, row, cells, state.found.by.get(row), image, () => open(index, chosen)));
  };
  const choose = async (filter) => {
    state.filter = filter;
    const { kind } = filter;
    let chosen = null;
    if (kind === "check") chosen = [...(state.found.checks.get(filter.check)?.rows ?? [])].sort((a, b) => a - b);
    if (kind === "found") chosen = [...state.found.by.keys()].filter((row) => worst(state.found.by.get(row))).sort((a, b) => a - b);
    if (kind === "state" || state.words) {
      const there = (await get(of(at.work, "where"), { q: state.words, state: kind === "state" ? filter.state : "" }, at.signal)).rows;
      const both = chosen && new Set(chosen);
      chosen = both ? there.filter((row) => both.has(row)) : there;
    }
    state.rows = chosen;
    drawChips();
    lay();
    announce(count.textContent);
  };
  const drawChips = () => {
    const chip = (filter, text, n, className = "") => {
      const on = JSON.stringify(filter) === JSON.stringify(state.filter);
      const made = button(text, () => choose(filter));
      made.append(make("span", { className: `tag ${className}` }, number(n)));
      made.setAttribute("aria-pressed", String(on));
      made.classList.add("chip");
      return made;
    };
    const counts = rows.counts;
    const checks = new Map(state.found.checks);
    const { check: looked } = state.filter;
    if (looked && !checks.has(looked)) checks.set(looked, { severity: "hint", rows: new Set() }); // all of it was mended
    const withFindings = [...state.found.by.values()].filter(worst).length;
    fill(chips, chip({ kind: "all" }, t("all_rows"), rows.total),
      withFindings ? chip({ kind: "found" }, t("figure_findings"), withFindings, "doubt") : null,
      [...checks].map(([check, one]) => chip({ kind: "check", check }, checkName(check), one.rows.size, tagOf(one.severity))),
      image && counts.bare ? chip({ kind: "state", state: "bare" }, t("state_bare"), counts.bare) : null,
      image && counts.out ? chip({ kind: "state", state: "out" }, t("state_out"), counts.out) : null,
      ["open", "approved", "rejected"].filter((one) => one === "open" || counts[one]).map((one) =>
        chip({ kind: "state", state: one }, t(`state_${one}`), counts[one], one === "approved" ? "good" : one === "rejected" ? "wrong" : "")));
  };
  const decide = async (approved) => {
    const reviewer = localStorage.getItem("reviewer") || prompt(t("reviewer")) || "";
    if (!reviewer.trim() || !confirm(t("approve_all_sure", { n: total() }))) return;
    localStorage.setItem("reviewer", reviewer.trim());
    await rows.changeAll(state.rows, { approved, reviewer: reviewer.trim() });
    await changed();
    await choose(state.filter);
  };
  /** The editor goes through the list in which it was opened, whatever is chosen meanwhile. */
  const open = (index, chosen) => openEditor({
    at, rows, image, state, index, check,
    total: () => (chosen ? chosen.length : rows.total),
    rowAt: (place_) => (chosen ? chosen[place_] : place_),
    changed: async (row) => {
      redraw(row);
      await changed();
    },
    closed: (last) => {
      const row = chosen ? chosen[last] : last;
      if (list && state.rows === chosen) {
        if (!place.querySelector(`[data-row="${row}"]`)) list.reveal(last);
        setTimeout(() => place.querySelector(`[data-row="${row}"] .open-row`)?.focus(), 50);
      }
      if (state.filter.kind !== "all") choose(state.filter).catch(showProblems);
    },
  });

  let timer = 0;
  const changed = async () => {
    drawChips();
    clearTimeout(timer);
    const stale = button(t("check_again"), check);
    fill(status, make("span", { className: "doubt" }, t("stale")), stale);
    if ((state.checked?.seconds ?? 0) < QUICK) timer = setTimeout(() => check().catch(showProblems), 1500);
  };
  /** Asks check, and writes beside the rows what it says. */
  const check = async () => {
    fill(status, make("span", { className: "waiting soft" }, t("checking")));
    const found = await get(of(at.work, "check"), {}, at.signal);
    told(found.command);
    state.checked = found;
    state.found = findingsOf(found, rows.total);
    fill(trouble, found.told ? null : make("section", { className: "card bad" }, make("h2", {}, t("trouble_title")), problemList(found.problems.slice(0, 30))));
    const summary = found.told ? t("check_says", found.told.findings) : "";
    fill(status, make("span", { className: "soft" }, summary));
    drawChips();
    for (const element of place.querySelectorAll("[data-row]")) redraw(Number(element.dataset.row));
    return state.found;
  };

  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      state.words = search.value.trim();
      choose(state.filter).catch(showProblems);
    }, 250);
  });
  at.signal.addEventListener("abort", () => { clearTimeout(timer); clearTimeout(typing); });
  drawChips();
  lay();
  check().catch((error) => error.name === "AbortError" || showProblems(error));
  return make("div", { className: "stack wide" }, trouble, chips, make("div", { className: "row" }, search, count, all), status, place);
}

/** What a check is called here; its own name where there is no other. */
export function checkName(check) {
  const key = `check_${check}`;
  return t(key) === key ? check : t(key);
}

export const tagOf = (severity) => ({ error: "wrong", warning: "doubt" })[severity] ?? "";

function drawRow(element, at, row, cells, findings, image, open) {
  const open_ = (findings ?? []).filter((one) => !one.waived);
  const first = open_[0];
  const out = /^(no|n|false|0|否)$/i.test(cells.keep ?? "");
  const decided = /^(yes|true|1|是|通过)$/i.test(cells.approved ?? "") ? "approved" : /^(no|false|0|否|不通过)$/i.test(cells.approved ?? "") ? "rejected" : "";
  const tags = [
    decided ? make("span", { className: `tag ${decided === "approved" ? "good" : "wrong"}`, title: cells.reviewer ?? "" }, t(`state_${decided}`)) : null,
    out ? make("span", { className: "tag" }, t("state_out")) : null,
    ...[...new Map(open_.map((one) => [one.check, one])).values()].slice(0, 3).map((one) => make("span", { className: `tag ${tagOf(one.severity)}` }, checkName(one.check))),
  ];
  const { question, answer } = wordsOf(cells);
  element.classList.toggle("out", out || decided === "rejected");
  const named = image ? cells.file_name : `${row + 2}`;
  fill(element, make("button", { type: "button", className: "open-row", onclick: open, "aria-label": t("open_row", { name: named }) },
    image ? tile(at.work, cells.file_name, cells.text || cells.file_name) : make("span", { className: "soft at-row" }, String(row + 2)),
    make("span", { className: "texts" },
      image ? make("span", { className: "clamp" }, cells.text || t("state_bare")) : [make("strong", { className: "one-line" }, question), make("span", { className: "clamp" }, answer)],
      make("span", { className: "row tags" }, tags, first && !image ? make("span", { className: "soft one-line" }, first.message) : null))));
}

/** Question and answer of a row, also of one that holds a conversation. */
export function wordsOf(cells) {
  if (cells.messages) {
    try {
      const said = JSON.parse(cells.messages).filter((one) => one.role !== "system");
      const last = said.length - 1;
      return { question: said[last - 1]?.content ?? "", answer: said[last]?.content ?? "" };
    } catch {
      return { question: cells.messages, answer: "" };
    }
  }
  return { question: cells.instruction ?? "", answer: cells.output ?? "" };
}
