// SPDX-License-Identifier: Apache-2.0
// One answer on the page: its text as it comes, its citations marked, and what people may do with it.

import { pieces } from "./citations.js";
import { $, announce, icon, make } from "./dom.js";
import { feedbackOn } from "./feedback.js";
import { t } from "./words.js";

const SENTENCE = /[\s\S]*(?:[。！？!?；\n]|\.\s)/;
const REMEMBERED = 12; // sentences that a listener can go back to

/** Appends to what is read out to people who listen. */
function speak(text) {
  if (!text.trim()) return;
  $("spoken").append(make("p", {}, text));
  while ($("spoken").childElementCount > REMEMBERED) $("spoken").firstElementChild.remove();
}

export class Answer {
  /**
   * @param label what the side is called; @param spoken whether it is read out sentence by sentence, or whole at its end
   */
  constructor(label, className, spoken) {
    this.text = "";
    this.whole = false;
    this.label = label;
    this.spoken = spoken;
    this.read = 0;
    this.begun = performance.now();
    this.body = make("div", { className: "body", lang: "" });
    this.note = make("p", { className: "note", hidden: true });
    this.foot = make("div", { className: "foot" });
    this.wait = make("p", { className: "wait", data: { t: "waiting" } }, t("waiting"));
    this.element = make("section", { className: `answer ${className}`, "aria-label": label }, make("h3", {}, label), this.wait, this.body, this.note, this.foot);
    this.element.setAttribute("aria-busy", "true");
  }

  push(text) {
    this.text += text;
    this.wait.hidden = true;
    this.frame ??= requestAnimationFrame(() => this.show());
    if (!this.spoken) return;
    const ready = SENTENCE.exec(this.text.slice(this.read))?.[0] ?? "";
    if (ready) speak(ready);
    this.read += ready.length;
  }

  show() {
    this.frame = null;
    const found = pieces(this.text);
    this.body.replaceChildren(...found.map((one) => (one.cited ? make("mark", { title: t("cited") }, one.text) : one.text)));
    this.citations = found.filter((one) => one.cited).length;
  }

  tell(text, wrong = false) {
    this.note.textContent = text;
    this.note.hidden = !text;
    this.note.classList.toggle("wrong", wrong);
  }

  /** @param asked {model, question, history} of this answer, for feedback; @param finish of the server, or "stopped" */
  finish(finish, tokens, asked) {
    cancelAnimationFrame(this.frame);
    this.show();
    this.end();
    this.whole = finish === "stop";
    if (finish === "stopped") this.tell(t("stopped"));
    else if (finish === "length") this.tell(t("cut"));
    if (this.spoken) speak(this.text.slice(this.read));
    if (this.citations) this.body.after(make("p", { className: "cited" }, this.citations > 1 ? t("citations", { n: this.citations }) : t("citation")));
    const took = [tokens ? t("tokens", { n: tokens }) : "", t("seconds", { n: ((performance.now() - this.begun) / 1000).toFixed(1) })];
    this.foot.append(...feedbackOn(this, asked), this.copyButton(), make("span", { className: "took" }, took.filter(Boolean).join(" · ")));
  }

  /** Reads out an answer that was not read while it came: two at once nobody understands. */
  readOut() {
    if (!this.spoken && this.text) speak(`${this.label}: ${this.text}`);
  }

  fail(why, again) {
    cancelAnimationFrame(this.frame);
    this.show();
    this.end();
    this.tell(t("failed", { why }), true);
    announce(`${this.label}: ${t("failed", { why })}`);
    this.foot.append(make("button", { type: "button", className: "quiet", onclick: again, data: { t: "again" } }, t("again")));
  }

  end() {
    this.wait.hidden = true;
    this.element.setAttribute("aria-busy", "false");
  }

  copyButton() {
    const button = make("button", { type: "button", className: "quiet icon", title: t("copy"), "aria-label": t("copy"), data: { l: "copy" } }, icon("copy"));
    button.onclick = async () => {
      try {
        await navigator.clipboard.writeText(this.text);
        announce(t("copied"));
        button.classList.add("done");
        setTimeout(() => button.classList.remove("done"), 1500);
      } catch {
        getSelection().selectAllChildren(this.body); // without https there is no clipboard: then it is ready for Ctrl+C
      }
    };
    return button;
  }
}
