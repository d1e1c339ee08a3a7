// SPDX-License-Identifier: Apache-2.0
// Asking: the adapter's answer, and the base's beside it.

import { Answer } from "./answers.js";
import { answer as answerOf } from "./api.js";
import { $, announce, make } from "./dom.js";
import { t } from "./words.js";

const BASE = "base";
const turns = []; // {question, said: {model: text}}; what was stopped, failed or is empty is not gone on from

const whole = (id) => {
  const field = $(id);
  return field.value.trim() !== "" && field.validity.valid ? field.valueAsNumber : undefined;
};

function historyOf(model) {
  return $("follow").checked ? turns.filter((turn) => turn.said[model]?.trim()).map((turn) => [turn.question, turn.said[model]]) : [];
}

/** @param model an entry of /v1/models; @param names what each side is called */
export async function ask(question, model, names, beside, signal) {
  const turn = { question, said: {} };
  const sides = beside && model.id !== BASE ? [model.id, BASE] : [model.id];
  const answers = make("div", { className: "answers", data: { sides: sides.length } });
  const element = make("li", { className: "turn" }, make("h2", {}, make("span", { className: "hidden", data: { t: "you_asked" } }, t("you_asked")), question), answers);
  $("turns").append(element);
  element.scrollIntoView({ block: "start" });
  const histories = Object.fromEntries(sides.map((side) => [side, historyOf(side)]));
  turns.push(turn);
  const shown = await Promise.all(sides.map((side) => give(turn, side, names[side] ?? side, histories[side], answers, signal)));
  for (const one of shown) one.readOut();
  if (!signal.aborted) announce(t("answered"));
}

async function give(turn, side, label, history, answers, signal, replaced = null) {
  const shown = new Answer(label, side === BASE ? "base" : "adapter", answers.dataset.sides === "1" || side !== BASE);
  if (replaced) replaced.replaceWith(shown.element);
  else answers.append(shown.element);
  const messages = [...history.flatMap(([asked, said]) => [
    { role: "user", content: asked },
    { role: "assistant", content: said },
  ]), { role: "user", content: turn.question }];
  const asked = { model: side, question: turn.question, history };
  const settings = { temperature: whole("temperature"), max_tokens: whole("max-tokens"), seed: whole("seed") };
  try {
    for await (const piece of answerOf({ model: side, messages, ...settings }, signal)) {
      if (piece.text) shown.push(piece.text);
      else {
        shown.finish(piece.finish, piece.tokens, asked);
        if (piece.finish !== "length" && shown.text.trim()) turn.said[side] = shown.text;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) shown.finish("stopped", null, asked);
    else {
      shown.fail(error.message, () => {
        if (!document.body.classList.contains("busy")) document.dispatchEvent(new CustomEvent("again", { detail: retry }));
      });
    }
  }
  return shown;
  async function retry(next) {
    (await give(turn, side, label, history, answers, next, shown.element)).readOut();
  }
}
