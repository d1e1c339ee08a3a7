// SPDX-License-Identifier: Apache-2.0
// A question of one's own, or a picture: base, adapter, checkpoints, each as strongly as wanted.

import { of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { jobCard } from "/assets/parts/jobs.js";
import { own } from "/assets/parts/own.js";
import { showProblems } from "/assets/parts/problems.js";
import { listed } from "/assets/steps/judging/checkpoints.js";
import { answerCards, isPicture, picture, sideName } from "/assets/steps/judging/pictures.js";
import { moment } from "/assets/words.js";

const t = own("judge");

const OPTIONS = { image: ["seed", "steps", "cfg", "size", "negative"], text: ["temperature", "max-tokens"] };

export async function ask(place, at, found) {
  const images = found.task === "image";
  const prompt = make("textarea", { id: "prompt", rows: 3, maxLength: 20000, value: images ? found.facts.prompts[0] ?? found.facts.trigger : "" });
  const base = make("input", { type: "checkbox", id: "with-base", checked: true });
  const wanted = (at.rest[2] ?? "").split(",").map(Number);
  const steps = [];
  const choices = make("fieldset", { className: "choices" }, make("legend", {}, t("which_checkpoints")), make("p", { className: "soft" }, t("loading")));
  listed(at, found.run).then((all) => {
    const kept = all.filter((one) => one.kept);
    choices.hidden = !kept.length;
    steps.push(...kept.map((one) => make("input", { type: "checkbox", value: String(one.step), id: `step-${one.step}`, checked: wanted.includes(one.step) })));
    fill(choices, make("legend", {}, t("which_checkpoints")), steps.map((input) => make("span", { className: "row" }, input, make("label", { htmlFor: input.id }, t("step_n", { n: input.value })))),
      make("p", { className: "soft" }, t("which_checkpoints_hint")));
  }).catch(showProblems);
  const scales = make("input", { id: "scales", value: "", placeholder: images ? "0.5, 0.8, 1" : "0.5, 1", inputMode: "decimal" });
  const options = (OPTIONS[found.task] ?? []).map((key) => make("input", { id: `option-${key}`, data: { key }, value: key === "seed" ? "1" : "" }));
  const list = make("div", { className: "stack" });
  const go = button(t(images ? "draw" : "ask"), async () => {
    const job = await post(of(at.work, "judge", "ask"), {
      run: found.run, prompts: images ? prompt.value.split("\n") : [prompt.value], base: base.checked,
      steps: steps.filter((one) => one.checked).map((one) => Number(one.value)), scales: numbers(scales.value),
      options: Object.fromEntries(options.filter((one) => one.value.trim()).map((one) => [one.dataset.key, one.value.trim()])),
    });
    await at.inform();
    draw(job);
  }, { primary: true });
  const field = (input, words, hint = "") => make("div", { className: "field" }, make("label", { htmlFor: input.id }, words), input, hint ? make("p", { className: "soft" }, hint) : null);
  place.append(make("section", { className: "card" },
    field(prompt, t(images ? "what_to_draw" : "your_question"), images ? t("draw_hint") : t("ask_hint")),
    make("div", { className: "row" }, base, make("label", { htmlFor: "with-base" }, t("beside_base"))),
    make("details", { open: wanted.some(Boolean) }, make("summary", {}, t("finer")), make("div", { className: "stack" },
      choices,
      field(scales, t("strengths"), t("strengths_hint")),
      make("div", { className: "columns low" }, options.map((input) => field(input, t(`option_${input.dataset.key}`)))))),
    make("div", { className: "row" }, go)), list);
  const draw = (added = null) => {
    const jobs = at.info.jobs.filter((job) => job.kind === "sample" && job.about.run === found.run);
    const all = added && !jobs.some((job) => job.id === added.id) ? [added, ...jobs] : jobs;
    fill(list, all.map((job) => (job.state === "done" ? answered(at.work, job)
      : jobCard(job, { title: job.about.prompts.join(" / "), signal: at.signal, ended: (now) => now.state === "done" && again() }))));
  };
  const again = () => at.inform().then(() => draw()).catch(showProblems);
  draw();
}

const numbers = (text) => text.split(/[\s,，;；、]+/).filter(Boolean).map(Number).filter((one) => Number.isFinite(one));

/** What was answered to one command: texts side by side, pictures as a grid of strengths and steps. */
function answered(work, job) {
  const rows = Array.isArray(job.result) ? job.result : [];
  return make("section", { className: "card", data: { answered: job.id } }, rows.map((row) => {
    const sides = Object.entries(row.answers).filter(([name]) => name !== "beside");
    const pictures = sides.every(([, answer]) => isPicture(String(answer)));
    return make("article", { className: "stack" }, make("h2", {}, row.prompt),
      pictures ? grid(work, job, sides) : answerCards(sides, row.ended));
  }), make("p", { className: "soft" }, [moment(job.started), ...settings(job.about)].join(" · ")));
}

/** With which settings: `seed 2`, `0.8`. */
function settings({ scales = [], options = {} }) {
  return [...(scales.length === 1 ? [`${t("strength")} ${scales[0]}`] : []), ...Object.entries(options).map(([key, value]) => `${t(`option_${key}`)} ${value}`)];
}

function grid(work, job, sides) {
  const shown = ([name, path]) => picture(work, path, sideName(name), { stamp: job.id });
  const { steps = [], scales = [] } = job.about;
  if (steps.length < 2 || scales.length < 2) return make("div", { className: "pictures" }, sides.map(shown));
  const base = sides.filter(([name]) => name === "base");
  const others = sides.filter(([name]) => name !== "base"); // the checkpoints in their order, each with all strengths
  return make("div", { className: "stack" }, base.length ? make("div", { className: "pictures" }, base.map(shown)) : null,
    make("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": t("grid") }, make("table", { className: "grid-table" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, t("strength")), steps.map((step) => make("th", { scope: "col" }, t("step_n", { n: step }))))),
      make("tbody", {}, scales.map((scale, row) => make("tr", {}, make("th", { scope: "row" }, String(scale)),
        steps.map((_, column) => make("td", {}, others[column * scales.length + row] ? shown(others[column * scales.length + row]) : null))))))));
}
