// SPDX-License-Identifier: Apache-2.0
// The place where files are dropped, with buttons for those who do not drop.

import { announce, button, fill, make } from "/assets/dom.js";
import { browse } from "/assets/parts/data/browse.js";
import { chosen, dropped } from "/assets/parts/data/files.js";
import { showProblems } from "/assets/parts/problems.js";
import { t } from "/assets/words.js";

/** `take({files, left, name})` hears of files, `point(path, names)` of a folder or file that the studio may read (left out: no button for it). */
export function dropZone({ take, point, small = false }) {
  const given = async (found) => {
    if (found.files.length) await take(found);
    else announce(t("nothing_in_it"));
  };
  const field = (folder) => {
    const input = make("input", { type: "file", multiple: true, hidden: true, tabIndex: -1, "aria-hidden": "true", className: folder ? "pick-folder" : "pick-files" });
    if (folder) input.webkitdirectory = true;
    input.addEventListener("change", () => {
      given(chosen(input.files)).catch(showProblems);
      input.value = "";
    });
    return input;
  };
  const files = field(false);
  const folder = field(true);
  const zone = make("section", { className: `card drop ${small ? "small" : ""}`, "aria-label": t("drop_here") },
    make("strong", { className: "drop-title" }, t("drop_here")),
    small ? null : make("p", { className: "soft" }, t("drop_kinds")),
    make("div", { className: "row centred" },
      button(t("choose_files"), () => files.click(), { primary: !small }),
      button(t("choose_folder"), () => folder.click()),
      point ? button(t("choose_here"), () => browse(point), { quiet: true }) : null),
    files, folder);
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("over", depth > 0);
  };
  zone.addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
  zone.addEventListener("dragleave", () => over(-1));
  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(0);
    dropped(event.dataTransfer).then(given).catch(showProblems);
  });
  return zone;
}

/** A bar that says how far it is. */
export function progressOf(count) {
  const bar = make("progress", { max: 1, value: 0, "aria-label": t("bringing") });
  const said = make("p", { className: "soft", role: "status" });
  const element = make("div", { className: "stack" }, said, bar);
  const tell = ({ done, share }) => {
    bar.value = share;
    fill(said, t("brought_so_far", { done, n: count }));
  };
  tell({ done: 0, share: 0 });
  return { element, tell };
}
