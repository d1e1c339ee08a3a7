// SPDX-License-Identifier: Apache-2.0
// One setting as something that can be filled in, made of what `loraforge keys` says of it.

import { fill, make } from "/assets/dom.js";
import { t } from "/assets/words.js";

let count = 0;

/** A value for people. */
export const shown = (value) => (value === undefined || value === null || value === "" ? t("unset") : value === true ? t("yes") : value === false ? t("no") : Array.isArray(value) ? value.join(", ") : typeof value === "object" ? Object.entries(value).map(([k, v]) => `${k}: ${v}`).join(", ") : String(value));

/** What a config says (texts, or lists of them) as the value that it means; undefined if it says nothing. */
export function meant(key, written) {
  if (written === undefined || written === null) return undefined;
  if (key.type === "boolean" || key.type === "choice") {
    const found = [true, false, ...(key.choices ?? [])].find((choice) => String(choice) === String(written));
    return found ?? written;
  }
  if ((key.type === "integer" || key.type === "number") && written !== "" && Number.isFinite(Number(written))) return Number(written);
  if (key.type === "list" && !Array.isArray(written)) return written === "" ? undefined : [String(written)];
  if (written === "") return undefined;
  return written;
}

/** Bounds, what is usual, and what holds without the key, in a line. */
function bounds(key) {
  const said = [];
  if (key.minimum !== undefined) said.push(t("bound_least", { n: key.minimum }));
  if (key.above !== undefined) said.push(t("bound_above", { n: key.above }));
  if (key.maximum !== undefined) said.push(t("bound_most", { n: key.maximum }));
  if (key.below !== undefined) said.push(t("bound_below", { n: key.below }));
  if (key.usual) said.push(t("usual_is", { low: key.usual[0], high: key.usual[1] }));
  if (key.default && !key.required && key.default !== "[]") said.push(t("default_is", { value: key.default === "true" ? t("yes") : key.default === "false" ? t("no") : key.default }));
  return said.join(" · ");
}

/** What was typed as a value; throws a sentence if it can be none. */
function typed(key, text) {
  const bare = text.trim();
  if (bare === "") return undefined;
  if (key.type === "integer") {
    if (!/^[-+]?\d+$/.test(bare)) throw new Error(t("no_whole"));
    return Number(bare);
  }
  if (key.type === "number") {
    if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(bare)) throw new Error(t("no_number"));
    return Number(bare);
  }
  if (key.kind.includes("list") && /^\[.*\]$/.test(bare)) return bare.slice(1, -1).split(",").map((one) => one.trim()).filter(Boolean).map((one) => (one !== "" && Number.isFinite(Number(one)) ? Number(one) : one));
  if (key.kind.includes("number") && Number.isFinite(Number(bare))) return Number(bare);
  return bare;
}

function control(key, id, tell) {
  const common = { id, name: key.name, "aria-describedby": `${id}-help ${id}-bad` };
  if (key.type === "boolean" || key.type === "choice") {
    const choices = key.type === "boolean" ? [true, false] : key.choices;
    const element = make("select", common, make("option", { value: "" }, key.default ? t("default_is", { value: shown(meant(key, key.default)) }) : t("unset")),
      choices.map((choice) => make("option", { value: String(choice) }, shown(choice))));
    element.addEventListener("change", tell);
    return { element, read: () => choices.find((choice) => String(choice) === element.value), write: (value) => (element.value = value === undefined ? "" : String(value)) };
  }
  if (key.type === "list" && key.choices?.length) {
    const boxes = key.choices.map((choice) => make("input", { type: "checkbox", value: choice, id: `${id}-${choice}`, onchange: tell }));
    const element = make("div", { className: "stack", id, role: "group", "aria-describedby": common["aria-describedby"] }, boxes.map((box) =>
      make("label", { className: "row choice", htmlFor: box.id }, box, make("span", { className: "stack" }, make("strong", {}, box.value), make("span", { className: "soft" }, key.said?.[box.value] ?? "")))));
    let before = [];
    let touched = false;
    element.addEventListener("change", () => (touched = true), { capture: true });
    return {
      element,
      read: () => {
        const now = boxes.filter((box) => box.checked).map((box) => box.value);
        return !touched ? before : now;
      },
      write: (value) => {
        before = value;
        touched = false;
        for (const box of boxes) box.checked = (value ?? []).includes(box.value);
      },
    };
  }
  if (key.type === "list" || key.type === "lines") {
    const element = make("textarea", { ...common, rows: 3, spellcheck: false, placeholder: t(key.type === "list" ? "list_hint" : "lines_hint") });
    element.addEventListener("input", tell);
    const lines = () => element.value.split("\n").map((line) => line.trim()).filter(Boolean);
    const pairs = () => Object.fromEntries(lines().map((line) => [line.split(":")[0].trim(), line.slice(line.indexOf(":") + 1).trim()]));
    return {
      element,
      read: () => (lines().length ? (key.type === "list" ? lines() : pairs()) : undefined),
      write: (value) => {
        element.value = Array.isArray(value) ? value.join("\n") : value && typeof value === "object" ? Object.entries(value).map(([k, v]) => `${k}: ${v}`).join("\n") : (value ?? "");
        element.rows = Math.min(8, Math.max(2, element.value.split("\n").length));
      },
    };
  }
  const element = make("input", { ...common, type: "text", autocomplete: "off", spellcheck: false, inputMode: key.type === "integer" ? "numeric" : key.type === "number" ? "decimal" : "text" });
  element.addEventListener("input", tell);
  return {
    element,
    read: () => typed(key, element.value),
    write: (value) => (element.value = value === undefined ? "" : Array.isArray(value) ? `[${value.join(", ")}]` : String(value)),
  };
}

/**
 * A field for one key. `change(name, value)` hears of each change: undefined takes the key out; `wrong(name, sentence)` of what can be no value.
 * Returns {element, focus(), write(value), tell({problems, advice})}.
 */
export function field(key, { label = "", change, wrong }) {
  count += 1;
  const id = `set-${key.name}-${count}`;
  const bad = make("p", { id: `${id}-bad`, className: "bad-text" });
  const advice = make("p", { className: "doubt-text" });
  const part = control(key, id, () => {
    try {
      const value = part.read();
      show([], []);
      change(key.name, value);
    } catch (error) {
      show([error.message], []);
      wrong(key.name, error.message);
    }
  });
  const show = (problems, doubts) => {
    bad.textContent = problems.join("\n");
    advice.textContent = doubts.join("\n");
    bad.hidden = !problems.length;
    advice.hidden = !doubts.length;
    if (problems.length) part.element.setAttribute("aria-invalid", "true");
    else part.element.removeAttribute("aria-invalid");
  };
  show([], []);
  const grouped = part.element.getAttribute("role") === "group";
  const head = [label || null, make("code", { className: label ? "key" : "key alone" }, key.name)];
  const name = grouped ? make("p", { id: `${id}-name`, className: "label" }, head) : make("label", { htmlFor: id }, head);
  if (grouped) part.element.setAttribute("aria-labelledby", `${id}-name`);
  const limits = bounds(key);
  const element = make("div", { className: "field setting", data: { key: key.name } }, name, part.element, bad, advice,
    make("p", { id: `${id}-help`, className: "soft" }, key.help, limits ? make("span", { className: "limits" }, limits) : null));
  const write = (value) => {
    part.write(value);
    show([], []);
  };
  return { element, write, tell: show, focus: () => (part.element.focus(), part.element.scrollIntoView({ block: "center" })), mark: (text) => fill(advice, text) };
}
