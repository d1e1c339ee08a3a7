// SPDX-License-Identifier: Apache-2.0
// Drawing: strengths of several adapters, a seed, a grid; the base's pictures of the same seeds below.

import { request } from "./api.js";
import { $, announce, icon, make } from "./dom.js";
import { t } from "./words.js";

const SIZES = ["512x512", "512x768", "768x512", "768x768", "1024x1024", "832x1216", "1216x832"];

/** One slider an adapter; the chosen one begins at 1, the others at 0. What was set stays while the same one is chosen. */
export function showStrengths(adapters, chosen) {
  const before = $("strengths").dataset.chosen === chosen ? Object.fromEntries(sliders().map((one) => [one.dataset.adapter, one.value])) : {};
  $("strengths").dataset.chosen = chosen;
  const rows = adapters.map((one) => {
    const output = make("output", {});
    const slider = make("input", { type: "range", min: "0", max: "1.5", step: "0.05" });
    slider.value = before[one.id] ?? (one.id === chosen ? "1" : "0");
    slider.dataset.adapter = one.id;
    const show = () => (output.value = Number(slider.value).toFixed(2));
    slider.oninput = show;
    show();
    return make("label", { className: "strength" }, make("span", {}, one.id), slider, output);
  });
  $("strengths").replaceChildren(make("p", { className: "soft", data: { t: "strengths" } }, t("strengths")), ...rows);
}

export function showSizes() {
  const options = SIZES.map((size) => make("option", { value: size }, size.replace("x", " × ")));
  $("size").replaceChildren(make("option", { value: "", data: { t: "size_auto" } }, t("size_auto")), ...options);
}

const sliders = () => [...$("strengths").querySelectorAll("input")];

function strengths() {
  return Object.fromEntries(sliders().filter((one) => Number(one.value) > 0).map((one) => [one.dataset.adapter, Number(one.value)]));
}

const field = (id, otherwise) => ($(id).value.trim() !== "" && $(id).validity.valid ? $(id).valueAsNumber : otherwise);

export async function draw(prompt, model, names, beside, signal) {
  const adapters = strengths();
  const [seed, count, size] = [field("picture-seed", 0), field("count", 1), $("size").value];
  const told = Object.entries(adapters).map(([name, strength]) => `${names[name] ?? name} ${strength.toFixed(2)}`).join(" + ");
  const sides = Object.keys(adapters).length ? [[told, adapters], ...(beside ? [[names.base, {}]] : [])] : [[names.base, {}]];
  const element = make("li", { className: "turn" }, make("h2", {}, prompt));
  $("turns").append(element);
  const places = sides.map(([label, chosen]) => {
    const grid = make("div", { className: "grid" });
    const note = make("p", { className: "note", hidden: true });
    element.append(make("section", { className: `drawn ${Object.keys(chosen).length ? "" : "base"}`, "aria-label": label }, make("h3", {}, label), grid, note));
    return { label, chosen, note, figures: Array.from({ length: count }, (_, i) => waiting(grid, seed + i)) };
  });
  element.scrollIntoView({ block: "start" });
  // Picture by picture, so that the first one is there soon and the rest can be stopped.
  for (const { label, chosen, note, figures } of places) {
    for (const figure of figures) {
      try {
        signal.throwIfAborted();
        const body = { model: model.id, prompt, n: 1, seed: Number(figure.dataset.seed), adapters: chosen, response_format: "b64_json" };
        const found = await (await request("/v1/images/generations", size ? { ...body, size } : body, signal)).json();
        fill(figure, found.data?.[0]?.b64_json, `${prompt} (${label}, ${t("seed")} ${figure.dataset.seed})`);
      } catch (error) {
        for (const one of figures.filter((one) => one.classList.contains("waiting"))) one.remove();
        const stopped = error.name === "AbortError" || signal.aborted;
        note.textContent = stopped ? t("stopped") : t("failed", { why: error.message });
        note.classList.toggle("wrong", !stopped);
        note.hidden = false;
        if (!stopped) announce(note.textContent);
        break;
      }
    }
  }
  if (!signal.aborted) announce(t("answered"));
}

function waiting(grid, seed) {
  const figure = make("figure", { className: "waiting", data: { seed } }, make("p", { className: "wait", data: { t: "drawing" } }, t("drawing")));
  grid.append(figure);
  return figure;
}

function fill(figure, data, name) {
  if (typeof data !== "string") throw new Error(t("odd", { status: 200 }));
  const source = `data:image/png;base64,${data}`;
  const enlarge = make("button", { type: "button", className: "picture", title: t("enlarge"), onclick: () => showLarge(source, name) }, make("img", { src: source, alt: name }));
  const save = make("a", { className: "quiet icon", href: source, download: `${figure.dataset.seed}.png`, title: t("save"), "aria-label": t("save"), data: { l: "save" } }, icon("save"));
  figure.classList.remove("waiting");
  figure.replaceChildren(enlarge, make("figcaption", {}, make("span", {}, `${t("seed")} ${figure.dataset.seed}`), save));
}

function showLarge(source, name) {
  $("large").src = source;
  $("large").alt = name;
  $("enlarged").showModal();
}
