// SPDX-License-Identifier: Apache-2.0
// The page: which adapter, which language, light or dark, the token, and what Enter and Esc do.

import { keepToken, models, onUnknownToken, settings } from "./api.js";
import { ask } from "./chat.js";
import { $, announce, make } from "./dom.js";
import { showFacts } from "./facts.js";
import { keepFeedback } from "./feedback.js";
import { browser, tab } from "./memory.js";
import { draw, showSizes, showStrengths } from "./pictures.js";
import { switchLanguage, t, translate } from "./words.js";

const BASE = "base";
const wide = matchMedia("(min-width: 62rem)");
let served = [];
let running = null; // the AbortController of what is being answered

const chosen = () => served.find((one) => one.id === $("model").value);
const adapters = () => served.filter((one) => one.id !== BASE);
const title = (model) => (model.id === BASE ? t("base_alone") : model.id);
const drawing = () => chosen()?.loraforge?.kind === "image";
// Strengths of several adapters go together where they stand on one base.
const beside = () => adapters().filter((one) => one.loraforge?.kind === "image" && one.loraforge.base === chosen().loraforge.base);

// --- the adapter ---------------------------------------------------------------------------------------------------------------

function showModels(found) {
  const before = $("model").value || tab.get("loraforge-model");
  served = found;
  const options = [...adapters(), ...served.filter((one) => one.id === BASE)].map((one) => make("option", { value: one.id }, title(one)));
  $("model").replaceChildren(...options);
  if (served.some((one) => one.id === before)) $("model").value = before;
  $("model").disabled = $("ask").disabled = !served.length;
  showChosen();
}

function showChosen() {
  const model = chosen();
  if (!model) {
    $("empty-title").textContent = t("none_served");
    $("empty").hidden = false;
    return;
  }
  tab.set("loraforge-model", model.id);
  document.body.dataset.kind = drawing() ? "image" : "text";
  if (drawing()) showStrengths(beside(), model.id);
  showFacts(model);
  $("empty-title").textContent = t(drawing() ? "empty_image" : "empty_text", { model: title(model) });
  const example = model.loraforge?.example;
  $("example").hidden = typeof example !== "string" || !example;
  $("example").querySelector("q").textContent = example ?? "";
  $("empty").hidden = $("turns").childElementCount > 0;
  $("question-label").textContent = t(drawing() ? "prompt" : "question");
  $("question").placeholder = t(drawing() ? "prompt" : "question");
  $("ask-label").textContent = t(drawing() ? "draw" : "ask");
  $("beside").disabled = model.id === BASE;
}

async function load() {
  try {
    showModels(await models());
  } catch (error) {
    $("empty").hidden = false;
    $("empty-title").textContent = t("failed", { why: error.message });
    announce(error.message);
  }
}

// --- asking ----------------------------------------------------------------------------------------------------------------------

async function run(work) {
  if (running) return;
  running = new AbortController();
  document.body.classList.add("busy");
  $("ask").hidden = true;
  $("stop").hidden = false;
  $("empty").hidden = true;
  try {
    await work(running.signal);
  } finally {
    const focused = document.activeElement === $("stop");
    running = null;
    document.body.classList.remove("busy");
    $("stop").hidden = true;
    $("ask").hidden = false;
    if (focused) $("question").focus();
  }
}

function submit() {
  const question = $("question").value.trim();
  const model = chosen();
  if (!question || !model || running) return;
  const names = Object.fromEntries(served.map((one) => [one.id, title(one)]));
  $("question").value = "";
  grow();
  if (!wide.matches) fold(true); // there they would hide the answer
  run((signal) => (drawing() ? draw : ask)(question, model, { base: t("base_alone"), ...names }, $("beside").checked, signal));
}

function grow() {
  const area = $("question");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight, 240)}px`;
}

$("composer").onsubmit = (event) => {
  event.preventDefault();
  submit();
};
$("question").oninput = grow;
$("question").onkeydown = (event) => {
  // While a Chinese word is being composed, Enter belongs to the input method; Safari ends the composition first, with key code 229.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
};
$("stop").onclick = () => running?.abort();
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) running?.abort();
});
document.addEventListener("again", (event) => run(event.detail));
$("example").onclick = () => {
  $("question").value = $("example").querySelector("q").textContent;
  grow();
  $("question").focus();
};
$("model").onchange = showChosen;
function fold(whether) {
  $("settings").hidden = whether;
  $("more").setAttribute("aria-expanded", String(!whether));
}

$("more").onclick = () => fold(!$("settings").hidden);
document.addEventListener("visibilitychange", () => {
  // Adapters come and go while the server runs.
  if (!document.hidden && !running && served.length) load();
});

// --- the token --------------------------------------------------------------------------------------------------------------------

let typed = null; // one dialog for all requests that were refused at once

function askForToken(wrong, refused = true) {
  typed ??= new Promise((resolve) => {
    const dialog = $("token-dialog");
    let given = false;
    $("token-wrong").hidden = !wrong;
    $("token-wrong").textContent = wrong ? t("token_wrong") : "";
    $("token").value = "";
    $("token-form").onsubmit = () => {
      given = true;
      keepToken($("token").value.trim());
    };
    dialog.onclose = () => {
      if (refused && !given) return dialog.showModal(); // Esc leads nowhere: without a token nothing can be done here
      typed = null;
      resolve();
    };
    dialog.showModal();
  });
  return typed;
}

$("key").onclick = () => askForToken(false, false).then(load);
onUnknownToken(askForToken);

// --- language and theme -----------------------------------------------------------------------------------------------------------

$("language").onclick = () => {
  switchLanguage();
  translate();
  if (served.length) showModels(served);
};
$("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  browser.set("loraforge-theme", root.dataset.theme);
};
const theme = browser.get("loraforge-theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;

function unfold() {
  $("facts").open = wide.matches;
  $("facts").querySelector("summary").tabIndex = wide.matches ? -1 : 0;
}

wide.onchange = unfold;
unfold();
$("facts").querySelector("summary").onclick = (event) => {
  if (wide.matches) event.preventDefault(); // on a wide screen they stay in view
};

translate();
showSizes();
$("empty").hidden = false;
$("empty-title").textContent = t("loading");
keepFeedback((await settings().catch(() => ({}))).feedback === true);
await load();
if (wide.matches) $("question").focus();
