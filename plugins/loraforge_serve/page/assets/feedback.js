// SPDX-License-Identifier: Apache-2.0
// Thumbs and corrections. Nothing is sent before somebody has said so twice: what is kept may be learned.

import { request } from "./api.js";
import { announce, icon, make } from "./dom.js";
import { t } from "./words.js";

let kept = false;

/** Whether the server keeps feedback; without, no thumbs are shown. */
export function keepFeedback(whether) {
  kept = whether;
}

/** The thumbs of an answer; none where they would lead nowhere. */
export function feedbackOn(answer, asked) {
  if (!kept || !answer.text.trim()) return [];
  const thumb = (rating, label) =>
    make(
      "button",
      { type: "button", className: "quiet icon", title: t(label), "aria-label": t(label), "aria-expanded": "false", data: { l: label } },
      icon(rating),
    );
  const up = thumb("up", "good");
  const down = thumb("down", "bad");
  const buttons = [up, down];
  let form = null;
  const close = (focus) => {
    form?.remove();
    form = null;
    for (const one of buttons) one.setAttribute("aria-expanded", "false");
    focus?.focus();
  };
  const open = (button, made) => {
    const again = button.getAttribute("aria-expanded") === "true";
    close(again ? button : null);
    if (again) return;
    form = made;
    button.setAttribute("aria-expanded", "true");
    answer.foot.after(form);
    form.onkeydown = (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      event.stopPropagation();
      close(button);
    };
    form.querySelector("textarea, button").focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
  };
  const send = async (rating, correction, problem) => {
    const all = [...form.querySelectorAll("button, textarea")];
    for (const one of all) one.disabled = true;
    try {
      const said = { ...asked, answer: answer.text, rating, correction };
      const { learned } = await (await request("/feedback", said)).json();
      const thanks = make("p", { className: "thanks", tabIndex: -1 }, t(learned ? "kept_row" : "kept_note"));
      form.replaceWith(thanks);
      form = null;
      for (const one of buttons) one.remove();
      announce(thanks.textContent);
      thanks.focus({ preventScroll: true });
    } catch (error) {
      for (const one of all) one.disabled = false;
      problem.textContent = error.message;
      problem.hidden = false;
    }
  };
  up.onclick = () => open(up, confirmation(() => close(up), send));
  down.onclick = () => open(down, correcting(answer.text, () => close(down), send));
  return answer.whole ? buttons : [down]; // half an answer is nothing to learn
}

const button = (name, className, onclick) => make("button", { type: "button", className, onclick, data: { t: name } }, t(name));
const problemLine = () => make("p", { className: "wrong", role: "alert", hidden: true });

function confirmation(cancel, send) {
  const problem = problemLine();
  const text = make("p", { data: { t: "good_long" } }, t("good_long"));
  const actions = make("div", { className: "actions" }, button("keep", "primary", () => send("up", null, problem)), button("cancel", "quiet", cancel));
  return make("form", { className: "feedback", onsubmit: (event) => event.preventDefault() }, text, problem, actions);
}

function correcting(answer, cancel, send) {
  const problem = problemLine();
  const area = make("textarea", { value: answer, rows: Math.min(12, 3 + Math.ceil(answer.length / 60)), maxLength: 200000 });
  const hint = make("p", { className: "hint", data: { t: "correction_hint" } }, t("correction_hint"));
  const label = make("label", {}, make("span", { data: { t: "correction" } }, t("correction")), area);
  const changed = () => area.value.split(/\s+/).join(" ").trim() !== answer.split(/\s+/).join(" ").trim() && area.value.trim() !== "";
  const keep = button("keep_correction", "primary", () => send("down", area.value, problem));
  keep.disabled = true;
  area.oninput = () => (keep.disabled = !changed());
  const actions = make("div", { className: "actions" }, keep, button("only_wrong", "plain", () => send("down", null, problem)), button("cancel", "quiet", cancel));
  return make("form", { className: "feedback", onsubmit: (event) => event.preventDefault() }, label, hint, problem, actions);
}
