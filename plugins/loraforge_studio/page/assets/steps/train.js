// SPDX-License-Identifier: Apache-2.0
// The step "train": begin, watch, stop, continue, and what came of it.

import { get, of, post } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { lossChart } from "/assets/parts/chart.js";
import { told } from "/assets/parts/commands.js";
import { follow } from "/assets/parts/follow.js";
import { jobCard } from "/assets/parts/jobs.js";
import { problemList } from "/assets/parts/problems.js";
import { samplesCard } from "/assets/parts/samples.js";
import { duration, language, moment, number, t } from "/assets/words.js";

const DRAWN = 12; // figures of a run are written anew at most so often a second
const figures = (...pairs) => make("dl", { className: "figures" }, pairs.filter(Boolean).map(([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, value), more ? make("dd", { className: "soft small" }, more) : null)));
const exact = (value) => (typeof value === "number" ? value.toLocaleString(language === "zh" ? "zh-CN" : "en", { maximumSignificantDigits: 4 }) : "–");

/** Shows the step in `place`; see app.js for what `at` has. */
export async function show(place, at) {
  if (!at.info?.begun) {
    fill(place, make("h1", {}, t("train")), make("div", { className: "card note" }, make("p", {}, t("go_begin")), button(t("begin"), () => at.go("begin"), { primary: true })));
    return;
  }
  const state = await get(of(at.work, "training"), {}, at.signal);
  const running = state.job?.state === "running";
  const parts = [make("h1", {}, t("train"))];
  if (state.others.length) parts.push(make("div", { className: "card note" }, make("p", {}, t("others_train", { works: state.others.join(", ") }))));
  parts.push(running ? underWay(at, state) : beginning(at, state));
  if (!running && sessionStorage.getItem(`draft:${at.work}`))
    parts.splice(1, 0, make("div", { className: "card note" }, make("p", {}, t("unsaved_settings")), make("div", { className: "row" }, button(t("choose"), () => at.go("choose")))));
  const samples = samplesCard(at.work, state.run, at.signal);
  const watch = watching(at, state, samples);
  parts.push(watch.element, samples.element);
  if (running) parts.push(make("p", { className: "soft" }, t("goes_on")));
  fill(place, parts);
  watch.begin();
}

/** A run that is being trained. */
function underWay(at, state) {
  const card = jobCard(state.job, { signal: at.signal, title: t(`how_${state.job.about.how ?? "new"}`), ended: (job) => {
    announce(t(`state_${job.state}`));
    at.inform().finally(() => at.reload());
  } });
  card.append(make("p", { className: "soft" }, t("stop_hint")));
  return card;
}

/** What can be begun, and what came of the last training. */
function beginning(at, state) {
  const { job, known } = state;
  const finished = known?.status === "finished";
  const begin = async (how) => {
    if (state.others.length && !confirm(t("others_sure", { works: state.others.join(", ") }))) return;
    const started = await post(of(at.work, "train"), { how });
    told(started.command);
    await at.inform();
    await at.reload();
  };
  const act = (how, hint, primary) => make("div", { className: "row act" }, button(t(`start_${how}`), () => begin(how), { primary }), make("span", { className: "soft grow" }, t(hint)));
  const made = make("section", { className: "card", data: { status: known?.status ?? "none" } });
  if (!known) {
    fill(made, job ? outcome(at, state) : null, act("new", state.occupied ? "start_new_occupied_hint" : "start_new_hint", true), make("p", { className: "soft" }, t("goes_on")));
  } else if (finished) {
    fill(made, outcome(at, state), make("div", { className: "row" }, button(t("next_step", { step: t("judge") }), () => at.go("judge"), { primary: true })), act("fresh", "start_fresh_hint", false));
  } else {
    fill(made, outcome(at, state), act("resume", "start_resume_hint", true), act("fresh", "start_fresh_hint", false));
  }
  return made;
}

/** What it does at the moment; stages that nobody here knows are said without a name. */
function staged({ stage, detail }) {
  const named = t(`stage_${stage}`);
  return named.startsWith("stage_") ? detail : `${named}: ${detail}`;
}

