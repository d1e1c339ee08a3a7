// SPDX-License-Identifier: Apache-2.0
// The rows of a work's table, asked for in blocks when they are seen; and what check says of each.

import { get, of, put } from "/assets/api.js";

const BLOCK = 100;
const KEPT = 60; // blocks

export class Rows {
  constructor(work, table, signal) {
    Object.assign(this, { work, signal, total: table.total, version: table.version, columns: table.columns, counts: table.counts });
    this.blocks = new Map();
  }

  /** The cells of a row. */
  async get(row) {
    const block = Math.floor(row / BLOCK);
    if (!this.blocks.has(block)) {
      const asked = get(of(this.work, "rows"), { start: block * BLOCK, count: BLOCK }, this.signal).then((told) => {
        this.take(told);
        return new Map(told.rows.map((one) => [one.row, one.cells]));
      });
      asked.catch(() => this.blocks.delete(block));
      this.blocks.set(block, asked);
      while (this.blocks.size > KEPT) this.blocks.delete(this.blocks.keys().next().value);
    }
    return (await this.blocks.get(block)).get(row);
  }

  /** Asks for a row again, whatever is known of it. */
  again(row) {
    this.blocks.delete(Math.floor(row / BLOCK));
    return this.get(row);
  }

  /** Writes new values of a row that was seen so; the row as it is then. */
  async change(row, seen, values) {
    const told = await put(of(this.work, "rows"), { changes: [{ row, seen, values }] });
    this.take(told);
    const block = this.blocks.get(Math.floor(row / BLOCK));
    if (block) (await block).set(row, told.rows[0].cells);
    return told.rows[0].cells;
  }

  /** Decides of many rows at once. */
  async changeAll(rows, values) {
    this.take(await put(of(this.work, "rows", "all"), { rows, version: this.version, values }));
    this.blocks.clear();
  }

  take(told) {
    if (told.total !== this.total) this.blocks.clear();
    Object.assign(this, { total: told.total, version: told.version, columns: told.columns, counts: told.counts });
  }
}

/** Which row of the table a place of `check` means; -1 if none. */
const rowOf = (where) => {
  const found = /(\d+)\D*$/.exec(where);
  return found ? Number(found[1]) - 2 : -1; // the names of the columns are row 1
};

/** What `check` found, by row: {by: row -> findings, checks: name -> {severity, rows}}. A finding has `rows`, the one to change first. */
export function findingsOf(checked, total) {
  const by = new Map();
  const checks = new Map();
  const add = (finding) => {
    const rows = finding.where.map(rowOf).filter((row) => row >= 0 && row < total);
    const one = { ...finding, rows };
    for (const row of new Set(rows)) {
      if (!by.has(row)) by.set(row, []);
      by.get(row).push(one);
    }
    if (finding.waived) return;
    if (!checks.has(finding.check)) checks.set(finding.check, { severity: finding.severity, rows: new Set() });
    for (const row of rows) checks.get(finding.check).rows.add(row);
  };
  for (const finding of checked.told?.found ?? []) add(finding);
  for (const line of checked.problems) {
    const found = /^metadata\.csv\D{1,6}(\d+)[^:：]*[:：]\s*(.+)$/s.exec(line);
    if (found) add({ check: "unreadable", severity: "error", where: [found[1]], message: found[2], excerpt: "", waived: "" });
  }
  return { by, checks };
}

/** The worst of some findings that nobody has waived. */
export function worst(findings) {
  const open = (findings ?? []).filter((one) => !one.waived);
  return ["error", "warning", "hint"].find((severity) => open.some((one) => one.severity === severity)) ?? "";
}
