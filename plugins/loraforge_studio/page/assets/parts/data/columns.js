// SPDX-License-Identifier: Apache-2.0
// Which column of a table is what: chosen beside the first values of each.

import { get, of, put } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { problemList } from "/assets/parts/problems.js";
import { t } from "/assets/words.js";

const FIELDS = ["instruction", "output", "input", "system"];

/** A form for the columns; `given` is what the config says, `changed()` hears that it says something else. */
export async function columnsForm(at, given, changed) {
  const found = await get(of(at.work, "columns"), {}, at.signal);
  told(found.command);
  const columns = new Map();
  for (const file of found.files) for (const [name, first] of Object.entries(file.columns)) if (!columns.has(name)) columns.set(name, first);
  if (!columns.size) return make("div", {}, problemList(found.problems.length ? found.problems : [t("no_columns")]));
  const choices = FIELDS.map((field) => choice(field, columns, given[field]));
  const save = button(t("columns_save"), async () => {
    const wanted = Object.fromEntries(Object.entries(given).filter(([field]) => !FIELDS.includes(field)));
    for (const { field, select } of choices) if (select.value) wanted[field] = select.value;
    await put(of(at.work, "config"), { values: { columns: Object.keys(wanted).length ? wanted : null } });
    await changed();
  }, { primary: true });
  return make("div", { className: "stack" }, make("p", { className: "soft" }, t("columns_hint")),
    make("div", { className: "columns" }, choices.map((one) => one.element)), found.problems.length ? problemList(found.problems) : null,
    make("div", { className: "row" }, save));
}

function choice(field, columns, value) {
  const example = make("p", { className: "soft sample" });
  const select = make("select", { id: `column-${field}` }, make("option", { value: "" }, t("column_found")),
    [...columns.keys()].map((name) => make("option", { value: name, selected: name === value }, name)));
  const show = () => fill(example, select.value ? columns.get(select.value).map((cell) => make("span", {}, cell)) : t(`column_${field}_hint`));
  select.addEventListener("change", show);
  show();
  return { field, select, element: make("div", { className: "field" }, make("label", { htmlFor: select.id }, t(`column_${field}`)), select, example) };
}
