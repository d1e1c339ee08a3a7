// SPDX-License-Identifier: Apache-2.0
// What is known of an adapter: the verdict, the held-out figures with their intervals, the cautions of its model card.

import { $, make } from "./dom.js";
import { said, short, t } from "./words.js";

const TONES = { better: "good", worse: "bad", mixed: "doubt", nearer: "doubt", "no evidence": "doubt", "cannot be told": "doubt" };
const texts = (list) => (Array.isArray(list) ? list.filter((one) => typeof one === "string" && one) : []);
const number = (value) => typeof value === "number" && Number.isFinite(value);

/** A mean or a difference as people read it; shares in per cent. */
function figure(value, share, signed = false) {
  if (!number(value)) return "–";
  const text = share ? (100 * value).toFixed(1) : value.toFixed(3);
  const shown = (signed && value > 0 ? `+${text}` : text).replace("-", "−");
  return share && !signed ? `${shown} %` : shown;
}

/** How many examples, and how many of them are evidence of their own. */
function count(line) {
  const apart = number(line.groups) && line.groups < line.n;
  return apart ? t("independent", { n: line.n, groups: line.groups }) : `n = ${line.n ?? "–"}`;
}

function interval(line) {
  const middle = line.share ? t("points", { n: figure(line.difference, true, true) }) : figure(line.difference, false, true);
  if (!Array.isArray(line.interval) || !line.interval.every(number)) return middle;
  const [low, high] = line.interval.map((end) => figure(end, line.share, true));
  return `${middle} [${low} … ${high}]`;
}

/** The interval as a bar about zero; what it says stands beside it in figures, so nobody has to see it. */
function bar(line, reach) {
  const made = make("div", { className: "interval", "aria-hidden": "true" });
  if (!number(line.difference) || !(reach > 0)) return made;
  const place = (value) => 50 + 50 * Math.max(-1, Math.min(1, value / reach));
  const [low, high] = Array.isArray(line.interval) && line.interval.every(number) ? line.interval : [line.difference, line.difference];
  const span = make("span", { className: "span" });
  span.style.left = `${place(low)}%`;
  span.style.width = `${Math.max(0.5, place(high) - place(low))}%`;
  const point = make("span", { className: "point" });
  point.style.left = `${place(line.difference)}%`;
  made.append(make("span", { className: "zero" }), span, point);
  return made;
}

function reachOf(lines) {
  const ends = lines.flatMap((line) => [line.difference, ...(Array.isArray(line.interval) ? line.interval : [])]).filter(number);
  return Math.max(0, ...ends.map(Math.abs));
}

/** One measure in one part of the hold-out. */
function row(line, reach) {
  const tone = TONES[line.verdict] ?? "doubt";
  return make(
    "li",
    { className: `measure ${tone}` },
    make(
      "div",
      { className: "line" },
      make("b", {}, said(String(line.measure))),
      make("span", { className: "verdict" }, short(String(line.verdict))),
    ),
    make(
      "div",
      { className: "line figures" },
      make("span", {}, `${t("base")} ${figure(line.base, line.share)}`),
      make("span", { "aria-hidden": "true" }, "→"),
      make("span", {}, `${t("adapter")} ${figure(line.adapter, line.share)}`),
      make("span", { className: "count" }, count(line)),
    ),
    bar(line, reach),
    make("div", { className: "line difference" }, make("span", {}, interval(line)), line.lower_is_better ? make("i", {}, t("lower")) : null),
  );
}

function part(stratum, lines) {
  // Losses and shares have no common measure, so each kind has its own reach.
  const [shares, others] = [lines.filter((line) => line.share), lines.filter((line) => !line.share)];
  const reach = { true: reachOf(shares), false: reachOf(others) };
  return [make("h3", {}, t(stratum)), make("ul", { className: "measures" }, ...lines.map((line) => row(line, reach[Boolean(line.share)])))];
}

function list(title, items, className) {
  return items.length ? [make("h2", {}, title), make("ul", { className }, ...items.map((one) => make("li", {}, one)))] : [];
}

/** The lines, those of the measure that the verdict is about first. */
function inOrder(facts) {
  const lines = Array.isArray(facts.lines) ? facts.lines.filter((one) => one && typeof one === "object") : [];
  const leads = (line) => line.measure === facts.headline;
  return [...lines.filter(leads), ...lines.filter((line) => !leads(line))];
}

/** Where the panel is folded: the first figures, and the first caution. */
function inShort(facts, caution) {
  const first = inOrder(facts)[0];
  if (!first || typeof first.measure !== "string") return caution[0] ?? "";
  const [before, after] = [figure(first.base, first.share), figure(first.adapter, first.share)];
  return [`${said(first.measure)}: ${before} → ${after} (${count(first)}).`, caution[0] ?? ""].join(" ");
}

/** Fills the panel for an entry of /v1/models, or for the base. */
export function showFacts(model) {
  const about = model?.loraforge ?? {};
  const facts = about.facts ?? {};
  const isBase = !model || model.id === "base";
  const caution = isBase ? [] : texts(facts.caution);
  const verdict = facts.verdict ?? "none";
  $("verdict").textContent = isBase ? t("base_chip") : said(String(verdict));
  $("verdict").dataset.tone = isBase ? "plain" : (TONES[verdict] ?? "doubt");
  $("caution-count").textContent = caution.length > 1 ? t("more_cautions", { n: caution.length }) : caution.length ? t("one_caution") : "";
  $("in-short").textContent = isBase ? "" : inShort(facts, caution);
  if (isBase) {
    $("facts-body").replaceChildren(make("p", { className: "soft" }, t("base_facts")), ...origin({ base: about.base }));
    return;
  }
  const lines = inOrder(facts);
  const figures = Array.isArray(facts.figures) ? facts.figures.filter((one) => one && typeof one === "object") : [];
  const title = facts.examples ? t("on_held_out", { n: facts.examples }) : t("on_held_out_short");
  const [verdictInWords, ...besides] = texts(facts.sentences);
  const body = verdictInWords ? [make("p", {}, verdictInWords)] : [];
  body.push(...list(t("cautions"), caution, "cautions"));
  if (lines.length || figures.length) body.push(make("h2", {}, title));
  else body.push(make("p", { className: "soft" }, t("no_figures")));
  for (const stratum of ["new", "reworded"]) {
    const some = lines.filter((line) => (line.stratum === "reworded") === (stratum === "reworded"));
    if (some.length) body.push(...part(stratum, some));
  }
  if (figures.length) {
    const told = figures.map((one) => `${said(String(one.measure))}: ${t("base")} ${one.base}, ${t("adapter")} ${one.adapter}`);
    body.push(make("ul", { className: "measures plain" }, ...told.map((one) => make("li", {}, one))));
  }
  body.push(...list(t("besides"), besides, "besides"));
  $("facts-body").replaceChildren(...body, ...origin(about));
}

function origin(about) {
  const pairs = [[t("its_run"), about.title], [t("its_base"), about.base], [t("its_seal"), about.seal]].filter(([, value]) => typeof value === "string" && value);
  if (!pairs.length) return [];
  const terms = pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  return [make("h2", {}, t("origin")), make("dl", { className: "origin" }, ...terms)];
}
