"""What the commands print: tables and sentences for people. ``--json`` goes around all of this."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .dataset import Data
from .keydocs import KeyInfo
from .messages import speaker
from .observers import duration
from .pipeline import Export, Outcome
from .planning import Plan
from .plugins import PluginInfo
from .rundir import RunDir

say = speaker(__name__)


def console(*, stderr: bool = False) -> Console:
    """Standard output (or error), without guesses about what to highlight and without hard line breaks in pipes."""
    out = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not out.is_terminal:
        out.width = 200  # rich would squeeze tables into 80 columns
    return out


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    # As Text: a cell may hold [INST], which is no markup.
    table.add_row(*(Text(cell) for cell in cells))


def _print_table(out: Console, table: Table) -> None:
    out.print(table, soft_wrap=False)


def headline(out: Console, plan: Plan, path: Path) -> None:
    """The first lines of ``train``: what was read, and advice on it."""
    out.print(f"[bold]LoRAForge[/bold]  {escape(plan.task.name)}  {escape(str(path))}")
    for remark in plan.advice:
        out.print(say("  advice: {text}", text=escape(remark)), style="yellow")


def outcome(out: Console, done: Outcome, plugin_files: Sequence[Path] = ()) -> None:
    """The last lines of ``train``: where everything is, and what to type next."""
    run = done.run.path
    before, after = done.metrics.get("held_out_loss_base"), done.metrics.get("held_out_loss")
    out.print()
    out.print(say("[bold green]Done[/bold green] in {time}.", time=duration(done.seconds)))
    if before is not None and after is not None:
        out.print(say("  Loss on the held-out examples: {before:.3f} before, {after:.3f} after.", before=before, after=after))
    size = sum(file.stat().st_size for file in done.run.adapter.glob("*.safetensors"))
    out.print(say("  Adapter:    {path} ({size:.1f} MB)", path=escape(str(done.run.adapter)), size=size / 1e6))
    for name, path in done.exports.items():
        out.print(say("  Export:     {path} ({name})", path=escape(str(path)), name=name))
    for line in done.delivered:
        out.print(f"  {escape(line)}")
    if done.samples is not None:
        out.print(say("  Samples:    {path}", path=escape(str(done.samples))))
    out.print(say("  Loss curve: {path}", path=escape(str(run / "loss.png"))))
    out.print()
    out.print(say("Next:"))
    quoted = done.question.replace('"', "'").replace("\n", " ")
    program = " ".join(["loraforge", *(f"-p {file}" for file in plugin_files)])
    for command in (
        f'{program} sample {run} "{quoted}" --base',
        f"{program} eval {run}",
        f"tensorboard --logdir {run / 'tensorboard'}",
        *(line for lines in done.usage.values() for line in lines),
    ):
        out.print(f"  {escape(command)}", style="cyan")


def check(out: Console, summary: Mapping[str, Any], data: Data, show: int) -> None:
    """The report of ``loraforge check``."""
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
    for sentence in data.examination.lines:
        out.print(f"  {escape(sentence)}")
    out.print(say("  Template:   {template}", template=escape(str(summary["template"]))))
    for note in data.notes:
        out.print(say("  note:       {text}", text=escape(note)))
    for remark in summary["advice"]:
        out.print(say("  advice:     {text}", text=escape(remark)), style="yellow")
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
            line.append(f"«{piece.text}»" if piece.learn else piece.text, style="bold green" if piece.learn else "dim")
        out.print(line)


def answers(out: Console, question: str, given: Mapping[str, str]) -> None:
    """One question with its answers."""
    out.print(f"[bold]{escape(question)}[/bold]")
    for name, answer in given.items():
        out.print(Text.assemble((f"  {name}: ", "dim" if name == "base" else "green"), answer))
    out.print()


@contextlib.contextmanager
def ticker(out: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left, for work that is no training."""
    from rich.progress import Progress

    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def evaluation(out: Console, result: Mapping[str, Any], file: Path) -> None:
    """The table of ``loraforge eval``."""
    what = "" if "figures" in result else say("on {n} held-out examples", n=result["examples"])
    table = _table(what, say("base"), say("adapter"))
    losses = result["losses"]
    if losses["base"] is not None and losses["adapter"] is not None:
        _row(table, say("loss"), f"{losses['base']:.3f}", f"{losses['adapter']:.3f}")
    for measure, texts in result.get("figures", {}).items():
        _row(table, say(measure), texts.get("base", ""), texts.get("adapter", ""))
    for measure, sides in result.get("scores", {}).items():
        _row(table, say(measure), *("" if sides[side] is None else f"{sides[side]:.1%}" for side in ("base", "adapter")))
    _print_table(out, table)
    shown = escape(str(file))
    out.print(say("Every question with both answers: {file}", file=shown) if result["rows"] else say("The figures: {file}", file=shown))


def exported(out: Console, name: str, done: Export) -> None:
    """Where an export is, and how to use it."""
    out.print(say("{name}: {path}", name=name, path=escape(str(done.path))))
    for line in done.delivered:
        out.print(f"  {escape(line)}")
    for line in done.usage:
        out.print(f"  {escape(line)}", style="cyan")


def run_row(run: RunDir) -> dict[str, Any]:
    """What ``loraforge runs`` says of one run."""
    manifest = run.manifest()
    metrics = manifest.get("metrics", {})
    return {
        "run": str(run.path),
        "status": manifest["status"],
        "started": manifest["started"],
        "task": manifest["task"],
        "base_model": manifest["config"]["base_model"],
        "data": manifest["config"].get("metadata_path") or manifest["config"]["train_data_dir"],
        "examples": len(manifest["data"]["rows"]),
        "held_out_loss_base": metrics.get("held_out_loss_base"),
        "held_out_loss": metrics.get("held_out_loss"),
    }


def runs(out: Console, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The table of ``loraforge runs``."""
    if not rows:
        out.print(
            say(
                "There are no runs in {folder}. `loraforge train text configs/legal.yaml` makes one.", folder=escape(str(folder.absolute()))
            )
        )
        return
    table = _table(say("run"), say("status"), say("started"), say("task"), say("base"), say("examples"), say("held-out loss"))
    for row in rows:
        before, after = row["held_out_loss_base"], row["held_out_loss"]
        loss = f"{before:.3f} -> {after:.3f}" if before is not None and after is not None else ""
        _row(
            table,
            row["run"],
            say(row["status"]),
            str(row["started"])[:16].replace("T", " "),
            row["task"],
            str(row["base_model"]),
            str(row["examples"]),
            loss,
        )
    _print_table(out, table)


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


def plugins(out: Console, rows: Sequence[PluginInfo], clashes: Sequence[str]) -> None:
    """The table of ``loraforge plugins``."""
    table = _table(say("plugin"), say("from"), say("hooks"))
    for row in rows:
        _row(table, row.name, row.origin, ", ".join(hook.removeprefix("loraforge_") for hook in row.hooks))
    _print_table(out, table)
    for row in rows:
        if row.error:
            out.print(f"{row.name}: {escape(row.error)}", style="red")
    for clash in clashes:
        out.print(escape(clash), style="red")


def components(out: Console, rows: Sequence[Mapping[str, str]], broken: Sequence[str]) -> None:
    """The table of ``loraforge list``."""
    table = _table(say("kind"), say("task"), say("name"), say("what it does"), say("plugin"))
    for row in rows:
        _row(table, say(row["kind"]), row["task"], row["name"], say(row["help"]), row["plugin"])
    _print_table(out, table)
    for line in broken:
        out.print(escape(line), style="red")
