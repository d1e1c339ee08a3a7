// SPDX-License-Identifier: Apache-2.0
// Two adapters beside each other: what was set differently, figures, curves, and what they answer or draw.

import { get, of } from "/assets/api.js";
import { fill, make } from "/assets/dom.js";
import { own } from "/assets/parts/own.js";
import { value } from "/assets/steps/judging/compare.js";
import { picture } from "/assets/steps/judging/pictures.js";
import { plain } from "/assets/steps/shelving/details.js";
import { bytes, number } from "/assets/words.js";

const t = own("shelf");
const MOST = 12; // questions and pictures that are shown

export async function sideBySide(place, at, first, second) {
  const [one, other] = await Promise.all([first, second].map((which) => get("/api/shelf/run", which, at.signal)));
  const names = titles(one, other);
  place.append(make("p", {}, make("a", { href: `#/shelf/${encodeURIComponent(at.work)}` }, t("back_to_shelf"))), make("h1", {}, t("two_title")),
    make("p", {}, make("span", { className: "key-one" }, `A: ${names[0]}`), " – ", make("span", { className: "key-two" }, `B: ${names[1]}`)),
    figures(one, other), differences(one, other), await curves(at, one, other));
  place.append(one.rows.length && other.rows.length ? answers(one, other) : drawn(one, other));
}

function titles(one, other) {
  const name = (run) => (run.run.split("/").pop() === run.work ? run.work : `${run.work} / ${run.run.split("/").pop()}`);
  return [name(one), name(other)];
}

function table(label, rows, heads = ["", "A", "B"]) {
  return make("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": label }, make("table", {},
    make("thead", {}, make("tr", {}, heads.map((head, index) => (head ? make("th", { scope: "col", className: ["", "key-one", "key-two"][index] }, head) : make("td", {}))))),
    make("tbody", {}, rows.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name), cells.map((cell) => make("td", {}, cell)))))));
}

function figures(one, other) {
  const loss = (run) => (run.metrics.held_out_loss === null || run.metrics.held_out_loss === undefined ? "–" : number(run.metrics.held_out_loss, 3));
  const rows = [[t("held_loss"), loss(one), loss(other)], [t("examples"), number(one.examples), number(other.examples)], [t("size"), bytes(one.bytes), bytes(other.bytes)],
    [t("trained"), ...[one, other].map((run) => String(run.started).slice(0, 16).replace("T", " "))]];
  for (const left of one.measures) {
    const right = other.measures.find((measure) => measure.measure === left.measure && measure.new === left.new);
    if (right) rows.push([left.new ? left.name : `${left.name} (${t("reworded")})`, value(left.adapter, left.share), value(right.adapter, right.share)]);
  }
  for (const left of one.figures) {
    const right = other.figures.find((figure) => figure.name === left.name);
    if (right && (left.adapter || right.adapter)) rows.push([left.name, left.adapter || "–", right.adapter || "–"]);
  }
  return make("section", { className: "card" }, make("h2", {}, t("figures")), table(t("figures"), rows),
    one.data !== other.data ? make("p", { className: "doubt" }, t("other_data")) : null);
}

function differences(one, other) {
  const keys = [...new Set([...Object.keys(one.config), ...Object.keys(other.config)])];
  const rows = keys.filter((key) => JSON.stringify(one.config[key]) !== JSON.stringify(other.config[key])).map((key) => [key, plain(one.config[key]), plain(other.config[key])]);
  return make("section", { className: "card", data: { part: "differences" } }, make("h2", {}, t("differences")), rows.length ? table(t("differences"), rows) : make("p", {}, t("no_differences")));
}

