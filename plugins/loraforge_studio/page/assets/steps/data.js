// SPDX-License-Identifier: Apache-2.0
// The step "data": what check finds, beside the rows or pictures that it is about, and mending them.

import { get, of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { captionsCard } from "/assets/parts/data/captions.js";
import { lesson } from "/assets/parts/data/lesson.js";
import { rowList } from "/assets/parts/data/list.js";
import { Rows } from "/assets/parts/data/store.js";
import { styled } from "/assets/parts/data/style.js";
import { jobCard } from "/assets/parts/jobs.js";
import { problemList } from "/assets/parts/problems.js";
import { t } from "/assets/words.js";

/** Shows the step in `place`; see app.js for what `at` has. */
export async function show(place, at) {
  await styled();
  if (!at.info?.begun) {
    fill(place, make("h1", {}, t("data_title")), make("p", {}, t("go_begin")), make("p", {}, make("a", { className: "press primary", href: "#/begin" }, t("begin"))));
    return;
  }
  const below = make("div", { className: "stack wide" });
  fill(place, make("div", { className: "row" }, make("h1", { className: "grow" }, t("data_title")),
    button(t("go_choose"), () => at.go("choose")), button(t("next_step", { step: t("train") }), () => at.go("train"), { primary: true })), below);
  const table = await get(of(at.work, "table"), {}, at.signal);
  if (table.state === "ready") ready(below, at, table);
  else if (table.state === "making") making(below, at, table.job);
  else if (table.state === "failed") failed(below, at, table.job);
  else start(below, at);
}

/** Makes the table in which things are mended: at once of texts, in a job of pictures. */
function start(place, at) {
  fill(place, make("section", { className: "card" }, make("p", { className: "waiting", role: "status" }, t("making_table"))));
  post(of(at.work, "table"), {}).then(async (table) => {
    if (table.command) told(table.command);
    if (at.signal.aborted) return;
    if (table.state === "making") making(place, at, table.job);
    else {
      await at.inform();
      ready(place, at, table);
    }
  }).catch((error) => at.signal.aborted || unmended(place, at, error));
}

function making(place, at, job) {
  fill(place, make("p", {}, t("making_pictures")), jobCard(job, {
    title: t("looking_pictures"), signal: at.signal,
    ended: (end) => (end.state === "done" ? at.reload() : failed(place, at, end)),
  }));
}

function failed(place, at, job) {
  fill(place, jobCard(job, { title: t("no_table"), signal: at.signal }), make("div", { className: "row" }, button(t("try_again"), () => start(place, at), { primary: true })));
}

/** The data can be shown, but not be mended here. */
async function unmended(place, at, error) {
  const checked = await get(of(at.work, "check"), {}, at.signal).catch(() => null);
  if (checked) told(checked.command);
  const found = checked?.told?.found ?? [];
  fill(place,
    make("section", { className: "card bad" }, make("h2", {}, t("no_table")), problemList(error.problems ?? [String(error)]),
      make("div", { className: "row" }, make("a", { className: "press", href: `#/begin/${encodeURIComponent(at.work)}` }, t("back_to_begin")),
        button(t("try_again"), () => start(place, at)))),
    found.length ? make("section", { className: "card" }, make("h2", {}, t("figure_findings")), make("ul", { className: "notes" },
      found.slice(0, 200).map((one) => make("li", {}, `${one.where[0]}: ${one.message}`)))) : null,
    checked?.told?.rows ? make("section", { className: "card" }, make("ol", { className: "lessons" }, checked.told.rows.map(lesson))) : null);
}

function ready(place, at, table) {
  const rows = new Rows(at.work, table, at.signal);
  const image = at.info.task === "image";
  fill(place, make("p", { className: "soft" }, t("table_hint", { path: table.path })),
    rowList(at, rows, image), image ? captionsCard(at, rows) : null);
}
