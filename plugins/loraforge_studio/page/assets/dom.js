// SPDX-License-Identifier: Apache-2.0
// Elements made of text. Nothing here, or anywhere on this page, takes markup: what strangers' files say stays text.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An element with properties, and texts or elements in it; what is null or false among them is left out. */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "data") Object.assign(made.dataset, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-") && name !== "list" && name !== "form") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/assets/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Other contents for an element. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Tells people who listen what has happened; the same once more is told once more. */
export function announce(text) {
  $("status").textContent = "";
  setTimeout(() => ($("status").textContent = text), 50);
}

/** A button; while what it does is under way it can't be pressed again, and what goes wrong is shown beside it. */
export function button(text, act, { primary = false, quiet = false, name = "" } = {}) {
  const made = make("button", { type: "button", className: primary ? "primary" : quiet ? "quiet" : "" }, name ? icon(name) : null, text);
  made.addEventListener("click", async () => {
    if (made.getAttribute("aria-busy") === "true") return;
    const focused = document.activeElement === made;
    made.setAttribute("aria-busy", "true");
    try {
      await act(made);
    } catch (error) {
      const { showProblems } = await import("/assets/parts/problems.js");
      showProblems(error);
    } finally {
      made.removeAttribute("aria-busy");
      if (focused && document.activeElement === document.body) made.focus(); // a button that cannot be pressed loses it
    }
  });
  return made;
}
