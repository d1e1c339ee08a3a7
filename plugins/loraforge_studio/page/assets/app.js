// SPDX-License-Identifier: Apache-2.0
// The page: seven steps on one work. The address says which: #/train/contracts.

import { get, of, post, Problem, session } from "/assets/api.js";
import { $, announce, fill, icon, make } from "/assets/dom.js";
import { forgetCommands, showConfig } from "/assets/parts/commands.js";
import { clearProblems, showProblems } from "/assets/parts/problems.js";
import { language, speak, t } from "/assets/words.js";

const STEPS = ["begin", "data", "choose", "train", "judge", "handon", "shelf"];
let leaving = new AbortController();
let here = {};
let known = null;

/**
 * What a step gets as `at`:
 *   work     the name of the work, "" if none is open;  info: what GET /api/works/NAME says of it, null if none is open
 *   rest     what else stands in the address
 *   session  language, folder, allowed folders
 *   signal   ends when the step is left
 *   go(step, work, ...rest)   opens another step
 *   reload()                  asks for the work again and draws the step anew
 *   inform()                  asks for the work again, returns it, and draws the steps (not the step) anew
 */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const signal = leaving.signal;
  const [step, work, ...rest] = location.hash.replace(/^#\//, "").split("/").map(decoded);
  const next = { step: STEPS.includes(step) ? step : "begin", work: work ?? "", rest };
  const moved = here.step !== undefined && (next.step !== here.step || next.work !== here.work);
  const inside = $("step").contains(document.activeElement);
  if (next.work !== here.work) forgetCommands();
  here = next;
  clearProblems();
  let info = null;
  try {
    info = here.work ? await get(of(here.work), {}, signal) : null;
  } catch (error) {
    if (error.name === "AbortError") return;
    here.work = "";
    showProblems(error); // also when the folder has another name now, or is gone
  }
  if (signal.aborted) return;
  const at = { ...here, info, session: known, signal, go, reload: show, inform: null };
  at.inform = async () => {
    at.info = await get(of(here.work), {}, signal);
    drawSteps(at.info);
    showConfig(at.info.config);
    return at.info;
  };
  drawSteps(info);
  showConfig(info?.config);
  document.title = [t(here.step), here.work, "LoRAForge"].filter(Boolean).join(" – ");
  const place = make("div", { className: `step step-${here.step}` });
  fill($("step"), make("p", { className: "soft waiting" }, t("loading")));
  try {
    const { show: draw } = await import(`/assets/steps/${here.step}.js`).catch(() => {
      throw new Problem([t("offline")]);
    });
    await draw(place, at);
    if (signal.aborted) return;
    fill($("step"), place);
    announce(t(here.step));
  } catch (error) {
    if (signal.aborted) return;
    fill($("step"), place);
    showProblems(error);
  }
  if (moved || inside) focusStep({ preventScroll: !moved });
  if (moved) scrollTo(0, 0);
}

/** Whoever listens, or goes by the keyboard, goes on at the step's heading. */
function focusStep(options) {
  const heading = $("step").querySelector("h1") ?? $("step");
  heading.tabIndex = -1;
  heading.focus(options);
}

/** A part of the address, whatever somebody typed there. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function go(step, work = here.work, ...rest) {
  const wanted = `#/${[step, work, ...rest].filter((part) => part !== "").map(encodeURIComponent).join("/")}`;
  if (location.hash === wanted) show();
  else location.hash = wanted;
}

/** What may be done already: the rest is shown, and says what comes first when it is opened. */
function ready(step, info) {
  if (step === "begin" || step === "shelf") return true;
  if (!info?.begun) return false;
  return step === "judge" || step === "handon" ? info.finished.length > 0 : true;
}

function drawSteps(info) {
  $("work-name").textContent = here.work || t("no_work");
  fill($("steps"), STEPS.map((step, index) => make("li", {}, make("a", {
    href: `#/${step}${here.work ? `/${encodeURIComponent(here.work)}` : ""}`,
    className: ready(step, info) ? "" : "later",
    "aria-current": step === here.step ? "step" : undefined,
  }, make("span", { className: "count", "aria-hidden": "true" }, String(index + 1)), make("span", {}, t(step)),
  step === "train" && info?.running.includes("train") ? make("span", { className: "dot", title: t("state_running") }) : null))));
}

function drawFrame() {
  $("skip").textContent = t("skip");
  $("nav").setAttribute("aria-label", t("steps"));
  $("language").textContent = t("other_language");
  $("language").lang = language === "zh" ? "en" : "zh-CN";
  $("theme").setAttribute("aria-label", t("theme"));
  fill($("theme"), icon("theme"));
}

async function changeLanguage() {
  const wanted = known.language === "zh" ? "en" : "zh";
  known = { ...known, ...(await post("/api/language", { language: wanted })) };
  speak(known.language);
  drawFrame();
  await show();
}

function changeTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  announce(t(root.dataset.theme));
}

async function start() {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  speak(navigator.language?.startsWith("zh") ? "zh" : "en");
  drawFrame();
  $("skip").addEventListener("click", (event) => {
    event.preventDefault(); // its address would be taken for a step's
    focusStep();
  });
  try {
    known = await session();
  } catch (error) {
    showProblems(error);
    return;
  }
  speak(known.language);
  drawFrame();
  $("language").addEventListener("click", () => changeLanguage().catch(showProblems));
  $("theme").addEventListener("click", changeTheme);
  addEventListener("hashchange", show);
  // A file that misses the place for it must not be opened by the browser in the studio's stead.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
  await show();
}

start();
