// SPDX-License-Identifier: Apache-2.0
// The shelf: all adapters that there are, where each comes from, two beside each other, and going on from one.

import { fileOf, get, post } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { own } from "/assets/parts/own.js";
import { sideBySide } from "/assets/steps/shelving/compare.js";
import { details } from "/assets/steps/shelving/details.js";
import { bytes, number } from "/assets/words.js";

const t = own("shelf");
const TONE = { better: "good", worse: "wrong", mixed: "doubt", nearer: "good" };

/** Shows the step in `place`; see app.js for what `at` has. Its address goes on with `compare` and a run and a work of each, or `run`. */
export async function show(place, at) {
  if (at.rest[0] === "compare" && at.rest.length >= 4) {
    await sideBySide(place, at, { work: at.work, run: at.rest[1] }, { work: at.rest[2], run: at.rest[3] });
    return;
  }
  if (at.rest[0] === "run" && at.rest[1]) {
    await details(place, at, { work: at.work, run: at.rest[1] });
    return;
  }
  const found = await get("/api/shelf", {}, at.signal);
  told(found.command);
  const chosen = [];
  const bar = make("div", { className: "row" });
  const list = make("ul", { className: "shelf-list" });
  const tasks = [...new Set(found.runs.map((one) => one.task))];
  const search = make("input", { type: "search", id: "find", placeholder: t("find"), "aria-label": t("find") });
  const task = make("select", { "aria-label": t("which_task") }, ["", ...tasks].map((one) => make("option", { value: one }, one ? t(`task_${one}`) : t("all_tasks"))));
  const same = (one) => (other) => other.work === one.work && other.run === one.run;
  const choose = (one) => {
    const index = chosen.findIndex(same(one));
    if (index >= 0) chosen.splice(index, 1);
    else chosen.push(one);
    if (chosen.length > 2) chosen.shift();
    draw();
    announce(t("chosen_n", { n: chosen.length }));
  };
  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const shown = found.runs.filter((one) => (!task.value || one.task === task.value) && (!wanted || `${one.work} ${one.run} ${one.base_model}`.toLowerCase().includes(wanted)));
    fill(list, shown.map((one) => item(at, one, chosen.some(same(one)), () => choose(one))));
    fill(bar, chosen.length === 2
      ? make("a", { className: "press primary", href: `#/shelf/${[chosen[0].work, "compare", chosen[0].run, chosen[1].work, chosen[1].run].map(encodeURIComponent).join("/")}` }, t("compare_two"))
      : make("span", { className: "soft" }, t(chosen.length ? "choose_other" : "choose_two")));
  };
  search.addEventListener("input", draw);
  task.addEventListener("change", draw);
  place.append(make("h1", {}, t("shelf_title")));
  if (!found.runs.length) place.append(make("section", { className: "card" }, make("p", {}, t("empty")), make("div", { className: "row" }, make("a", { className: "press primary", href: "#/begin" }, t("begin")))));
  else place.append(make("div", { className: "row" }, search, tasks.length > 1 ? task : null, make("span", { className: "grow" }), bar), list);
  if (found.works.length) place.append(begun(found.works));
  if (found.notes.length) place.append(make("details", { className: "card" }, make("summary", {}, t("unread")), make("ul", {}, found.notes.map((line) => make("li", {}, line)))));
  place.append(make("p", { className: "soft" }, t("folder", { folder: found.folder })));
  draw();
}

/** One adapter. */
function item(at, one, chosen, choose) {
  const name = one.run.split("/").pop();
  const pressed = make("button", { type: "button", "aria-pressed": String(chosen), onclick: choose, "aria-label": t("choose_it", { name }) }, t(chosen ? "chosen" : "compare"));
  return make("li", { className: chosen ? "card shelf-item chosen" : "card shelf-item", data: { work: one.work, run: one.run } },
    make("div", { className: "row" },
      one.picture ? make("img", { className: "cover", src: fileOf(one.work, `${one.run}/${one.picture}`), alt: t("cover", { name }), loading: "lazy" }) : null,
      make("div", { className: "stack grow" }, make("h2", {}, name === one.work ? name : `${one.work} / ${name}`),
        make("p", { className: "soft" }, [t(`task_${one.task}`), one.base_model].join(" · ")))),
    make("div", { className: "row" }, one.verdict ? make("span", { className: `tag ${TONE[one.verdict] ?? ""}` }, one.verdict_name) : null,
      one.status !== "finished" ? make("span", { className: "tag doubt" }, one.status_name) : null,
      one.continues ? make("span", { className: "tag" }, t("continues", { name: one.continues.split(/[\\/]/).pop() })) : null),
    make("dl", { className: "figures" },
      fact(t("held_loss"), one.held_out_loss === null ? "–" : `${one.held_out_loss_base === null ? "" : `${number(one.held_out_loss_base, 2)} → `}${number(one.held_out_loss, 2)}`),
      fact(t("examples"), number(one.examples)), fact(t("size"), bytes(one.bytes)), fact(t("trained"), String(one.started).slice(0, 10))),
    make("div", { className: "row" },
      make("a", { className: "press", href: `#/${one.status === "finished" ? "judge" : "train"}/${encodeURIComponent(one.work)}/${one.status === "finished" ? `compare/${encodeURIComponent(name)}` : ""}` }, t("open")),
      pressed),
    make("div", { className: "row" }, make("a", { className: "press quiet", href: `#/shelf/${[one.work, "run", one.run].map(encodeURIComponent).join("/")}` }, t("more")),
      one.status === "finished" ? goOn(at, one) : null));
}

const fact = (name, text) => make("div", {}, make("dt", {}, name), make("dd", {}, text));

/** A new work with the same data that begins with this adapter; the person then sees what is set. */
export function goOn(at, one) {
  return button(t("go_on"), async () => {
    const made = await post("/api/shelf/continue", { work: one.work, run: one.run });
    location.hash = `#/choose/${encodeURIComponent(made.name)}`;
  }, { quiet: true });
}

function begun(works) {
  return make("section", { className: "card" }, make("h2", {}, t("begun")), make("ul", { className: "lines" }, works.map((work) => make("li", { className: "row" },
    make("a", { href: `#/${work.begun ? "train" : "begin"}/${encodeURIComponent(work.name)}` }, work.name),
    make("span", { className: "soft" }, work.task ? t(`task_${work.task}`) : ""), work.running.length ? make("span", { className: "tag good" }, t("state_running")) : null))));
}
