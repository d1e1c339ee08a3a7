// SPDX-License-Identifier: Apache-2.0
// The losses of a run over its steps: training as a mean with a band from the least to the largest, held-out as points on a line.

/* global uPlot */
import { fill, make } from "/assets/dom.js";
import { language, number, t } from "/assets/words.js";

const HEIGHT = 300;
const exact = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString(language === "zh" ? "zh-CN" : "en", { maximumSignificantDigits: 4 }));

/** A colour of the page as it is now. */
function colour(name) {
  const probe = make("span", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/**
 * A chart in `signal`'s time. Returns {element, draw({train, held, step, steps})}; `train` is a list of [step, mean, least, largest], `held` of
 * [step, loss].
 */
export function lossChart(signal) {
  const box = make("div", { className: "plot", role: "img" });
  const value = { train: make("strong", {}), held: make("strong", {}) };
  const legend = make("p", { className: "row legend" },
    make("span", { className: "row" }, make("span", { className: "swatch train", "aria-hidden": "true" }), t("curve_train"), value.train),
    make("span", { className: "row" }, make("span", { className: "swatch held", "aria-hidden": "true" }), t("curve_held"), value.held),
    make("span", { className: "soft" }, t("curve_band")));
  const rows = make("tbody", {});
  const table = make("details", {}, make("summary", {}, t("curve_table")), make("div", { className: "scroll table-box", tabIndex: 0 }, make("table", {},
    make("thead", {}, make("tr", {}, ["curve_step", "curve_train", "curve_least", "curve_most", "curve_held"].map((key) => make("th", { scope: "col" }, t(key))))), rows)));
  const element = make("div", { className: "stack" }, legend, box, table);
  let plot = null;
  let known = { train: [], held: [], step: 0, steps: 0 };
  let waiting = 0;

  const columns = () => {
    const steps = [...new Set([...known.train.map((one) => one[0]), ...known.held.map((one) => one[0])])].sort((a, b) => a - b);
    const train = new Map(known.train.map((one) => [one[0], one]));
    const held = new Map(known.held);
    return [steps, ...[2, 3, 1].map((place) => steps.map((step) => train.get(step)?.[place] ?? null)), steps.map((step) => held.get(step) ?? null)];
  };
  const options = () => {
    const [train, held, line, soft] = ["accent", "doubt", "line", "soft"].map(colour);
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 22 };
    const edge = { stroke: "transparent", points: { show: false }, spanGaps: true };
    return {
      width: Math.max(200, box.clientWidth), height: HEIGHT, legend: { show: false }, cursor: { drag: { x: true, y: false } },
      scales: { x: { time: false, range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 1, 1)] } },
      axes: [{ ...axis, label: t("curve_step") }, { ...axis, label: t("curve_loss"), size: 56 }],
      series: [{}, edge, edge,
        { stroke: train, width: 2, spanGaps: true, points: { show: known.train.length < 3 } },
        { stroke: held, width: 2, spanGaps: true, points: { show: true, size: 7, fill: held } }],
      bands: [{ series: [2, 1], fill: train.replace("rgb(", "rgba(").replace(")", ", 0.18)") }],
      hooks: { setCursor: [(self) => tell(self.cursor.idx)] },
    };
  };
  const build = () => {
    plot?.destroy();
    fill(box);
    plot = new uPlot(options(), columns(), box);
  };
  const near = (list, step) => list.reduce((best, one) => (best === null || Math.abs(one[0] - step) < Math.abs(best[0] - step) ? one : best), null);
  /** What the legend says: of the place under the pointer, or of the last one. */
  function tell(index) {
    const step = index === null || index === undefined || !plot ? null : plot.data[0][index];
    const train = step === null ? known.train.at(-1) : near(known.train, step);
    const held = step === null ? known.held.at(-1) : near(known.held, step);
    value.train.textContent = train ? `${exact(train[1])}${step === null ? "" : ` (${t("curve_at", { n: number(train[0]) })})`}` : "–";
    value.held.textContent = held ? `${exact(held[1])} (${t("curve_at", { n: number(held[0]) })})` : "–";
  }
  const drawTable = () => {
    if (!table.open) return;
    const held = new Map(known.held);
    const each = Math.max(1, Math.ceil(known.train.length / 200));
    const shown = new Map(known.train.filter((one, index) => index % each === 0 || held.has(one[0])).map((one) => [one[0], one]));
    const steps = [...new Set([...shown.keys(), ...held.keys()])].sort((a, b) => a - b);
    fill(rows, steps.map((step) => make("tr", {}, [number(step), exact(shown.get(step)?.[1]), exact(shown.get(step)?.[2]), exact(shown.get(step)?.[3]), exact(held.get(step))].map((text) => make("td", {}, text)))));
  };
  const now = () => {
    waiting = 0;
    if (signal.aborted || !box.isConnected) return;
    if (!plot || known.train.length < 4) build();
    else plot.setData(columns());
    tell(null);
    box.setAttribute("aria-label", t("curve_aria", {
      steps: number(known.step), of: number(known.steps), train: exact(known.train.at(-1)?.[1]), first: exact(known.train[0]?.[1]), held: exact(known.held.at(-1)?.[1]), base: exact(known.held[0]?.[1]),
    }));
    drawTable();
  };
  table.addEventListener("toggle", drawTable);
  const again = () => plot && !signal.aborted && (build(), tell(null));
  const sized = new ResizeObserver(() => (plot && Math.abs(plot.width - box.clientWidth) > 1 ? plot.setSize({ width: Math.max(200, box.clientWidth), height: HEIGHT }) : null));
  sized.observe(box);
  const themed = new MutationObserver(again);
  themed.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", again, { signal });
  signal.addEventListener("abort", () => {
    sized.disconnect();
    themed.disconnect();
    cancelAnimationFrame(waiting);
    plot?.destroy();
  }, { once: true });
  return {
    element,
    draw: (next) => {
      known = next;
      waiting ||= requestAnimationFrame(now);
    },
  };
}
