// SPDX-License-Identifier: Apache-2.0
// One adapter of the shelf: where it comes from, and what was done to it since.

import { get } from "/assets/api.js";
import { make } from "/assets/dom.js";
import { own } from "/assets/parts/own.js";
import { goOn } from "/assets/steps/shelf.js";
import { bytes, number } from "/assets/words.js";

const t = own("shelf");

export async function details(place, at, { work, run }) {
  const one = await get("/api/shelf/run", { work, run }, at.signal);
  const name = one.run.split("/").pop();
  place.append(make("p", {}, make("a", { href: `#/shelf/${encodeURIComponent(work)}` }, t("back_to_shelf"))), make("h1", {}, name === work ? name : `${work} / ${name}`),
    make("p", { className: "soft" }, one.folder),
    make("section", { className: "card" }, one.sentence.length ? make("p", { className: "verdict" }, one.sentence[0]) : make("p", {}, t("not_judged")),
      make("div", { className: "row" }, ["judge", "handon"].map((step) => make("a", { className: "press", href: `#/${step}/${encodeURIComponent(work)}/${step === "judge" ? "compare/" : ""}${encodeURIComponent(name)}` }, t(step))), goOn(at, { work, run: one.run }))),
    lineage(one), history(one), settings(one));
}

/** The runs before it, the first one at the top. */
export function lineage(one) {
  const items = [...one.lineage].reverse().map((parent) => make("li", {}, parent.there && parent.work
    ? make("a", { href: `#/shelf/${[parent.work, "run", parent.path].map(encodeURIComponent).join("/")}` }, parent.work === parent.name ? parent.name : `${parent.work} / ${parent.name}`)
    : make("span", {}, parent.name, " ", make("span", { className: "soft" }, parent.there ? parent.run : t("gone_parent", { path: parent.run })))));
  return make("section", { className: "card", data: { part: "lineage" } }, make("h2", {}, t("lineage")),
    make("ol", { className: "lines" }, make("li", {}, make("span", { className: "soft" }, t("base_is")), " ", String(one.config.base_model)), items,
      make("li", {}, make("strong", {}, one.run.split("/").pop()), " ", make("span", { className: "soft" }, one.chosen?.step ? t("from_step", { n: number(one.chosen.step), by: chosenBy(one.chosen.by) }) : ""))));
}

const chosenBy = (by) => (by === "promote" ? t("by_promote") : by === "held-out loss" ? t("by_loss") : "");

function history(one) {
  return make("section", { className: "card" }, make("h2", {}, t("history")), make("ol", { className: "lines" },
    make("li", {}, `${String(one.started).slice(0, 16).replace("T", " ")}  ${t("trained_on", { n: number(one.examples) })}`),
    one.history.map((record) => make("li", {}, `${record.time.slice(0, 16).replace("T", " ")}  ${t(`did_${record.command}`, { n: record.step ?? "" })}`))),
  make("p", { className: "soft" }, t("size_is", { size: bytes(one.bytes) })));
}

function settings(one) {
  const rows = Object.entries(one.config).filter(([, value]) => value !== null);
  return make("details", { className: "card" }, make("summary", {}, t("settings")), make("div", { className: "within scroll" }, make("table", {}, make("tbody", {},
    rows.map(([key, value]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, plain(value))))))));
}

/** A value of a config as text. */
export const plain = (value) => (value === undefined || value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
