// SPDX-License-Identifier: Apache-2.0
// The step "choose": the settings as a form, and beside it what they cost.

import { Problem, get, of, post, put } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { costs } from "/assets/parts/cost.js";
import { field, meant, shown } from "/assets/parts/fields.js";
import { problemList } from "/assets/parts/problems.js";
import { t } from "/assets/words.js";

const GPUS = ["8GB", "12GB", "16GB", "24GB", "48GB", "80GB"];
const PAUSE = 500; // ms after the last key before anything is calculated
const page = Math.random().toString(36).slice(2);
const same = (a, b) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);

/** What was typed and is not saved yet; kept in this tab, so that another language or a reload loses nothing. */
class Draft {
  constructor(work) {
    this.place = `draft:${work}`;
    try {
      this.values = JSON.parse(sessionStorage.getItem(this.place)) ?? {};
    } catch {
      this.values = {};
    }
  }

  set(name, value, saved) {
    if (same(value, saved)) delete this.values[name];
    else this.values[name] = value ?? null;
    this.keep();
  }

  clear() {
    this.values = {};
    this.keep();
  }

  keep() {
    if (this.size) sessionStorage.setItem(this.place, JSON.stringify(this.values));
    else sessionStorage.removeItem(this.place);
  }

  get size() {
    return Object.keys(this.values).length;
  }
}

/** Shows the step in `place`; see app.js for what `at` has. */
export async function show(place, at) {
  if (!at.info?.begun) {
    fill(place, make("h1", {}, t("choose")), make("div", { className: "card note" }, make("p", {}, t("go_begin")), button(t("begin"), () => at.go("begin"), { primary: true })));
    return;
  }
  const form = await get(of(at.work, "form"), {}, at.signal);
  new Settings(place, at, form).draw();
}

class Settings {
  constructor(place, at, form) {
    Object.assign(this, { place, at, form, draft: new Draft(at.work), fields: new Map(), wrong: new Map(), gpu: localStorage.getItem("gpu") ?? "" });
    this.keys = new Map(form.keys.map((key) => [key.name, { ...key, required: form.required.includes(key.name) }]));
    this.read(form.values);
  }

  /** Takes what the config says as what is saved. */
  read(values) {
    this.written = values;
    this.saved = Object.fromEntries([...this.keys].map(([name, key]) => [name, meant(key, values[name])]));
  }

  value(name) {
    return name in this.draft.values ? (this.draft.values[name] ?? undefined) : this.saved[name];
  }

  draw() {
    this.bar = make("div", { className: "card row save-bar", role: "region", "aria-label": t("save") });
    this.presets = make("div", { className: "columns presets" });
    this.cost = make("div", { className: "stack", "aria-live": "polite" });
    const main = this.form.main.map((name) => this.field(this.keys.get(name), t(`key_${name}`)));
    fill(this.place, make("h1", {}, t("choose")), make("p", { className: "soft" }, t("choose_intro")),
      make("div", { className: "choose-grid" },
        make("div", { className: "stack" },
          make("section", { className: "card" }, make("h2", {}, t("preset")), this.presets),
          make("section", { className: "card main-settings" }, make("div", { className: "columns" }, main))),
        make("section", { className: "card cost" }, make("h2", {}, t("cost")), this.device(), this.cost)),
      this.all(), this.raw(), this.bar);
    this.changed(0);
  }

  field(key, label) {
    const made = field(key, {
      label,
      change: (name, value) => {
        this.wrong.delete(name);
        this.draft.set(name, value, this.saved[name]);
        this.changed(PAUSE);
      },
      wrong: (name, sentence) => {
        this.wrong.set(name, sentence);
        this.asked?.abort();
        this.drawBar();
      },
    });
    made.write(this.value(key.name));
    const alias = key.aliases?.find((name) => name in this.written);
    if (alias && this.saved[key.name] === undefined) made.tell([], [`${t("in_file")}: ${alias}: ${shown(this.written[alias])}`]);
    this.fields.set(key.name, made);
    return made.element;
  }

  /** Sets several values at once, as a preset or a proposal does. */
  take(values) {
    for (const [name, value] of Object.entries(values)) {
      this.wrong.delete(name);
      this.draft.set(name, value ?? undefined, this.saved[name]);
      this.fields.get(name)?.write(this.value(name));
    }
    this.changed(0);
  }

