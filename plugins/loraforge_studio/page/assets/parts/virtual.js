// SPDX-License-Identifier: Apache-2.0
// Long lists of which only what is seen is made: thousands of rows or pictures stay smooth.

import { make } from "/assets/dom.js";

const TALLEST = 8e6; // pixels

/**
 * A grid of `count` things, all `height` pixels high, at least `width` wide (0: one a line). `draw(index)` makes one.
 * Returns {element, refresh(count)}: `refresh` draws anew what is seen.
 */
export function virtual({ count, height, width = 0, draw, label = "", role = "list" }) {
  const inner = make("div", { className: "virtual-inner" });
  const element = make("div", { className: "virtual", role, "aria-label": label, tabIndex: 0 }, inner);
  let total = count;
  let made = new Map();
  let ratio = 1; // pixels of the list for one of the scroll bar: browsers end at some millions
  const columns = () => (width ? Math.max(1, Math.floor(element.clientWidth / width)) : 1);
  const place = () => {
    const across = columns();
    const whole = Math.ceil(total / across) * height;
    const tall = Math.min(whole, TALLEST);
    inner.style.height = `${tall}px`;
    ratio = whole > tall ? (whole - element.clientHeight) / (tall - element.clientHeight) : 1;
    const above = element.scrollTop * ratio;
    const first = Math.max(0, Math.floor(above / height) - 3) * across;
    const last = Math.min(total, (Math.ceil((above + element.clientHeight) / height) + 3) * across);
    const next = new Map();
    for (const [index, one] of made) if (one.contains(document.activeElement) && index < total) next.set(index, one); // it keeps the keyboard
    for (let index = first; index < last; index += 1) next.set(index, made.get(index) ?? draw(index));
    for (const [index, one] of next) {
      one.style.position = "absolute";
      one.style.top = `${Math.floor(index / across) * height - above + element.scrollTop}px`;
      one.style.left = `${((index % across) * 100) / across}%`;
      one.style.width = `${100 / across}%`;
      one.style.height = `${height}px`;
      if (role === "list") one.setAttribute("role", "listitem");
      one.setAttribute("aria-posinset", index + 1);
      one.setAttribute("aria-setsize", total);
      if (!made.has(index)) inner.append(one);
    }
    for (const [index, one] of made) if (!next.has(index)) one.remove();
    made = next;
  };
  const refresh = (now = total) => {
    total = now;
    for (const one of made.values()) one.remove();
    made = new Map();
    place();
  };
  element.addEventListener("scroll", () => requestAnimationFrame(place), { passive: true });
  new ResizeObserver(() => place()).observe(element);
  const reveal = (index) => {
    element.scrollTop = Math.max(0, Math.floor(index / columns()) * height - element.clientHeight / 3) / ratio;
    place();
    return made.get(index);
  };
  return { element, refresh, reveal };
}
