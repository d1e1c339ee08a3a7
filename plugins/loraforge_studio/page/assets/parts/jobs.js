// SPDX-License-Identifier: Apache-2.0
// A long command: what it says, how it ended, and a button that stops it.

import { get, listen, of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { problemList, showProblems } from "/assets/parts/problems.js";
import { t } from "/assets/words.js";

/**
 * Follows a job in a card of its own.
 * `ended(job)` hears once how it ended; `signal` ends the following, not the job. `lines` false leaves out what it prints.
 */
export function jobCard(job, { ended = () => {}, signal, lines = true, title = "" } = {}) {
  const state = make("span", { className: "state", role: "status" });
  const said = make("pre", { className: "said", tabIndex: 0, "aria-label": t("said") });
  const below = make("div", {});
  let stopping = false;
  const stop = button(t("stop"), async () => draw(await post(`${of(job.work, "jobs", job.id, "stop")}${stopping ? "?now=true" : ""}`)));
  const card = make("section", { className: "card job", data: { job: job.id, kind: job.kind } },
    make("div", { className: "row" }, make("strong", {}, title), state, make("span", { className: "grow" }), stop), lines ? said : null, below);
  const draw = (now) => {
    stopping = now.stopping;
    card.dataset.state = now.state;
    state.textContent = stopping ? t("state_stopping") : t(`state_${now.state}`);
    stop.replaceChildren(stopping ? t("stop_now") : t("stop"));
    stop.hidden = now.state !== "running";
    fill(below, now.problems?.length ? problemList(now.problems) : null, now.state === "gone" ? make("p", {}, t("gone_hint")) : null);
  };
  draw(job);
  told(job.command);
  if (job.state !== "running") {
    said.hidden = true;
    queueMicrotask(() => ended(job));
    return card;
  }
  const close = listen(of(job.work, "jobs", job.id, "events"), {}, ["lines", "job"], (name, value) => {
    if (name === "lines") {
      const below = said.scrollHeight - said.scrollTop - said.clientHeight < 40;
      said.textContent = value.join("\n");
      if (below) said.scrollTop = said.scrollHeight;
    } else if (name === "job") {
      draw(value);
      if (value.state !== "running") {
        close();
        ended(value);
      }
    } else if (name === "closed") {
      get(of(job.work, "jobs", job.id), {}, signal).catch(showProblems); // the work's folder is gone, or this browser is not let in
    }
  }, signal);
  return card;
}
