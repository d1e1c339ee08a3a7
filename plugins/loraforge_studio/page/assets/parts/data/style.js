// SPDX-License-Identifier: Apache-2.0
// The style of the first two steps, which the others need not load.

import { make } from "/assets/dom.js";

let loaded = null;

/** Resolves when it is there. */
export function styled() {
  loaded ??= new Promise((done) => {
    document.head.append(make("link", { rel: "stylesheet", href: "/assets/parts/data/data.css", onload: done, onerror: done }));
  });
  return loaded;
}
