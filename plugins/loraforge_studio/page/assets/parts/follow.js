// SPDX-License-Identifier: Apache-2.0
// A run's log as it grows: read once as a curve, then what is added.

import { get, listen, of } from "/assets/api.js";

const MOST = 3000; // points; more than a screen has

/** Adds a step to a curve; where there are too many points, two neighbours become one. */
export function addStep(run, told) {
  while (run.train.length && run.train.at(-1)[0] >= told.step) run.train.pop();
  if (typeof told.loss === "number") run.train.push([told.step, told.loss, told.loss, told.loss]);
  if (run.train.length > MOST) {
    const half = [];
    for (let index = 0; index + 1 < run.train.length; index += 2) {
      const [a, b] = [run.train[index], run.train[index + 1]];
      half.push([b[0], (a[1] + b[1]) / 2, Math.min(a[2], b[2]), Math.max(a[3], b[3])]);
    }
    run.train = half;
  }
  run.times.push([told.time, told.step]);
  if (run.times.length > 200) run.times.shift();
  const [first, last] = [run.times[0], run.times.at(-1)];
  if (last[1] > first[1]) run.pace = (last[0] - first[0]) / (last[1] - first[1]);
  Object.assign(run, { step: told.step, steps: told.steps, epoch: told.epoch, rate: told.learning_rate, loss: told.loss });
  run.left = run.pace ? run.pace * (run.steps - run.step) : null;
}

function take(run, told) {
  if (told.event === "StepFinished") addStep(run, told);
  else if (told.event === "Evaluated") run.held = [...run.held.filter((one) => one[0] !== told.step), [told.step, told.loss]];
  else if (told.event === "SamplesDrawn") run.samples = [...run.samples.filter((one) => one[0] !== told.step), [told.step, told.path]];
  else if (told.event === "CheckpointSaved") run.checkpoints = [...run.checkpoints.filter((one) => one[0] !== told.step), [told.step, told.path]];
  else if (told.event === "StageStarted") run.stages = [...run.stages.slice(-199), told];
  else if (told.event === "MemoryRanOut") run.memory = told;
  else if (told.event === "StoppedEarly") run.stopped = { step: told.step, best: told.best_step };
  else if (told.event === "RunFinished" || told.event === "RunFailed") run.ended = { ok: told.event === "RunFinished", error: told.error ?? "" };
}

/** Follows a run until `signal` ends; `draw(run)` hears of each change. With `live` false it is read once. */
export async function follow(work, folder, live, draw, signal) {
  const run = await get(of(work, "curve"), { run: folder }, signal);
  run.times = [];
  draw(run);
  if (!live || signal.aborted) return;
  const anew = () => {
    close();
    follow(work, folder, live, draw, signal).catch(() => {});
  };
  const close = listen(of(work, "log"), { run: folder, log: run.log, offset: run.offset }, ["events", "anew"], (name, value) => {
    if (name === "anew" || (name === "events" && value.some((told) => told.event === "RunStarted"))) anew();
    else if (name === "events") {
      for (const told of value) take(run, told);
      draw(run);
    }
  }, signal);
}
