# SPDX-License-Identifier: Apache-2.0
"""What the commands print: tables and sentences for people. ``--json`` goes around all of this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from .. import terminal
from ..config.key_docs import KeyInfo
from ..data import findings, holdout
from ..data.dataset import Data
from ..errors import printable
from ..evaluation import bootstrap
from ..messages import speaker
from ..pipeline.finish import Export, Finished
from ..plugin_api.host import PluginInfo
from ..runs import lease
from ..runs.amending import Recorded
from ..runs.folder import INTERRUPTED, RUNNING, RunFolder
from ..terminal import pasted, quoted

say = speaker(__name__)


def check(out: Console, summary: Mapping[str, Any], data: Data, show: int, reports: Sequence[Path] = (), lines: Sequence[str] = ()) -> None:
    """The report of ``loraforge check``; ``lines``: what ``estimate.lines`` says."""
    count = findings.counts(data.found)
    if count["error"] or count["warning"]:
        out.print(say("[bold yellow]Can be read[/bold yellow], with findings: {config}", config=escape(str(summary["config"]))))
    else:
        out.print(say("[bold green]In order[/bold green]: {config}", config=escape(str(summary["config"]))))
    out.print(say("  Base model: {base}", base=escape(str(summary["base_model"]))))
    out.print(say("  Examples:   {train} to learn, {held} held out", train=summary["examples"], held=summary["held_out"]))
    out.print(say("  Steps:      {steps}", steps=summary["steps"]))
    if "learned_tokens" in summary:
        out.print(
            say(
                "  Tokens:     {tokens:,}, {learned:,} of them learned; the longest row has {longest}",
                tokens=summary["tokens"],
                learned=summary["learned_tokens"],
                longest=summary["longest_row"],
            )
        )
    for sentence in [*(f"  {one}" for one in data.examination.lines), *lines]:
        out.print(escape(sentence))
    out.print(say("  Template:   {template}", template=escape(str(summary["template"]))))
    for note in summary.get("notes", data.notes):
        out.print(say("  note:       {text}", text=escape(note)))
    for remark in summary["advice"]:
        out.print(say("  advice:     {text}", text=escape(remark)), style="yellow")
    _review(out, data.review)
    _findings(out, data, reports)
    shown = data.examination.shown or data.texts
    if show:
        out.print()
        out.print(say("What is learned is green and in «»; the rest is only read."))
    for record, pieces in list(zip(data.records, shown, strict=True))[:show]:
        out.print()
        out.print(escape(record.where), style="bold")
        line = Text()
        for piece in pieces:
            # The brackets say it where there are no colours.
            text = printable(piece.text)
            line.append(f"«{text}»" if piece.learn else text, style="bold green" if piece.learn else "dim")
        out.print(line)


def _review(out: Console, review: Mapping[str, Any]) -> None:
    """Who answers for the rows, where the data say anything of it."""
    if review["reviewed"] or review["rejected"]:
        names = ", ".join(f"{name} ({n})" for name, n in review["reviewers"].items()) or say("no names")
        out.print(
            say(
                "  Review:     {reviewed} rows reviewed, {unreviewed} not, {rejected} rejected; by {names}",
                reviewed=review["reviewed"],
                unreviewed=review["unreviewed"],
                rejected=review["rejected"],
                names=escape(names),
            )
        )


def _findings(out: Console, data: Data, reports: Sequence[Path]) -> None:
    """What the checks found, a line for each check; the whole list is in a report."""
    count = findings.counts(data.found)
    out.print(say("  Checks:     {error} errors, {warning} warnings, {hint} hints, {waived} waived", **count))
    colour = {"error": "red", "warning": "yellow", "hint": "dim"}
    for check, severity, number, first in findings.by_check(data.found):
        name = findings.check_name(check)
        line = say("    {check} x {n}, the first: {line}", check=name, n=number, line=first.line().replace(f" {name}:", "", 1))
        out.print(escape(line), style=colour[severity])
    for path in reports:
        out.print(say("  Report:     {path}", path=escape(str(path))))
    if data.found and not reports:
        out.print(say("  All of them: loraforge check ... --report findings.html (or .csv, to work through)"))


def evaluation(out: Console, result: Mapping[str, Any], file: Path | None, *, whole: bool = True) -> None:
    """The table of base against adapter, and what it means in words.

    Args:
        whole: every measure; otherwise only what became worse, as the sentences give the figures of the measure that decides.
    """
    parts = result.get("parts")
    cut = result.get("cut") or {"answered": 0}
    if 0 < cut["answered"] < cut["of"]:
        head = say(
            "on {n} of {all} held-out examples (eval_minutes: {minutes:g})", n=cut["answered"], all=cut["of"], minutes=cut["minutes"]
        )
    else:
        head = say("on {n} held-out examples", n=result["examples"])
    heads = (head, *([say("their answer")] if parts else []), say("base"), say("adapter"), say("difference, 95 % interval"), "")
    shown: list[tuple[str, ...]] = []
    left_out = set()
    for new, c in holdout.in_parts(result):
        if not whole and c["verdict"] not in ("worse", "mixed"):
            left_out.add(c["measure"])
            continue
        shown.append(
            (
                say(c["measure"]),
                *([holdout.part_name(new, c["rows"])] if parts else []),
                bootstrap.figure(c["base"], c["share"]),
                bootstrap.figure(c["adapter"], c["share"]),
                _difference(c),
                _verdict_word("too few" if c.get("too_few") else c["verdict"]),
            )
        )
    for new in (True, False):
        if whole and parts and not parts["new" if new else "reworded"]:
            shown.append((say("all measures"), holdout.part_name(new, 0), "-", "-", "-", say("cannot be told") if new else ""))
    for measure, texts in result.get("figures", {}).items() if whole else ():
        shown.append((say(measure), *([""] if parts else []), texts.get("base", ""), texts.get("adapter", "")))
    if shown:
        terminal.table(out, heads, shown)
    for sentence in result["sentence"]:
        out.print(escape(sentence))
    recited = result.get("memorisation", {})
    if recited.get("learned_asked") and (whole or recited["learned_word_for_word"]):
        text = say(
            "Learned by heart: of {all} learned questions asked again, {n} were answered word for word.",
            all=recited["learned_asked"],
            n=recited["learned_word_for_word"],
        )
        out.print(escape(text))
    if left_out:
        out.print(say("{n} measures, none of the others shown to be worse: -v, or {file}", n=len(left_out), file=escape(str(file))))
    elif file is not None:
        name = escape(str(file))
        out.print(say("Every question with both answers: {file}", file=name) if result["rows"] else say("The figures: {file}", file=name))


def _difference(c: Mapping[str, Any]) -> str:
    """A difference with its interval, where there is one."""
    gap, factor = ("{:+.1f}", 100) if c["share"] else ("{:+.3f}", 1)
    low, high, difference = (c[key] if c[key] is None else gap.format(factor * c[key]) for key in ("low", "high", "difference"))
    return f"{difference}" if low is None or high is None else f"{difference} [{low}, {high}]"


_VERDICTS = ("better", "worse", "mixed", "nearer", "no evidence", "too few", "cannot be told")


def _verdict_word(verdict: str) -> str:
    words = (say("better"), say("worse"), say("mixed"), say("nearer"), say("no evidence"), say("too few"), say("cannot be told"))
    return dict(zip(_VERDICTS, words, strict=True)).get(verdict, verdict)


def recorded(out: Console, done: Recorded | None) -> None:
    """What was recorded of a run that a command has written into."""
    if done is not None and done.record:
        by = say(", signed with the key {key}", key=done.signed) if done.signed else ""
        text = say("Recorded in {record}{by}. The run's seal is the one that `train` printed.", record=done.record, by=by)
        out.print(escape(text))


def recorded_json(done: Recorded | None) -> dict[str, Any]:
    """The same for ``--json``."""
    if done is None:
        return {"seal": None, "record": None, "newest": None, "signed": None}
    return {"seal": done.seal, "record": done.record, "newest": done.digest, "signed": done.signed or None}


def checkpoints(out: Console, run: RunFolder, rows: Sequence[Mapping[str, Any]]) -> None:
    """The checkpoints of one run beside each other."""
    heads = (say("step"), say("epoch"), say("training loss"), say("held-out loss"), say("checkpoint"), "")
    shown: list[tuple[str, ...]] = []
    losses = [row["held_out_loss"] for row in rows if row["held_out_loss"] is not None]
    for row in rows:
        marks = [say("lowest")] if losses and row["held_out_loss"] == min(losses) else []
        marks += [say("the run's adapter")] if row["chosen"] else []
        shown.append(
            (
                str(row["step"]),
                "" if row["epoch"] is None else f"{row['epoch']:.1f}",
                "" if row["train_loss"] is None else f"{row['train_loss']:.3f}",
                "" if row["held_out_loss"] is None else f"{row['held_out_loss']:.4f}",
                say("kept") if row["kept"] else say("deleted"),
                ", ".join(marks),
            )
        )
    terminal.table(out, heads, shown)
    picture = run.path / "checkpoints.png"
    if picture.is_file():
        out.print(say("The same as a picture: {path}", path=escape(str(picture))))
    out.print(say("`loraforge promote {run} STEP` takes another one that is kept.", run=escape(quoted(run.path))))


def promoted(out: Console, run: Path, step: int, done: Finished) -> None:
    """What ``promote`` did."""
    out.print(say("The adapter of {run} now comes from step {step}.", run=escape(str(run)), step=step))
    for name, export in done.exports.items():
        out.print(say("{name}: {path}", name=name, path=escape(str(export.path))))
    if done.result is not None:
        evaluation(out, done.result, None)


def exported(out: Console, name: str, done: Export) -> None:
    """Where an export is, and how to use it."""
    out.print(say("{name}: {path}", name=name, path=escape(str(done.path))))
    for line in done.delivered:
        out.print(f"  {escape(line)}")
    for line in done.usage:
        pasted(out, line)


def run_row(run: RunFolder) -> dict[str, Any]:
    """What ``loraforge runs`` says of one run."""
    manifest = run.manifest()
    metrics = manifest.get("metrics", {})
    dead = manifest["status"] == RUNNING and not lease.in_use(run.path)  # killed, or the power went: nobody could write it down
    return {
        "run": str(run.path),
        "status": INTERRUPTED if dead else manifest["status"],
        "started": manifest["started"],
        "task": manifest["task"],
        "base_model": manifest["config"]["base_model"],
        "data": manifest["config"].get("metadata_path") or manifest["config"]["train_data_dir"],
        "examples": len(manifest["data"]["rows"]),
        "held_out_loss_base": metrics.get("held_out_loss_base", metrics.get("held_out_loss_start")),
        "held_out_loss": metrics.get("held_out_loss"),
        "step": (manifest.get("chosen") or {}).get("step"),
        "verdict": _verdict(manifest),
        "continues": next((parent["run"] for parent in manifest.get("lineage") or ()), None),
    }


def _verdict(manifest: Mapping[str, Any]) -> str | None:
    """What experts found who judged blind; otherwise what the comparison with the base came to."""
    judged = (manifest.get("grades") or {}).get("comparison") or {}
    found = manifest.get("evaluation") or {}
    if judged.get("verdict") or found.get("verdict"):
        return str(judged.get("verdict") or found["verdict"])
    # Runs of earlier versions say it of each measure only.
    return next((c["verdict"] for c in found.get("comparisons") or () if c["measure"] == found.get("headline", "loss")), None)


def runs(out: Console, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The table of ``loraforge runs``."""
    if not rows:
        out.print(
            say("There are no runs in {folder}. `loraforge train text --example legal` makes one.", folder=escape(str(folder.absolute())))
        )
        return
    heads = (say("run"), say("status"), say("started"), say("task"), say("base"), say("examples"), say("step"), say("held-out loss"), "")
    shown: list[tuple[str, ...]] = []
    for row in rows:
        before, after = row["held_out_loss_base"], row["held_out_loss"]
        loss = f"{before:.3f} -> {after:.3f}" if before is not None and after is not None else ""
        shown.append(
            (
                row["run"],
                say(row["status"]),
                str(row["started"])[:16].replace("T", " "),
                row["task"],
                str(row["base_model"]),
                str(row["examples"]),
                str(row["step"] or ""),
                loss,
                _verdict_word(row["verdict"]) if row["verdict"] else "",
            )
        )
    terminal.table(out, heads, shown)
    out.print(say("`loraforge runs RUN` compares the checkpoints of one."))


