// SPDX-License-Identifier: Apache-2.0
// What the page says, in English and Chinese; a file for each step. What commands say comes from them in the same language.

import begin from "/assets/words/begin.js";
import choose from "/assets/words/choose.js";
import common from "/assets/words/common.js";
import data from "/assets/words/data.js";
import handon from "/assets/words/handon.js";
import judge from "/assets/words/judge.js";
import shelf from "/assets/words/shelf.js";
import train from "/assets/words/train.js";

const ALL = [common, begin, data, choose, train, judge, handon, shelf];
let spoken = {};
export let language = "en";

export function speak(code) {
  language = code === "zh" ? "zh" : "en";
  spoken = Object.assign({}, ...ALL.map((words) => words[language]));
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

/** A sentence with {name} replaced; of {n|row|rows} the first for one, and the second for any other number of n. */
export function t(key, values = {}) {
  const sentence = spoken[key] ?? key;
  return sentence
    .replace(/\{(\w+)\|([^|}]*)\|([^|}]*)\}/g, (_, name, one, many) => (Number(values[name]) === 1 ? one : many))
    .replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export const number = (value, digits = 0) => Number(value).toLocaleString(language === "zh" ? "zh-CN" : "en", { maximumFractionDigits: digits });

/** Bytes in the unit that suits. */
export function bytes(value) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["KB", 1e3]]) if (value >= size) return `${number(value / size, value < 10 * size ? 1 : 0)} ${unit}`;
  return `${number(value)} B`;
}

/** Seconds as people say them. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return t("seconds", { s: whole });
  if (whole < 3600) return t("minutes", { m: Math.floor(whole / 60), s: whole % 60 });
  return t("hours", { h: Math.floor(whole / 3600), m: Math.floor((whole % 3600) / 60) });
}

/** Seconds since 1970 as date and time. */
export const moment = (time) => new Date(time * 1000).toLocaleString(language === "zh" ? "zh-CN" : "en", { dateStyle: "medium", timeStyle: "short" });
