// SPDX-License-Identifier: Apache-2.0
// The step "begin": what is brought, what was found in it, the examples, and the works that there are.

import { get, of, post } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { account } from "/assets/parts/data/account.js";
import { dropZone, progressOf } from "/assets/parts/data/dropzone.js";
import { bring, kindOf } from "/assets/parts/data/files.js";
import { styled } from "/assets/parts/data/style.js";
import { problemList, showProblems } from "/assets/parts/problems.js";
import { bytes, number, t } from "/assets/words.js";

const QUICK = [{ name: "legal", task: "text" }, { name: "cyberpunk", task: "image" }]; // examples that need nothing but this computer

/** Shows the step in `place`; see app.js for what `at` has. */
export async function show(place, at) {
  await styled();
  if (at.info?.begun) await opened(place, at);
  else if (at.info) await unfinished(place, at);
  else await start(place, at);
}

/** Nothing is open: the way in. */
async function start(place, at) {
  const works = await get("/api/works", {}, at.signal);
  const bringing = make("div", { className: "stack wide" });
  const zone = dropZone({
    take: (found) => plan(bringing, at, found, zone),
    point: (path, names) => planPath(bringing, at, path, names, zone),
  });
  const more = make("div", { className: "columns" }, make("p", { className: "soft waiting" }, t("loading")));
  const others = make("details", {}, make("summary", {}, t("examples_more")), more);
  others.addEventListener("toggle", async () => {
    const all = await get("/api/examples", {}, at.signal).catch(showProblems);
    if (all) fill(more, all.filter((one) => !QUICK.some(({ name }) => name === one.name)).map((one) => exampleCard(one, at)));
  }, { once: true });
  fill(place, make("h1", {}, t("begin_title")), make("p", {}, t("begin_hint")), zone, bringing,
    works.length ? make("section", { className: "stack wide" }, make("h2", {}, t("works")), make("ul", { className: "works" }, works.map((work) => workCard(work)))) : null,
    make("section", { className: "stack wide" }, make("h2", {}, t("examples_title")), make("p", { className: "soft" }, t("examples_hint")),
      make("div", { className: "columns" }, QUICK.map((one) => exampleCard(one, at))), others));
}

function workCard(work) {
  const state = work.running.length ? "running" : work.finished.length ? "finished" : work.begun ? "begun" : "unfinished";
  const step = work.running.includes("train") ? "train" : work.finished.length ? "judge" : "begin";
  return make("li", {}, make("a", { className: "card press-card", href: `#/${step}/${encodeURIComponent(work.name)}` },
    make("strong", { className: "one-line" }, work.name),
    make("span", { className: "row" }, work.task ? make("span", { className: "tag" }, t(work.task === "image" ? "kind_image" : "kind_text")) : null,
      make("span", { className: `tag ${state === "finished" ? "good" : ""}` }, t(`work_${state}`)))));
}

function exampleCard(example, at) {
  const title = t(`example_${example.name}`);
  const known = !title.startsWith("example_");
  return make("section", { className: "card example", data: { example: example.name } },
    make("div", { className: "row" }, make("strong", { className: "grow" }, known ? title : example.name),
      make("span", { className: "tag" }, t(example.task === "image" ? "kind_image" : "kind_text"))),
    make("p", { className: "soft" }, known ? t(`example_${example.name}_hint`) : example.help),
    make("div", { className: "row" }, button(t("open_example"), async () => {
      announce(t("loading"));
      const made = await post("/api/works", { example: example.name });
      at.go("begin", made.name);
      told(made.command);
    })));
}

/** What was dropped, before anything is brought: which kind, and what the work is called. */
function plan(place, at, found, zone) {
  const kind = kindOf(found.files.map((one) => one.path));
  const size = found.files.reduce((sum, one) => sum + one.file.size, 0);
  ask(place, at, zone, {
    name: found.name, task: kind.task,
    said: [t("plan_files", { n: number(found.files.length), size: bytes(size) }), kind.others ? t("plan_others", { n: kind.others }) : "", found.left ? t("plan_left", { n: found.left }) : ""],
    names: found.files.map((one) => one.path),
    run: async (name, task, card) => {
      const made = await post("/api/works", { name, task });
      history.replaceState(null, "", `#/begin/${encodeURIComponent(made.name)}`); // a reload finds what has arrived
      await carry(card, at, made.name, task, found.files);
    },
  });
}

function planPath(place, at, path, names, zone) {
  const kind = kindOf(names);
  ask(place, at, zone, {
    name: path.split(/[\\/]/).filter(Boolean).pop().replace(/\.[^.]+$/, ""), task: kind.task, said: [t("plan_path", { path })], names,
    run: async (name, task) => {
      const made = await post("/api/works", { name, task });
      await beginWith(at, made.name, { task, path });
    },
  });
}

