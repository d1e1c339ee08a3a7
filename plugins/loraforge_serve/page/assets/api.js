// SPDX-License-Identifier: Apache-2.0
// The server's interface. The token lives in this tab only.

import { tab } from "./memory.js";
import { t } from "./words.js";

const KEY = "loraforge-token";
let askForToken = async () => {};

export const token = () => tab.get(KEY) ?? "";
export const keepToken = (text) => tab.set(KEY, text);

/** `ask(wrong)` shows the dialog, and returns once a token was typed in. */
export function onUnknownToken(ask) {
  askForToken = ask;
}

export class ServerError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** A request with the token. Where the server knows none, people are asked for another until it does. */
export async function request(path, body, signal) {
  for (;;) {
    const used = token();
    const headers = { ...(used && { Authorization: `Bearer ${used}` }), ...(body && { "Content-Type": "application/json" }) };
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError(t("offline"), 0);
    }
    if (response.status !== 401) {
      if (response.ok) return response;
      throw await refused(response);
    }
    if (used === token()) await askForToken(used !== "");
    signal?.throwIfAborted();
  }
}

async function refused(response) {
  let problem;
  try {
    problem = (await response.json()).error;
  } catch {
    problem = null;
  }
  const message = typeof problem?.message === "string" ? problem.message : t("odd", { status: response.status });
  return new ServerError(message, response.status, problem?.code);
}

export async function models() {
  const found = await (await request("/v1/models")).json();
  return Array.isArray(found.data) ? found.data.filter((one) => typeof one.id === "string") : [];
}

export async function settings() {
  return (await fetch("/assets/settings.json")).json();
}

/**
 * Asks and gives the answer piece by piece: yields {text}, and at last {finish, tokens}.
 * Raises ServerError if the stream ends before the answer does.
 */
export async function* answer(body, signal) {
  const response = await request("/v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  let finish = null;
  let tokens = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") break;
    let piece;
    try {
      piece = JSON.parse(data);
    } catch {
      throw new ServerError(t("odd", { status: response.status }), response.status);
    }
    if (piece.error) throw new ServerError(String(piece.error.message ?? piece.error), response.status, piece.error.code);
    const choice = piece.choices?.[0];
    if (typeof choice?.delta?.content === "string" && choice.delta.content) yield { text: choice.delta.content };
    finish = choice?.finish_reason ?? finish;
    tokens = piece.usage?.completion_tokens ?? tokens;
  }
  if (finish === null) throw new ServerError(t("broken"), response.status);
  yield { finish, tokens };
}

/** The data of server-sent events; https://html.spec.whatwg.org/multipage/server-sent-events.html */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    held += value ?? "";
    const lines = held.split(/\r\n|\n|\r(?!$)/);
    held = done ? "" : lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    }
    if (done) return;
  }
}
