// SPDX-License-Identifier: Apache-2.0
// What a run draws on its way, with a slider over its steps.

import { fileOf, get, of } from "/assets/api.js";
import { fill, make } from "/assets/dom.js";
import { number, t } from "/assets/words.js";

/** A card that is hidden while nothing was drawn. Returns {element, refresh()}; the newest is shown until somebody moves the slider. */
export function samplesCard(work, run, signal) {
  const slider = make("input", { type: "range", min: 0, step: 1, id: "samples-step" });
  const label = make("label", { htmlFor: "samples-step" });
  const pictures = make("div", { className: "samples" });
  const element = make("section", { className: "card", hidden: true }, make("h2", {}, t("samples")), label, slider, pictures);
  let found = [];
  let newest = true;
  const draw = () => {
    const one = found[Number(slider.value)];
    if (!one) return;
    const said = one.step === 0 ? t("samples_base") : t("samples_at", { n: number(one.step) });
    label.textContent = said;
    slider.setAttribute("aria-valuetext", said);
    fill(pictures, one.pictures.map((picture) => make("figure", {}, make("img", { src: fileOf(work, picture.path), alt: picture.prompt, loading: "lazy" }), make("figcaption", { className: "soft" }, picture.prompt))));
  };
  slider.addEventListener("input", () => {
    newest = Number(slider.value) === found.length - 1;
    draw();
  });
  const refresh = async () => {
    try {
      found = (await get(of(work, "samples"), { run }, signal)).filter((one) => one.pictures.length);
    } catch (error) {
      if (error.name !== "AbortError") console.info(error.message);
      return;
    }
    element.hidden = !found.length;
    slider.max = Math.max(0, found.length - 1);
    if (newest) slider.value = found.length - 1;
    draw();
  };
  return { element, refresh };
}
