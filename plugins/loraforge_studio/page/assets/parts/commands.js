// SPDX-License-Identifier: Apache-2.0
// The commands that stand for what was done, and the config, below every step.

import { $, button, fill, make } from "/assets/dom.js";
import { t } from "/assets/words.js";

const shown = [];

/** Adds a command; the newest stands first. */
export function told(line) {
  if (!line || shown[0] === line) return;
  shown.unshift(line);
  shown.length = Math.min(shown.length, 30);
  drawCommands();
}

export function forgetCommands() {
  shown.length = 0;
}

/** Something that can be copied, with a button for it. */
export function copyable(text, label = t("copy")) {
  const done = button(label, async () => {
    await navigator.clipboard.writeText(text);
    done.textContent = t("copied");
    setTimeout(() => (done.textContent = label), 1500);
  }, { quiet: true });
  return make("div", { className: "copyable" }, make("pre", { tabIndex: 0 }, make("code", {}, text)), done);
}

let config = "";

export function showConfig(text) {
  config = text ?? "";
  drawCommands();
}

function drawCommands() {
  $("commands").hidden = !shown.length && !config;
  fill(
    $("commands"),
    make("summary", {}, t("commands"), make("span", { className: "soft one-line" }, shown[0] ?? "")),
    make("div", { className: "within" },
      make("p", { className: "soft" }, t("commands_hint")),
      shown.map((line) => copyable(line)),
      config ? make("h2", {}, t("config")) : null,
      config ? copyable(config) : null),
  );
}
