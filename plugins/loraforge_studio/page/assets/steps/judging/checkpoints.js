// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a run beside each other, and which of them is the adapter.

import { get, of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { jobCard } from "/assets/parts/jobs.js";
import { own } from "/assets/parts/own.js";
import { jobOf } from "/assets/steps/judge.js";
import { picture } from "/assets/steps/judging/pictures.js";
import { number } from "/assets/words.js";

const t = own("judge");

/** The checkpoints of a run, as the command compares them. */
export async function listed(at, run) {
  const told_ = await get(of(at.work, "judge", "checkpoints"), { run }, at.signal);
  told(told_.command);
  return told_.checkpoints;
}

export async function checkpoints(place, at, found) {
  const all = await listed(at, found.run);
  const below = make("div", { className: "stack" });
  const follow = (job) => fill(below, jobCard(job, { title: t("promoting", { n: job.about.step }), signal: at.signal, ended: (now) => now.state === "done" && now.id !== seen && at.reload() }));
  const last = jobOf(at, "promote", found.run);
  const seen = last?.state === "done" ? last.id : "";
  if (last && last.state !== "done") follow(last);
  const losses = all.map((one) => one.held_out_loss).filter((one) => one !== null);
  const least = losses.length ? Math.min(...losses) : null;
  const heads = [t("step"), t("epoch"), t("train_loss"), t("held_loss"), ""];
  const cell = (index, text) => make("td", { className: "number", data: { name: heads[index] } }, text);
  const rows = all.map((one) => make("tr", { data: { step: one.step } },
    make("td", {}, make("strong", {}, t("step_n", { n: number(one.step) })), " ",
      one.chosen ? make("span", { className: "tag good" }, t("is_adapter")) : null, " ",
      least !== null && one.held_out_loss === least ? make("span", { className: "tag" }, t("lowest")) : null),
    cell(1, one.epoch === null ? "" : number(one.epoch, 1)), cell(2, one.train_loss === null ? "" : number(one.train_loss, 3)),
    cell(3, one.held_out_loss === null ? "" : number(one.held_out_loss, 4)),
    make("td", {}, one.chosen ? null : one.kept
      ? button(t("promote"), async () => follow(await post(of(at.work, "judge", "promote"), { run: found.run, step: one.step })))
      : make("span", { className: "soft" }, t("deleted")))));
  const kept = all.filter((one) => one.kept).map((one) => one.step);
  place.append(
    make("section", { className: "card" }, make("p", {}, t("checkpoints_hint")),
      rows.length ? make("div", { className: "scroll" }, make("table", { className: "stacked" },
        make("thead", {}, make("tr", {}, heads.map((head) => (head ? make("th", { scope: "col" }, head) : make("td", {}))))), make("tbody", {}, rows))) : make("p", {}, t("no_checkpoints")),
      kept.length > 1 ? make("div", { className: "row" }, make("a", {
        className: "press", href: `#/judge/${encodeURIComponent(at.work)}/ask/${encodeURIComponent(found.run.split("/").pop())}/${kept.slice(-4).join(",")}`,
      }, t(found.task === "image" ? "draw_them" : "ask_them"))) : null),
    below);
  if (found.samples.length) place.append(samples(at.work, found));
}

/** What the training drew at each step: a row for each, a column for each prompt. */
function samples(work, found) {
  return make("section", { className: "card" }, make("h2", {}, t("drawn_in_training")),
    found.samples.map((one) => make("article", { className: "pair" }, make("h3", {}, one.step ? t("step_n", { n: number(one.step) }) : t("before_training")),
      make("div", { className: "pictures" }, one.pictures.map((path, index) => picture(work, path, found.facts.prompts[index] ?? path.split("/").pop()))))));
}
