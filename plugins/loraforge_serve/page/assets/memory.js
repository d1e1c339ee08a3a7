// SPDX-License-Identifier: Apache-2.0
// What this browser remembers: for this tab alone, or until somebody clears it. Where it may not, only while the page is open.

const inMind = new Map();

function memory(store) {
  return {
    get(key) {
      try {
        return window[store].getItem(key) ?? inMind.get(store + key) ?? null;
      } catch {
        return inMind.get(store + key) ?? null;
      }
    },
    set(key, value) {
      inMind.set(store + key, value);
      try {
        window[store].setItem(key, value);
      } catch {
        // Cookies and the like are switched off: then it is in mind only.
      }
    },
  };
}

export const tab = memory("sessionStorage");
export const browser = memory("localStorage");
