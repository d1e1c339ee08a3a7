// SPDX-License-Identifier: Apache-2.0
// A folder or a file on the studio's own computer: nothing is copied.

import { get } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { problemList } from "/assets/parts/problems.js";
import { t } from "/assets/words.js";

/** Opens a dialog; `take(path, names of files in it)` hears what was chosen. */
export async function browse(take) {
  const place = make("p", { className: "soft" });
  const list = make("ul", { className: "browse" });
  const use = button(t("use_folder"), async () => {
    dialog.close();
    await take(here.path, here.files.map((one) => one.name));
  }, { primary: true });
  const dialog = make("dialog", { className: "stack", "aria-label": t("choose_here") },
    make("h2", {}, t("choose_here")), make("p", { className: "soft" }, t("choose_here_hint")), place, list,
    make("div", { className: "row" }, use, button(t("cancel"), () => dialog.close(), { quiet: true })));
  let here = { path: "", files: [] };
  const trail = [];
  const open = async (path) => {
    try {
      here = await get("/api/browse", { path });
    } catch (error) {
      fill(place, problemList(error.problems ?? [String(error)]));
      return;
    }
    place.textContent = here.path;
    use.hidden = !here.path;
    const back = trail.length ? entry("↑", t("one_up"), () => open(trail.pop())) : null;
    fill(list, back,
      here.folders.map((one) => entry("▸", one.name, () => { trail.push(path); return open(one.path); })),
      here.files.map((one) => entry("", one.name, async () => { dialog.close(); await take(one.path, [one.name]); })));
    if (!here.folders.length && !here.files.length) list.append(make("li", { className: "soft" }, t("empty_folder")));
    announce(here.path);
  };
  const entry = (sign, name, act) => make("li", {}, make("button", { type: "button", className: "quiet", onclick: act },
    make("span", { className: "sign", "aria-hidden": "true" }, sign), name));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  await open("");
  dialog.showModal();
}
