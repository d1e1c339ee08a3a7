// SPDX-License-Identifier: Apache-2.0
// Long lists of which only what is seen is made: thousands of rows or pictures stay smooth.

import { make } from "/assets/dom.js";

/**
 * A grid of `count` things, all `height` pixels high, at least `width` wide (0: one a line). `draw(index)` makes one.
 * Returns {element, refresh(count)}: `refresh` draws anew what is seen.
 */
export function virtual({ count, height, width = 0, draw, label = "", role = "list" }) {
  const inner = make("div", { className: "virtual-inner" });
  const element = make("div", { className: "virtual", role, "aria-label": label, tabIndex: 0 }, inner);
  let total = count;
  let made = new Map();
  const columns = () => (width ? Math.max(1, Math.floor(element.clientWidth / width)) : 1);
  const place = () => {
    const across = columns();
    inner.style.height = `${Math.ceil(total / across) * height}px`;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - 3) * across;
    const last = Math.min(total, (Math.ceil((element.scrollTop + element.clientHeight) / height) + 3) * across);
    const next = new Map();
    for (let index = first; index < last; index += 1) {
      const one = made.get(index) ?? draw(index);
      one.style.position = "absolute";
      one.style.top = `${Math.floor(index / across) * height}px`;
      one.style.left = `${((index % across) * 100) / across}%`;
      one.style.width = `${100 / across}%`;
      one.style.height = `${height}px`;
      if (role === "list") one.setAttribute("role", "listitem");
      one.setAttribute("aria-posinset", index + 1);
      one.setAttribute("aria-setsize", total);
      next.set(index, one);
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
  new ResizeObserver(() => refresh()).observe(element);
  const reveal = (index) => {
    element.scrollTop = Math.max(0, Math.floor(index / columns()) * height - element.clientHeight / 3);
    place();
    return made.get(index);
  };
  return { element, refresh, reveal };
}