  changed(pause) {
    this.drawBar();
    this.drawPresets();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.estimate(), pause);
  }

  async estimate() {
    this.asked?.abort();
    if (this.wrong.size || this.at.signal.aborted) return;
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.at.signal.addEventListener("abort", () => this.asked.abort(), { once: true });
    this.cost.setAttribute("aria-busy", "true");
    if (!this.cost.childElementCount) fill(this.cost, make("p", { className: "soft" }, t("asking")));
    try {
      const found = await post(of(this.at.work, "estimate"), { values: this.draft.values, gpu: this.gpu, page }, signal);
      if (signal.aborted) return;
      told(found.command);
      fill(this.cost, costs(found, (values) => this.take(values)));
      for (const [name, one] of this.fields) {
        const of_ = (list) => list.filter((line) => line.key === name).map((line) => line.text);
        one.tell(of_(found.problems), of_(found.advice));
      }
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted || error.status === 409) return;
      fill(this.cost, problemList(error.problems ?? [String(error)]));
    }
    this.cost.removeAttribute("aria-busy");
  }

  drawPresets() {
    fill(this.presets, this.form.presets.map((preset) => {
      const now = Object.entries(preset.values).every(([name, value]) => same(this.value(name), value ?? undefined));
      const keys = Object.entries(preset.values).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`).join(", ");
      const made = make("button", { type: "button", className: "preset", "aria-pressed": String(now), data: { preset: preset.name } },
        make("strong", {}, t(`preset_${preset.name}`)), make("span", {}, t(`preset_${preset.name}_hint`)), make("code", { className: "soft" }, keys));
      made.addEventListener("click", () => {
        this.take(preset.values);
        this.presets.querySelector(`[data-preset="${preset.name}"]`)?.focus();
      });
      return made;
    }));
  }

  device() {
    const choice = make("select", { id: "device" }, make("option", { value: "" }, t("device_here")), GPUS.map((size) => make("option", { value: size }, t("device_gpu", { n: size.replace("GB", " GB") }))));
    choice.value = this.gpu;
    choice.addEventListener("change", () => {
      this.gpu = choice.value;
      localStorage.setItem("gpu", this.gpu);
      this.estimate();
    });
    return make("div", { className: "field" }, make("label", { htmlFor: "device" }, t("device")), choice);
  }

  drawBar() {
    const count = this.draft.size;
    const save = async (after) => {
      const found = await put(of(this.at.work, "config"), { values: this.draft.values });
      this.draft.clear();
      this.read(found.values);
      await this.at.inform();
      if (after) after();
      else this.drawAnew();
      announce(t("saved"));
    };
    const blocked = this.wrong.size > 0;
    const saving = button(t("save"), () => save());
    saving.disabled = !count || blocked;
    const next = button(count ? t("save_next") : t("next_step", { step: t("train") }), () => (count ? save(() => this.at.go("train")) : this.at.go("train")), { primary: true });
    next.disabled = blocked;
    const undo = button(t("discard"), () => {
      this.draft.clear();
      this.wrong.clear();
      this.drawAnew();
    }, { quiet: true });
    undo.hidden = !count && !blocked;
    fill(this.bar, make("span", { className: "grow", role: "status" }, blocked ? [...this.wrong.values()][0] : count ? t("changes", { n: count }) : t("all_saved")), undo, saving, next);
  }

  drawAnew() {
    for (const [name, one] of this.fields) one.write(this.value(name));
    if (this.text && !this.text.dataset.touched) this.text.value = this.at.info.config;
    this.changed(0);
  }

  /** All other settings, by whose they are; made when they are wanted. */
  all() {
    const rest = [...this.keys.values()].filter((key) => !this.form.main.includes(key.name));
    const within = make("div", { className: "within" });
    const details = make("details", { className: "card all-settings" }, make("summary", {}, t("all_settings", { n: this.form.keys.length })), within);
    details.addEventListener("toggle", () => {
      if (!details.open || within.childElementCount) return;
      const search = make("input", { type: "search", id: "search-settings", placeholder: t("search_settings"), "aria-label": t("search_settings") });
      const none = make("p", { className: "soft", hidden: true }, t("none_found"));
      const groups = Object.entries(Object.groupBy(rest, (key) => key.owner)).map(([owner, keys]) =>
        make("section", { className: "stack" }, make("h3", {}, ownerName(owner)), make("div", { className: "columns" }, keys.map((key) => this.field(key, "")))));
      search.addEventListener("input", () => {
        const wanted = search.value.trim().toLowerCase();
        let any = false;
        for (const group of groups) {
          let some = false;
          for (const one of group.querySelectorAll(".setting")) {
            const key = this.keys.get(one.dataset.key);
            one.hidden = ![key.name, key.help, ...(key.aliases ?? [])].some((text) => text.toLowerCase().includes(wanted));
            some ||= !one.hidden;
          }
          group.hidden = !some;
          any ||= some;
        }
        none.hidden = any;
      });
      fill(within, search, none, groups);
      if (this.draft.size) this.estimate();
    });
    return details;
  }

  /** The config as a text. */
  raw() {
    const text = make("textarea", { id: "raw-config", rows: 22, spellcheck: false, className: "code", "aria-label": t("raw") });
    this.text = text;
    text.value = this.at.info.config;
    text.addEventListener("input", () => (text.dataset.touched = "1"));
    const below = make("div", { className: "stack", role: "status" });
    const save = (anyway) => async () => {
      fill(below);
      if (this.draft.size) {
        fill(below, problemList([t("raw_unsaved")]));
        return;
      }
      try {
        const found = await put(of(this.at.work, "text"), { text: text.value, anyway, before: this.at.info.config });
        told(found.command);
        await this.at.reload();
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        fill(below, problemList(error.problems), error.status === 422 ? button(t("raw_anyway"), save(true)) : null);
      }
    };
    const reset = button(t("raw_reset"), () => {
      text.value = this.at.info.config;
      delete text.dataset.touched;
      fill(below);
    }, { quiet: true });
    return make("details", { className: "card raw" }, make("summary", {}, t("raw")), make("div", { className: "within" }, make("p", { className: "soft" }, t("raw_hint")), text, below, make("div", { className: "row" }, button(t("raw_save"), save(false)), reset)));
  }
}

function ownerName(owner) {
  const [kind, ...name] = owner.split(" ");
  const word = t(`owner_${kind}`, { name: name.join(" ") });
  return word === `owner_${kind}` ? owner : word;
}
