// SPDX-License-Identifier: Apache-2.0
// What the studio can be asked.

import { t } from "/assets/words.js";

let mark = "";

/** What could not be done, in the command's own sentences. */
export class Problem extends Error {
  constructor(problems, status = 0, command = "") {
    super(problems.join("\n"));
    this.problems = problems;
    this.status = status;
    this.command = command;
  }
}

export async function session() {
  const found = await get("/api/session");
  mark = found.mark;
  return found;
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem([t("offline")]);
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = await response.json();
  } catch {
    // not from the studio
  }
  throw new Problem(Array.isArray(told.problems) && told.problems.length ? told.problems.map(String) : [t("odd", { status: response.status })], response.status, told.command ?? "");
}

const query = (values) => {
  const given = Object.entries(values ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

/** GET: JSON. */
export async function get(path, values, signal) {
  return (await answered(path + query(values), { signal })).json();
}

/** What changes something: POST, PUT or DELETE with JSON. */
export async function send(method, path, body, signal) {
  const headers = { "X-LoRAForge-Studio": mark, "Content-Type": "application/json" };
  return (await answered(path, { method, headers, body: JSON.stringify(body ?? {}), signal })).json();
}

export const post = (path, body, signal) => send("POST", path, body, signal);
export const put = (path, body, signal) => send("PUT", path, body, signal);

/** The address below a work: `of("contracts", "check")`. */
export const of = (work, ...rest) => ["/api/works", encodeURIComponent(work), ...rest.map(encodeURIComponent)].join("/");

/** Where a picture or a text of a work is shown from. */
export const fileOf = (work, path) => of(work, "file") + query({ path });

/** One file to the work's uploads; `tell(share)` hears how far it is. */
export function upload(work, path, file, tell = () => {}) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PUT", of(work, "uploads") + query({ path }));
    request.setRequestHeader("X-LoRAForge-Studio", mark);
    request.upload.onprogress = (event) => tell(event.lengthComputable ? event.loaded / event.total : 0);
    request.onerror = () => failed(new Problem([t("offline")]));
    request.onload = () => {
      let told = {};
      try {
        told = JSON.parse(request.responseText);
      } catch {
        // not from the studio
      }
      if (request.status < 300) done(told);
      else failed(new Problem(told.problems ?? [t("odd", { status: request.status })], request.status));
    };
    request.send(file);
  });
}

/**
 * Server-sent events until `signal` ends it: `hear(name, value, id)`. The browser takes up a broken line by itself, and a line to a tab that
 * nobody looks at is let go meanwhile: a browser has six for all tabs, and the page would stand still in the seventh. It goes on behind
 * the last id. `hear("error", null)`: the line is broken; `hear("closed", null)`: and the studio does not give another.
 */
export function listen(path, values, names, hear, signal) {
  let source = null;
  let last = "";
  const open = () => {
    source = new EventSource(path + query({ ...values, "last-event-id": last }));
    for (const name of names) {
      source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        hear(name, JSON.parse(event.data), event.lastEventId);
      });
    }
    source.addEventListener("error", (event) => hear(event.target.readyState === EventSource.CLOSED ? "closed" : "error", null));
  };
  const look = () => {
    source?.close();
    source = null;
    if (!document.hidden) open();
  };
  const close = () => {
    source?.close();
    source = null;
    document.removeEventListener("visibilitychange", look);
  };
  if (signal?.aborted) return close;
  document.addEventListener("visibilitychange", look);
  signal?.addEventListener("abort", close, { once: true });
  look();
  return close;
}
