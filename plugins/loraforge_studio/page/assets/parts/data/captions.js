// SPDX-License-Identifier: Apache-2.0
// A model that writes the captions that are missing; nothing is taken before somebody says so.

import { of, post } from "/assets/api.js";
import { announce, button, fill, make } from "/assets/dom.js";
import { jobCard } from "/assets/parts/jobs.js";
import { t } from "/assets/words.js";

const MODELS = ["Salesforce/blip-image-captioning-large", "Qwen/Qwen2.5-VL-3B-Instruct", "SmilingWolf/wd-eva02-large-tagger-v3"];

/** The card below the pictures. */
export function captionsCard(at, rows) {
  const bare = rows.counts.bare;
  const model = make("input", { id: "captioner", value: localStorage.getItem("captioner") ?? "", placeholder: MODELS[0], autocomplete: "off" });
  model.setAttribute("list", "captioners");
  const asked = make("input", { id: "caption-prompt", autocomplete: "off" });
  const place = make("div", {});
  const follow = (job) => fill(place, jobCard(job, {
    title: t("captioning"), signal: at.signal,
    ended: (end) => end.state === "done" && place.append(make("div", { className: "row" }, button(t("take_captions"), async () => {
      const told = await post(of(at.work, "captions", "take"), { job: end.id });
      announce(t("captions_taken", { n: told.taken }));
      fill(place, make("p", { className: "good", role: "status" }, t("captions_taken", { n: told.taken })));
      at.reload();
    }, { primary: true }))),
  }));
  const card = make("details", { className: "card captions", open: bare > 0 }, make("summary", {}, t("captions_write")),
    make("div", { className: "within" }, make("p", { className: "soft" }, t("captions_write_hint", { n: bare })),
      make("div", { className: "columns" },
        make("div", { className: "field" }, make("label", { htmlFor: "captioner" }, t("captioner")), model, make("p", { className: "soft" }, t("captioner_hint"))),
        make("div", { className: "field" }, make("label", { htmlFor: "caption-prompt" }, t("caption_prompt")), asked, make("p", { className: "soft" }, t("caption_prompt_hint")))),
      make("datalist", { id: "captioners" }, MODELS.map((name) => make("option", { value: name }))),
      make("div", { className: "row" }, button(t("captions_begin"), async () => {
        const name = model.value.trim() || MODELS[0];
        localStorage.setItem("captioner", name);
        follow(await post(of(at.work, "captions"), { model: name, prompt: asked.value.trim() }));
      })), place));
  const last = at.info.jobs.find((job) => job.kind === "caption");
  if (last && (last.state === "running" || (last.state === "done" && bare))) {
    card.open = true;
    follow(last);
  }
  return card;
}
