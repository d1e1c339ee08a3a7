// SPDX-License-Identifier: Apache-2.0
// The model card as text, the seal, signatures, and whether anything was altered.

import { get, of, post } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { copyable, told } from "/assets/parts/commands.js";
import { own } from "/assets/parts/own.js";
import { download } from "/assets/steps/handon.js";
import { number } from "/assets/words.js";

const t = own("handon");
const TONE = { unchanged: "good", altered: "wrong", missing: "wrong", added: "wrong", differs: "doubt" };
const ORDER = ["altered", "missing", "added", "differs", "not checked", "unchanged", "not recorded"];

export async function trust(place, at, found) {
  const { text } = await get(of(at.work, "hand", "card"), { run: found.run }, at.signal);
  place.append(cardPart(at, found, text), verifyPart(at, found), keyPart(at, found));
}

function cardPart(at, found, text) {
  const body = make("div", { className: "card-text", tabIndex: 0, role: "region", "aria-label": t("card") });
  const draw = (now) => {
    body.hidden = !now;
    take.hidden = !now;
    fill(body, markdown(now));
  };
  const write = button(t(text ? "card_again" : "card_write"), async () => {
    const done = await post(of(at.work, "hand", "card"), { run: found.run });
    told(done.command);
    draw(done.text);
    announce(t("card_written"));
  });
  const take = make("a", { className: "press", href: download(at, `${found.run}/model-card.md`), download: "" }, t("download"));
  draw(text);
  return make("details", { className: "card", data: { part: "card" } }, make("summary", {}, t("card")), make("div", { className: "within" },
    make("p", {}, t("card_hint")), make("div", { className: "row" }, write, take), body));
}

/** A card's headings, lists and tables as elements; its words stay words. */
export function markdown(text) {
  const made = [];
  const lines = text.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index];
    const take = (test) => {
      const found = [];
      while (index < lines.length && test(lines[index])) found.push(lines[index++]);
      index -= 1;
      return found;
    };
    if (/^#+ /.test(line)) made.push(make(`h${Math.min(4, line.match(/^#+/)[0].length + 1)}`, {}, line.replace(/^#+ /, "")));
    else if (line.startsWith("- ")) made.push(make("ul", { className: "dots" }, take((one) => one.startsWith("- ")).map((one) => make("li", {}, spans(one.slice(2))))));
    else if (line.startsWith("|")) made.push(table(take((one) => one.startsWith("|"))));
    else if (line.startsWith("```")) {
      index += 1;
      made.push(make("pre", {}, take((one) => !one.startsWith("```")).join("\n")));
      index += 1;
    } else if (line.trim()) made.push(make("p", {}, spans(line)));
  }
  return made;
}

const spans = (text) => text.split(/(`[^`]+`)/).map((part) => (/^`[^`]+`$/.test(part) ? make("code", {}, part.slice(1, -1)) : part.replaceAll("**", ""))).filter((part) => part !== "");

function table(lines) {
  const rows = lines.filter((line) => !/^\|[\s:|-]+\|$/.test(line)).map((line) => line.replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim()));
  const [head, ...rest] = rows;
  return make("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": head.join(", ") }, make("table", {},
    make("thead", {}, make("tr", {}, head.map((cell) => make("th", { scope: "col" }, spans(cell))))),
    make("tbody", {}, rest.map((cells) => make("tr", {}, cells.map((cell) => make("td", {}, spans(cell))))))));
}

function verifyPart(at, found) {
  const seal = make("input", { id: "seal", autocomplete: "off", spellcheck: false });
  const data = make("input", { type: "checkbox", id: "with-data", checked: true });
  const result = make("div", { className: "stack", "aria-live": "polite" });
  const check = button(t("verify"), async () => {
    fill(result, make("p", { className: "soft" }, t("verifying")));
    try {
      const told_ = await post(of(at.work, "hand", "verify"), { run: found.run, seal: seal.value, data: data.checked });
      told(told_.command);
      fill(result, verdict(told_));
    } catch (error) {
      fill(result);
      throw error;
    }
  }, { primary: true });
  return make("section", { className: "card", data: { part: "verify" } }, make("h2", {}, t("verify_title")), make("p", {}, t("verify_why")),
    found.seal ? make("div", { className: "stack" }, make("p", { className: "soft" }, t("seal_is")), copyable(found.seal)) : make("p", { className: "doubt" }, t("no_seal")),
    make("details", {}, make("summary", {}, t("finer")), make("div", { className: "stack" },
      make("div", { className: "field" }, make("label", { htmlFor: "seal" }, t("kept_seal")), seal, make("p", { className: "soft" }, t("kept_seal_hint"))),
      make("div", { className: "row" }, data, make("label", { htmlFor: "with-data" }, t("with_data"))))),
    make("div", { className: "row" }, check), result);
}

/** The verdict in words: a sentence, a line for each kind of thing, and all that is not as it was. */
function verdict(told_) {
  const kinds = [...new Set(told_.parts.map((part) => part.kind))];
  const records = told_.parts.some((part) => part.kind === "record");
  const odd = told_.parts.filter((part) => ["altered", "missing", "added"].includes(part.state));
  const other = told_.parts.filter((part) => part.state === "differs");
  return [
    make("p", { className: `verdict ${told_.sound ? "good" : "wrong"}`, data: { sound: String(told_.sound) } }, t(told_.sound ? (records ? "sound_later" : "sound") : "unsound")),
    odd.length ? make("ul", { className: "problems" }, odd.slice(0, 50).map((part) => make("li", {}, `${t(`state_of_${part.state}`)} – ${part.name}: ${part.sentence}`))) : null,
    other.length ? make("ul", { className: "stack doubt" }, other.slice(0, 50).map((part) => make("li", {}, `${t("state_of_differs")} – ${part.name}: ${part.sentence}`))) : null,
    make("div", { className: "scroll" }, make("table", { className: "stacked" }, make("tbody", {}, kinds.map((kind) => {
      const parts = told_.parts.filter((part) => part.kind === kind);
      const state = ORDER.find((one) => parts.some((part) => part.state === one)) ?? parts[0].state;
      const same = parts.filter((part) => part.state === "unchanged").length;
      const last = kind === "data" || parts.length === 1 ? parts.at(-1).sentence : t("same_of", { n: number(same), all: number(parts.length) });
      return make("tr", {}, make("td", {}, t(`kind_${kind}`)), make("td", {}, make("span", { className: `tag ${TONE[state] ?? ""}` }, t(`state_of_${state}`))), make("td", {}, last));
    })))),
    make("ul", { className: "dots stack" }, told_.conclusions.map((line) => make("li", {}, line))),
  ];
}

function keyPart(at, found) {
  const name = make("input", { id: "signer", maxLength: 100, autocomplete: "name" });
  const result = make("div", { className: "stack", "aria-live": "polite" });
  const create = button(t("key_make"), async () => {
    const made = await post("/api/key", { name: name.value });
    told(made.command);
    fill(result, make("p", { className: "good" }, t("key_made", { path: made.public_key })), copyable(made.key));
  });
  return make("details", { className: "card", data: { part: "key" } }, make("summary", {}, t("sign"), found.signed ? make("span", { className: "tag good" }, t("signed")) : null),
    make("div", { className: "within" }, make("p", {}, t("sign_why")), make("div", { className: "field" }, make("label", { htmlFor: "signer" }, t("key_name")), name),
      make("div", { className: "row" }, create), result));
}