/** How the last training ended, in words. */
function outcome(at, state) {
  const { job, known } = state;
  const result = job?.state === "done" ? job.result : null;
  const made = [];
  if (known) made.push(make("h2", {}, t(`run_${known.status}`) === `run_${known.status}` ? known.status : t(`run_${known.status}`)));
  if (known?.started) made.push(make("p", { className: "soft" }, t("run_began", { time: when(known.started), folder: state.run })));
  if (job && job.state !== "done") {
    made.push(make("div", { className: `card ${job.state === "stopped" ? "note" : "bad"}`, data: { ended: job.state } }, make("strong", {}, `${t("last_training")} ${t(`state_${job.state}`)}`),
      job.state === "gone" ? make("p", {}, t("gone_hint")) : null, job.problems?.length ? problemList(job.problems) : null,
      job.state === "stopped" ? make("p", {}, t("stopped_hint")) : null, make("p", {}, make("code", {}, job.command))));
  }
  const metrics = result?.metrics ?? {};
  const base = metrics.held_out_loss_base ?? known?.held_out_loss_base;
  const own = metrics.held_out_loss ?? known?.held_out_loss;
  if (base !== undefined || own !== undefined) {
    made.push(figures([t("loss_base"), exact(base)], [t("loss_own"), exact(own)], metrics.seconds ? [t("took"), duration(metrics.seconds)] : null, known?.step ? [t("curve_step"), number(known.step)] : null));
    made.push(make("p", { className: "soft" }, t("loss_means")));
  }
  const words = [...[result?.sentence ?? []].flat(), ...(result?.diagnosis ?? [])];
  if (words.length) made.push(make("div", { className: "stack words" }, make("h3", {}, t("in_words")), make("ul", { className: "problems plain-list" }, words.map((line) => make("li", {}, line)))));
  return made;
}

function when(text) {
  const time = Date.parse(text.replace(/([+-]\d\d)(\d\d)$/, "$1:$2"));
  return Number.isFinite(time) ? moment(time / 1000) : text;
}

/** The curve and its figures, live while the run is trained. */
function watching(at, state, samples) {
  const chart = lossChart(at.signal);
  const facts = make("div", {});
  const stage = make("p", { className: "soft", role: "status" });
  const bar = make("progress", { max: 1, value: 0, "aria-label": t("progress") });
  const notes = make("div", { className: "stack" });
  const element = make("section", { className: "card watch", hidden: true }, make("h2", {}, t("curve")), bar, facts, stage, notes, chart.element);
  const live = state.job?.state === "running";
  let drawn = -1;
  let last = 0;
  const draw = (run) => {
    element.hidden = !live && !run.train.length && !run.held.length;
    const now = performance.now();
    if (now - last > 1000 / DRAWN || run.ended || !live) {
      last = now;
      bar.value = run.steps ? run.step / run.steps : 0;
      bar.hidden = !live;
      fill(facts, figures(
        [t("curve_step"), run.steps ? `${number(run.step)} / ${number(run.steps)}` : "–", run.starts > 1 ? t("resumed", { n: run.starts - 1 }) : ""],
        [t("passes"), number(run.epoch, 1), run.facts?.epochs ? t("of_n", { n: number(run.facts.epochs, 1) }) : ""],
        [t("curve_train"), exact(run.loss)],
        [t("curve_held"), exact(run.held.at(-1)?.[1])],
        live && run.left !== null && run.left !== undefined && !run.ended ? [t("left"), run.step < run.steps ? duration(run.left) : t("left_none")] : null,
        run.pace ? [t("pace"), t("pace_steps", { n: exact(1 / run.pace) })] : null,
        live && run.rate ? [t("rate"), run.rate.toExponential(1)] : null));
      const told = run.stages.at(-1);
      stage.textContent = live && told ? staged(told) : "";
      fill(notes,
        run.memory ? make("p", { className: "doubt-text" }, t("memory_ran_out", { n: number(run.memory.rows) })) : null,
        run.stopped ? make("p", {}, t("stopped_early", { n: number(run.stopped.step), best: number(run.stopped.best) })) : null,
        run.checkpoints.length ? make("p", { className: "soft" }, t("saved_at", { steps: run.checkpoints.slice(-6).map((one) => number(one[0])).join(", ") })) : null);
    }
    chart.element.hidden = !run.train.length && !run.held.length;
    chart.draw(run);
    if (run.samples.length !== drawn) {
      drawn = run.samples.length;
      samples.refresh();
    }
  };
  return { element, begin: () => follow(at.work, state.run, live, draw, at.signal).catch((error) => (error.name === "AbortError" ? null : fill(notes, problemList(error.problems ?? [String(error)])))) };
}
