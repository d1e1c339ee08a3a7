// SPDX-License-Identifier: Apache-2.0
// Words that belong to one step: two steps may call different things by the same name.

/** The words of a step, under its name. */
export const named = (step, words) => Object.fromEntries(
  Object.entries(words).map(([language, said]) => [language, Object.fromEntries(Object.entries(said).map(([key, sentence]) => [`${step}.${key}`, sentence]))]),
);
