// SPDX-License-Identifier: Apache-2.0
// Pictures and answers beside each other.

import { fileOf } from "/assets/api.js";
import { button, make } from "/assets/dom.js";
import { own } from "/assets/parts/own.js";

const t = own("judge");

const IMAGE = /\.(png|jpe?g|webp)$/i;

/** Whether an answer is the name of a picture that was drawn. */
export const isPicture = (answer) => IMAGE.test(answer) && !/\s{2}|\n/.test(answer);

/** A picture of a work with words below; a click shows it large. */
export function picture(work, path, words, { stamp = "" } = {}) {
  const source = fileOf(work, path) + (stamp ? `&at=${encodeURIComponent(stamp)}` : "");
  const open = make("button", { type: "button", "aria-label": t("enlarge", { what: words }) }, make("img", { src: source, alt: words, loading: "lazy" }));
  open.addEventListener("click", () => large(source, words));
  return make("figure", { className: "picture" }, open, make("figcaption", {}, words));
}

function large(source, words) {
  const shown = make("dialog", { "aria-label": words }, make("div", { className: "stack" },
    make("img", { className: "large-picture", src: source, alt: words }), make("p", {}, words),
    make("div", { className: "row" }, button(t("close"), () => shown.close()))));
  shown.addEventListener("close", () => shown.remove());
  document.body.append(shown);
  shown.showModal();
}

/** What a side of `sample` is called: base, a checkpoint, or an adapter, and how strongly. */
export function sideName(name) {
  if (name === "base") return t("side_base");
  const [whole, step, scale] = name.match(/^step-(\d+)(?: × (.+))?$/) ?? [];
  if (whole) return scale ? t("step_scale", { n: Number(step), scale }) : t("step_n", { n: Number(step) });
  return name;
}

/** Answers in words, one beside the other. */
export function answerCards(answers, ended = {}) {
  return make("div", { className: "answers" }, answers.map(([name, text]) => make("div", { className: name === "base" ? "answer" : "answer own" },
    make("p", { className: "who" }, sideName(name)), make("p", {}, text || t("empty_answer")),
    ended?.[name] === "repetition" ? make("p", { className: "doubt" }, t("repeats")) : null)));
}
