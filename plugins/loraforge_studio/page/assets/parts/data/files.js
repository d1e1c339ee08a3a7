// SPDX-License-Identifier: Apache-2.0
// Files that somebody drops or chooses: what they are, and bringing them to the studio one by one.

import { upload } from "/assets/api.js";
import { t } from "/assets/words.js";

const PICTURES = /\.(png|jpe?g|webp|gif|bmp|avif|tiff?|heic|heif|jxl|tga|psd)$/i;
const TEXTS = /\.(csv|tsv|jsonl|ndjson|json|xlsx?|xlsm|xlsb|ods|parquet|arrow|feather|docx|md|markdown|txt|zip)(\.gz)?$/i;
const JUNK = /^(\.(?!\.?$)|~\$|thumbs\.db$|desktop\.ini$)/i;
const AT_ONCE = 3;

/** All files of a drop, those of folders with the folders' names: [{path, file}]. */
export async function dropped(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await collect(entry, "", found);
  return tidy(found);
}

async function collect(entry, before, found) {
  if (!entry) return;
  if (entry instanceof File) found.push({ path: entry.name, file: entry });
  else if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ path: before + entry.name, file });
  } else {
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!part.length) break;
      for (const one of part) await collect(one, `${before}${entry.name}/`, found);
    }
  }
}

/** The same of a file field. */
export const chosen = (files) => tidy([...files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));

/** {files, left, name}: without what systems put beside files; a folder around all of them gives the name. */
function tidy(all) {
  const files = all.filter(({ path }) => !path.split("/").some((part) => JUNK.test(part)));
  const tops = new Set(files.map(({ path }) => (path.includes("/") ? path.split("/")[0] : "")));
  const top = tops.size === 1 ? [...tops][0] : "";
  const name = top || (files[0]?.path.split("/").pop() ?? "").replace(/\.[^.]+$/, "");
  if (top && !/^\d+_/.test(top)) for (const one of files) one.path = one.path.slice(top.length + 1);
  return { files, left: all.length - files.length, name };
}

/** What files are by their names: {task, pictures, texts, others}; task is "" where they are neither. */
export function kindOf(names) {
  const pictures = names.filter((name) => PICTURES.test(name)).length;
  const texts = names.filter((name) => TEXTS.test(name)).length;
  return { task: pictures ? "image" : texts ? "text" : "", pictures, texts, others: names.length - pictures - texts };
}

/**
 * Brings files, three at once. `tell({done, share})` hears how far it is. Returns the problems: [{path, file, problems}].
 */
export async function bring(work, files, tell, signal) {
  const failed = [];
  const taken = new Map();
  const shares = new Map();
  const all = files.reduce((sum, one) => sum + one.file.size + 1, 0);
  let next = 0;
  let done = 0;
  let bytes = 0;
  const say = () => tell({ done, share: (bytes + [...shares.values()].reduce((sum, one) => sum + one, 0)) / all });
  const carry = async () => {
    while (next < files.length && !signal?.aborted) {
      const one = files[next];
      next += 1;
      try {
        const told = await upload(work, one.path, one.file, (share) => {
          shares.set(one, share * one.file.size);
          say();
        });
        if (taken.has(told.path)) failed.push({ ...one, problems: [t("same_name", { name: one.path, other: taken.get(told.path) })], again: false });
        taken.set(told.path, one.path);
      } catch (error) {
        failed.push({ ...one, problems: error.problems ?? [String(error)], again: true });
      }
      shares.delete(one);
      bytes += one.file.size + 1;
      done += 1;
      say();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, carry));
  return failed;
}
