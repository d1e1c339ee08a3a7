// SPDX-License-Identifier: Apache-2.0
// The adapter in the formats that other programs read, each with what reads it and how.

import { get, of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { copyable, told } from "/assets/parts/commands.js";
import { jobCard } from "/assets/parts/jobs.js";
import { own } from "/assets/parts/own.js";
import { showProblems } from "/assets/parts/problems.js";
import { download } from "/assets/steps/handon.js";
import { bytes, number } from "/assets/words.js";

const t = own("handon");
const QUANTIZE = ["f16", "bf16", "f32", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"];

export function exporters(place, at, found) {
  const list = make("div", { className: "stack" }, make("p", { className: "soft" }, t("loading")));
  place.append(make("section", { className: "card", data: { part: "exports" } }, make("h2", {}, t("exports")), make("p", {}, t("exports_hint")),
    list));
  get(of(at.work, "hand", "exporters"), { run: found.run }, at.signal).then((told_) => {
    told(told_.command);
    fill(list, told_.exporters.map((one) => item(at, found, one)));
  }).catch((error) => {
    fill(list);
    showProblems(error);
  });
}

function item(at, found, one) {
  const below = make("div", { className: "stack" });
  const newest = at.info.jobs.find((job) => job.kind === "export" && job.about.run === found.run && job.about.to === one.name);
  const options = optionsOf(at, one.name);
  const follow = (job) => fill(below, jobCard(job, { title: one.name, signal: at.signal, ended: (now) => now.state === "done" && at.reload() }));
  const start = button(t(one.files.length ? "write_again" : "write_it"), async () => {
    follow(await post(of(at.work, "hand", "export"), { run: found.run, to: one.name, ...options.values() }));
    await at.inform();
  });
  if (newest && newest.state !== "done") follow(newest);
  else if (newest) fill(below, outcome(newest.result));
  return make("article", { className: "pair", data: { exporter: one.name } },
    make("div", { className: "row" }, make("h3", {}, one.name), one.files.length ? make("span", { className: "tag good" }, t("written")) : null, make("span", { className: "grow" }), start),
    make("p", {}, one.help),
    options.element,
    one.files.length ? files(at, found, one) : null, below);
}

/** What an exporter can be told. */
function optionsOf(at, name) {
  if (name === "webui") {
    const webui = make("input", { id: "webui", placeholder: at.session.allowed[0] ?? "", autocomplete: "off", spellcheck: false });
    const overwrite = make("input", { type: "checkbox", id: "overwrite" });
    return {
      values: () => ({ webui: webui.value.trim(), overwrite: overwrite.checked }),
      element: make("details", {}, make("summary", {}, t("install")), make("div", { className: "stack" },
        make("div", { className: "field" }, make("label", { htmlFor: "webui" }, t("webui_folder")), webui,
          make("p", { className: "soft" }, t("webui_hint")), make("p", { className: "soft" }, at.session.allowed.length ? t("allowed", { folders: at.session.allowed.join(", ") }) : t("none_allowed"))),
        make("div", { className: "row" }, overwrite, make("label", { htmlFor: "overwrite" }, t("overwrite"))))),
    };
  }
  if (name === "gguf-merged") {
    const quantize = make("select", { id: "quantize" }, QUANTIZE.map((one) => make("option", { value: one }, one)));
    return {
      values: () => ({ options: { quantize: quantize.value } }),
      element: make("details", {}, make("summary", {}, t("quantize")), make("div", { className: "field" }, make("label", { htmlFor: "quantize" }, t("stored_as")), quantize, make("p", { className: "soft" }, t("quantize_hint")))),
    };
  }
  if (name === "ollama") {
    const from = make("input", { id: "ollama-from", autocomplete: "off", spellcheck: false });
    return {
      values: () => ({ options: { "ollama-from": from.value.trim() } }),
      element: make("details", {}, make("summary", {}, t("ollama_base")), make("div", { className: "field" }, make("label", { htmlFor: "ollama-from" }, t("ollama_from")), from, make("p", { className: "soft" }, t("ollama_hint")))),
    };
  }
  return { values: () => ({}), element: null };
}

function files(at, found, one) {
  const total = one.files.reduce((sum, file) => sum + file.bytes, 0);
  return make("details", {}, make("summary", {}, t("files_n", { n: number(one.files.length), size: bytes(total) })), make("div", { className: "stack" },
    make("div", { className: "row" }, make("a", { className: "press", href: download(at, `${found.run}/export/${one.name}`), download: "" }, t("download_all"))),
    make("ul", { className: "lines" }, one.files.map((file) => make("li", { className: "row" },
      make("a", { href: download(at, file.path), download: "" }, file.name), make("span", { className: "soft" }, bytes(file.bytes)))))));
}

/** How an export is used, as the command says it. */
function outcome(result) {
  if (!result || !Array.isArray(result.usage)) return [];
  return [
    result.delivered?.length ? make("ul", { className: "stack good" }, result.delivered.map((line) => make("li", {}, line))) : null,
    result.usage.length ? make("div", { className: "stack" }, make("p", { className: "soft" }, t("how_to_use")), copyable(result.usage.join("\n"))) : null,
  ];
}