function ask(place, at, zone, { name, task, said, names, run }) {
  const field = make("input", { id: "work-called", value: name, maxLength: 100, required: true, autocomplete: "off" });
  const kinds = ["text", "image"].map((kind) => make("label", { className: "choice" },
    make("input", { type: "radio", name: "task", value: kind, checked: kind === task }),
    make("span", {}, make("strong", {}, t(`task_${kind}`)), make("span", { className: "soft" }, t(`task_${kind}_hint`)))));
  const card = make("section", { className: "card plan" },
    make("div", { className: "stack" }, said.filter(Boolean).map((line) => make("p", {}, line)),
      make("details", {}, make("summary", {}, t("plan_names")), make("ul", { className: "names" }, names.slice(0, 200).map((one) => make("li", {}, one)), names.length > 200 ? make("li", {}, "…") : null))),
    make("fieldset", { className: "stack" }, make("legend", {}, t("task_question")), make("div", { className: "columns" }, kinds)),
    make("div", { className: "field" }, make("label", { htmlFor: field.id }, t("work_called")), field),
    make("div", { className: "row" },
      button(t("bring"), async () => {
        const chosen = card.querySelector("input[name=task]:checked")?.value;
        if (!chosen) throw Object.assign(new Error(), { problems: [t("choose_task")] });
        await run(field.value.trim(), chosen, card);
      }, { primary: true }),
      button(t("cancel"), () => { fill(place); zone.hidden = false; }, { quiet: true })));
  zone.hidden = true;
  fill(place, card);
  field.focus();
}

/** Brings files, then has a config made of them. What could not be brought is said, and may be tried again. */
async function carry(card, at, work, task, files) {
  const progress = progressOf(files.length);
  fill(card, make("h2", {}, t("bringing")), progress.element);
  const failed = await bring(work, files, progress.tell, at.signal);
  if (at.signal.aborted) return;
  if (!failed.length) {
    await beginWith(at, work, { task }, card);
    return;
  }
  const again = failed.filter((one) => one.again);
  fill(card, make("h2", {}, t("not_brought", { n: failed.length })),
    problemList([...new Set(failed.slice(0, 50).flatMap((one) => one.problems))]),
    make("p", { className: "soft" }, t("not_brought_hint", { n: files.length - failed.length })),
    make("div", { className: "row" },
      again.length ? button(t("try_again"), () => carry(card, at, work, task, again)) : null,
      again.length < files.length ? button(t("begin_without"), () => beginWith(at, work, { task }, card), { primary: true }) : null));
}

async function beginWith(at, work, wanted, card) {
  if (card) fill(card, make("p", { className: "waiting", role: "status" }, t(wanted.task === "image" ? "looking_pictures" : "looking_texts")));
  try {
    const made = await post(of(work, "begin"), wanted);
    at.go("begin", work);
    told(made.command);
  } catch (error) {
    at.go("begin", work);
    setTimeout(() => showProblems(error), 300);
  }
}

/** Files have arrived, perhaps not all, and no config has been made of them. */
async function unfinished(place, at) {
  const there = await get(of(at.work, "uploads"), {}, at.signal);
  const names = there.files.map((one) => one.path.replace(/^uploads\//, ""));
  const task = at.info.task || kindOf(names).task || "text";
  const below = make("div", { className: "stack wide" });
  fill(place, make("h1", {}, at.work), make("section", { className: "card" },
    make("p", {}, t("arrived", { n: number(there.count) })), make("ul", { className: "names" }, names.slice(0, 100).map((one) => make("li", {}, one))),
    there.count ? make("div", { className: "row" }, button(t("begin_with"), (made) => beginWith(at, at.work, { task }, made.closest(".card")), { primary: true })) : null),
  dropZone({ small: true, take: (found) => carry(below, at, at.work, task, found.files) }), below, elsewhere());
}

/** The account of a work, and the ways on. */
async function opened(place, at) {
  const result = make("div", { className: "stack wide" });
  const below = make("div", { className: "stack wide" });
  const image = at.info.task === "image";
  fill(place, make("div", { className: "row" }, make("h1", { className: "grow" }, t("found_in", { work: at.work })),
    button(t("look_at_data"), () => at.go("data")), button(t("go_choose"), () => at.go("choose")),
    button(t("next_step", { step: t("train") }), () => at.go("train"), { primary: true })), result,
    make("details", { className: "card more-files" }, make("summary", {}, t("bring_more")),
      make("div", { className: "within" }, make("p", { className: "soft" }, t("bring_more_hint")),
        dropZone({ small: true, take: (found) => more(below, at, found.files) }), below)), elsewhere());
  await account(result, at);
  announce(t(image ? "looking_pictures" : "looking_texts"));
}

/** More files for a work that has begun: read together with those that are there. */
async function more(place, at, files) {
  const brought = await get(of(at.work, "brought"), {}, at.signal);
  const own = brought.source.startsWith("uploads");
  if (!own && !confirm(t("more_instead", { source: brought.source }))) return;
  if (brought.table && !confirm(t("more_confirm", { table: brought.table }))) return;
  const progress = progressOf(files.length);
  fill(place, progress.element);
  const failed = await bring(at.work, files, progress.tell, at.signal);
  if (failed.length) fill(place, problemList(failed.flatMap((one) => one.problems)));
  if (failed.length === files.length) return;
  if (own) await post(of(at.work, "anew"));
  else await post(of(at.work, "begin"), { task: at.info.task });
  if (!failed.length) at.reload();
}

const elsewhere = () => make("p", {}, make("a", { href: "#/begin" }, t("other_work")));
