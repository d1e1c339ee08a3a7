// SPDX-License-Identifier: Apache-2.0
// A brush on a picture: white is learned, black is not.

import { of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { thumbOf } from "/assets/parts/data/lesson.js";
import { t } from "/assets/words.js";

/** Turns a picture's box into a canvas; `saved(mask)` hears the name of the file that was written. */
export async function openMask({ at, row, cells, box, saved }) {
  const picture = await loaded(thumbOf(at.work, cells.file_name, 1024));
  const size = { width: picture.naturalWidth, height: picture.naturalHeight };
  const shown = make("canvas", { ...size, className: "mask-canvas", tabIndex: 0, role: "img", "aria-label": t("mask_canvas") });
  const mask = make("canvas", size);
  const pen = mask.getContext("2d");
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, size.width, size.height);
  if (cells.mask) {
    const before = await loaded(`${of(at.work, "mask")}?${new URLSearchParams({ row })}`).catch(() => null);
    if (before) pen.drawImage(before, 0, 0, size.width, size.height);
  }
  const radius = make("input", { type: "range", min: 2, max: 40, value: 8, "aria-label": t("mask_size") });
  const erase = make("input", { type: "checkbox", id: "mask-erase" });
  const draw = () => {
    const out = shown.getContext("2d");
    out.globalCompositeOperation = "source-over";
    out.globalAlpha = 1;
    out.drawImage(picture, 0, 0);
    out.globalCompositeOperation = "multiply"; // what is not learned is dimmed
    out.globalAlpha = 0.75;
    out.drawImage(mask, 0, 0);
  };
  let last = null;
  const at_ = (event) => ({ x: (event.offsetX * size.width) / shown.clientWidth, y: (event.offsetY * size.height) / shown.clientHeight });
  const stroke = (to) => {
    pen.strokeStyle = erase.checked ? "#000" : "#fff";
    pen.lineWidth = (2 * radius.value * Math.max(size.width, size.height)) / 200;
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(last.x, last.y);
    pen.lineTo(to.x + 0.01, to.y);
    pen.stroke();
    last = to;
    draw();
  };
  shown.addEventListener("pointerdown", (event) => { shown.setPointerCapture(event.pointerId); last = at_(event); stroke(last); });
  shown.addEventListener("pointermove", (event) => last && stroke(at_(event)));
  for (const name of ["pointerup", "pointercancel"]) shown.addEventListener(name, () => (last = null));
  const whole = (colour) => { pen.fillStyle = colour; pen.fillRect(0, 0, size.width, size.height); draw(); };
  draw();
  fill(box, shown, make("div", { className: "row mask-tools" },
    make("label", { className: "row" }, t("mask_size"), radius), make("label", { className: "row", htmlFor: "mask-erase" }, erase, t("mask_erase")),
    button(t("mask_all"), () => whole("#fff"), { quiet: true }), button(t("mask_clear"), () => whole("#000"), { quiet: true }),
    button(t("mask_save"), async () => {
      const png = mask.toDataURL("image/png").replace(/^[^,]*,/, "");
      await saved((await post(of(at.work, "mask"), { row, file: cells.file_name, png })).mask);
    }, { primary: true })));
}

function loaded(source) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error(t("no_preview")));
    image.src = source;
  });
}