/** Both held-out losses over the steps, and both training losses. */
async function curves(at, one, other) {
  const found = await Promise.all([one, other].map((run) => get(of(run.work, "curve"), { run: run.run, points: 400 }, at.signal)));
  const chart = make("div", { className: "chart", role: "img", "aria-label": t("curves_say", { a: ends(found[0]), b: ends(found[1]) }) });
  const card = make("section", { className: "card" }, make("h2", {}, t("curves")),
    make("p", { className: "soft" }, t("curves_hint")), chart);
  if (!window.uPlot || !found.some((curve) => curve.train.length)) {
    fill(chart, make("p", { className: "soft" }, t("no_curve")));
    return card;
  }
  const held = found.map((curve) => new Map(curve.held));
  const train = found.map((curve) => new Map(curve.train.map(([step, mean]) => [step, mean])));
  const steps = [...new Set([...held, ...train].flatMap((map) => [...map.keys()]))].sort((a, b) => a - b);
  const colours = getComputedStyle(document.documentElement);
  const colour = (name) => colours.getPropertyValue(name).trim();
  const probe = (name) => {
    const element = make("span");
    element.style.color = `var(${name})`;
    document.body.append(element);
    const seen = getComputedStyle(element).color;
    element.remove();
    return seen || colour(name);
  };
  const [accent, doubt, soft, line] = ["--accent", "--doubt", "--soft", "--line"].map(probe);
  const series = (label, stroke, dash) => ({ label, stroke, dash, width: 2, spanGaps: true, points: { show: dash === undefined } });
  const axis = { stroke: soft, grid: { stroke: line }, ticks: { stroke: line } };
  const draw = () => {
    fill(chart);
    new window.uPlot({
      width: Math.max(260, chart.clientWidth), height: 240, cursor: { show: false }, legend: { show: false }, scales: { x: { time: false } },
      axes: [axis, { ...axis, size: 50 }],
      series: [{}, series("A", accent), series("B", doubt), series("A", accent, [4, 4]), series("B", doubt, [4, 4])],
    }, [steps, ...[...held, ...train].map((map) => steps.map((step) => map.get(step) ?? null))], chart);
  };
  const watch = new ResizeObserver(() => chart.clientWidth && draw());
  watch.observe(chart);
  at.signal.addEventListener("abort", () => watch.disconnect());
  return card;
}

const ends = (curve) => (curve.held.length ? number(curve.held.at(-1)[1], 3) : "–");

/** What both answer to the questions that both were asked. */
function answers(one, other) {
  const asked = new Map(other.rows.map((row) => [row.question, row]));
  const rows = one.rows.filter((row) => asked.has(row.question));
  const side = (letter, text, name) => make("div", { className: "answer" }, make("p", { className: name }, letter), make("p", {}, text || t("empty_answer")));
  return make("section", { className: "card", data: { part: "answers" } }, make("h2", {}, t("answers")),
    rows.length ? rows.slice(0, MOST).map((row) => make("article", { className: "pair" }, make("h3", {}, row.question),
      make("div", { className: "answers" }, side("A", row.adapter, "key-one"), side("B", asked.get(row.question).adapter, "key-two")),
      make("details", {}, make("summary", { className: "soft" }, t("reference")), make("p", {}, row.reference)))) : make("p", {}, t("no_same_questions")),
    rows.length > MOST ? make("p", { className: "soft" }, t("first_of", { n: MOST, all: number(rows.length) })) : null);
}

/** What both drew last in their trainings. */
function drawn(one, other) {
  const last = (run) => run.samples.at(-1)?.pictures ?? [];
  const prompts = (run) => run.config.sample_prompts ?? [];
  const rows = Math.max(last(one).length, last(other).length);
  return make("section", { className: "card", data: { part: "drawn" } }, make("h2", {}, t("drawn")),
    rows ? [one, other].map((run, index) => make("article", { className: "stack" }, make("h3", { className: ["key-one", "key-two"][index] }, "AB"[index]),
      make("div", { className: "pictures" }, last(run).slice(0, MOST).map((path, place) => picture(run.work, path, prompts(run)[place] ?? path.split("/").pop()))))) : make("p", {}, t("nothing_drawn")));
}
