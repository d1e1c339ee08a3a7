// SPDX-License-Identifier: Apache-2.0
// A server for the run, with a page to talk to it; it goes on when this page is closed.

import { get, of, post } from "/assets/api.js";
import { button, fill, make } from "/assets/dom.js";
import { told } from "/assets/parts/commands.js";
import { own } from "/assets/parts/own.js";
import { problemList } from "/assets/parts/problems.js";

const t = own("handon");
const PAUSE = 700; // ms between two looks, while it starts or runs

export function serving(place, at, found) {
  const body = make("div", { className: "stack", role: "status" });
  const start = button(t("serve"), async () => draw({ job: await post(of(at.work, "hand", "serve"), { run: found.run }), address: "" }), { primary: true });
  let shown = "";
  let timer = 0;
  at.signal.addEventListener("abort", () => clearTimeout(timer));
  const look = async () => {
    try {
      draw(await get(of(at.work, "hand", "serving"), {}, at.signal));
    } catch (error) {
      if (error.name !== "AbortError") timer = setTimeout(look, 5 * PAUSE);
    }
  };
  const draw = (latest) => {
    const others = latest && latest.job.about.run !== found.run;
    const now = others && latest.job.state !== "running" ? null : latest;
    const state = now?.job.state ?? "none";
    const seen = `${now?.job.id} ${state} ${now?.address}`;
    if (state === "running") timer = setTimeout(look, now.address ? 5 * PAUSE : PAUSE);
    if (seen === shown) return;
    shown = seen;
    if (now) told(now.job.command);
    const stop = () => button(t("stop"), () => post(of(at.work, "jobs", now.job.id, "stop")));
    if (state === "running" && others) {
      fill(body, make("p", {}, t("serves_other", { run: now.job.about.run })), make("div", { className: "row" }, stop()));
    } else if (state === "running" && now.address) {
      fill(body, make("p", {}, t("serves")), make("div", { className: "row" },
        make("a", { className: "press primary", href: now.address, target: "_blank", rel: "noopener noreferrer" }, t("talk")), make("code", {}, now.address), make("span", { className: "grow" }), stop()),
      make("p", { className: "soft" }, t("serves_hint")));
    } else if (state === "running") fill(body, make("p", {}, t("serve_starts")), make("div", { className: "row" }, stop()));
    else fill(body, state === "failed" ? problemList(now.job.problems) : null, make("div", { className: "row" }, start));
  };
  place.append(make("section", { className: "card", data: { part: "serve" } }, make("h2", {}, t(found.task === "image" ? "serve_pictures" : "serve_title")),
    make("p", {}, t("serve_why")), body));
  draw(found.serving);
}