def keys(out: Console, rows: Sequence[KeyInfo]) -> None:
    """The table of ``loraforge keys``, one block per owner."""
    owner = ""
    for row in rows:
        if row.owner != owner:
            owner = row.owner
            out.print(f"\n[bold]{escape(owner)}[/bold]")
        default = f" = {row.default}" if row.default else ""
        out.print(f"  [cyan]{row.name}[/cyan]{escape(default)}  [dim]{escape(row.kind)}[/dim]")
        out.print(f"      {escape(row.help)}")
        if row.aliases:
            out.print(say("      also: {names}", names=escape(", ".join(row.aliases))), style="dim")


def plugins(out: Console, rows: Sequence[PluginInfo], clashes: Sequence[str]) -> None:
    """The table of ``loraforge plugins``."""
    heads = (say("plugin"), say("from"), say("hooks"))
    shown: list[tuple[str, ...]] = []
    for row in rows:
        shown.append((row.name, row.origin, ", ".join(hook.removeprefix("loraforge_") for hook in row.hooks)))
    terminal.table(out, heads, shown)
    for row in rows:
        if row.error:
            out.print(f"{row.name}: {escape(row.error)}", style="red")
    for clash in clashes:
        out.print(escape(clash), style="red")


def components(out: Console, rows: Sequence[Mapping[str, str]], broken: Sequence[str]) -> None:
    """The table of ``loraforge list``."""
    heads = (say("kind"), say("task"), say("name"), say("what it does"), say("plugin"))
    shown: list[tuple[str, ...]] = []
    for row in rows:
        kind = say("example") if row["kind"] == "example" else say(row["kind"])
        shown.append((kind, row["task"], row["name"], say(row["help"]), row["plugin"]))
    terminal.table(out, heads, shown)
    for line in broken:
        out.print(escape(line), style="red")
