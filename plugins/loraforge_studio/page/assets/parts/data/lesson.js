// SPDX-License-Identifier: Apache-2.0
// Rows as the model learns them, and pictures on a sheet.

import { of } from "/assets/api.js";
import { make } from "/assets/dom.js";
import { t } from "/assets/words.js";

const MARKS = /<\|im_start\|>\w+\n|<\|[^|>]{1,40}\|>\n?/g; // by which a model tells turns apart: noise to who reads

/** A row of `check --show`: what is learned is highlighted. */
export function lesson(row) {
  const pieces = row.pieces.map((piece) => ({ text: piece.text.replace(MARKS, "").trim(), learned: piece.learned })).filter((piece) => piece.text);
  return make("li", { className: "lesson" }, make("span", { className: "soft" }, row.where),
    pieces.map((piece) => make(piece.learned ? "mark" : "p", { className: piece.learned ? "learned" : "" }, piece.text)));
}

/** Where a small picture is shown from; `file` as the table or the list of pictures calls it. */
export const thumbOf = (work, file, side = 256) => `${of(work, "thumb")}?${new URLSearchParams({ file, side })}`;

/** A picture of a sheet; one that can't be shown says so by its name. */
export function tile(work, file, text = file) {
  const image = make("img", { alt: text, loading: "lazy", decoding: "async", src: thumbOf(work, file) });
  const box = make("div", { className: "tile-picture" }, image);
  image.addEventListener("error", () => box.replaceChildren(make("span", { className: "soft" }, t("no_preview"))));
  return box;
}
