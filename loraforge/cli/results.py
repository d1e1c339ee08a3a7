"""The commands on finished runs: eval, runs, promote. torch is imported by eval and promote only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import terminal
from ..errors import LoraForgeError
from ..messages import speaker
from ..terminal import command, show
from .options import JSON, RUN, emit, host_of

if TYPE_CHECKING:
    from rich.console import Console

    from ..runs.opened import LoadedRun

say = speaker(__name__)

_FILE = click.Path(path_type=Path)
_KEYS = "review-keys.json"  # which answer is whose; never handed to those who judge


@click.command("eval")
@RUN
@click.option("--limit", type=click.IntRange(min=1), help="At most so many held-out examples.")
@click.option("--sheet", type=_FILE, metavar="FILE.xlsx", help="Write a sheet on which experts judge base and adapter blind.")
@click.option("--grade", "graded", type=_FILE, multiple=True, metavar="FILE.xlsx", help="Read filled-in sheets; once for each expert's.")
@JSON
@click.pass_context
def evaluate(ctx: click.Context, run: Path, limit: int | None, sheet: Path | None, graded: Sequence[Path], as_json: bool) -> None:
    """Compare base and adapter on the same held-out examples; with intervals, and in plain words."""
    from ..evaluation import compare
    from ..pipeline import finish
    from ..runs.opened import load_run
    from ..runs.seal import require_sound
    from . import report

    host = host_of(ctx)
    opened = load_run(host, run)
    console = terminal.console(stderr=as_json)
    if graded:
        if sheet is not None:
            raise click.UsageError(say("--sheet and --grade exclude each other."))
        _grade(console, opened, graded, as_json)
        return
    require_sound(opened.run, ["adapter"])
    if sheet is not None:
        from ..evaluation import review

        review.refuse_name(sheet)  # before minutes of asking
    with report.ticker(console, say("answers")) as tick:
        result = compare.evaluate(host, opened, limit, tick)
    # What only some of the examples show must not take the place of what all of them showed.
    whole = limit is None or opened.task.evaluation.compare is not None
    seal = finish.keep_result(opened, result) if whole else None
    if as_json:
        emit({**result, "seal": seal})
    else:
        report.evaluation(console, result, opened.run.path / finish.RESULT if whole else None)
        report.sealed(console, opened.run.path, seal)
    if sheet is not None:
        _sheet(opened, sheet, result["rows"])


def _sheet(opened: LoadedRun, sheet: Path, rows: Sequence[dict[str, object]]) -> None:
    from ..evaluation import review

    run = opened.run.path
    if not rows:
        raise click.UsageError(say("--sheet: this run gives no answers in words, so there is nothing to judge on a sheet."))
    # Near-identical questions once: graders should not read the same thing again, and it would count as one anyway.
    first: dict[object, dict[str, object]] = {}
    for row in rows:
        first.setdefault(row.get("group"), row)
    count = review.write_sheet(sheet, list(first.values()), run / _KEYS, run.name, _adapter(opened))
    line = command("loraforge", "eval", run, "--grade", sheet)
    show(say("{path}: {n} questions to judge. Then: {command}", path=sheet, n=count, command=line), err=True)


def _adapter(opened: LoadedRun) -> str:
    from ..runs.provenance import hash_file

    return hash_file(opened.run.adapter / "adapter_model.safetensors")


def _grade(console: Console, opened: LoadedRun, graded: Sequence[Path], as_json: bool) -> None:
    """Reads filled sheets and keeps what they say in the run: manifest and card can then be filed."""
    from ..evaluation import review
    from ..pipeline import finish
    from . import report

    result = review.read_grades(list(graded), opened.run.path / _KEYS, _adapter(opened))
    kept = {key: value for key, value in result.items() if key != "items"}
    seal = finish.keep_entries(opened, [], grades=kept)
    if as_json:
        emit({**result, "seal": seal})
        return
    for line in review.report_lines(result):
        console.print(line, markup=False)
    report.sealed(console, opened.run.path, seal)


@click.command()
@click.argument("folder", type=_FILE, default=Path("output"))
@JSON
def runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (by default ./output); of a run itself, compare its checkpoints."""
    from ..runs.checkpoints import checkpoint_rows
    from ..runs.folder import RunFolder, find_runs
    from . import report

    itself = RunFolder(folder)
    if itself.manifest_file.is_file():
        rows = checkpoint_rows(itself, itself.manifest())
        if as_json:
            emit({"run": str(folder), "checkpoints": rows})
        else:
            report.checkpoints(terminal.console(), itself, rows)
        return
    found = []
    for run in find_runs(folder):
        try:
            found.append(report.run_row(run))
        except (LoraForgeError, KeyError, TypeError, AttributeError) as error:
            show(f"{run.path}: {error}", err=True)
    if as_json:
        emit(found)
    else:
        report.runs(terminal.console(), found, folder)


@click.command()
@RUN
@click.argument("step", type=click.IntRange(min=1))
@JSON
@click.pass_context
def promote(ctx: click.Context, run: Path, step: int, as_json: bool) -> None:
    """Make the checkpoint of STEP the run's adapter, and write its exports again."""
    from ..pipeline import finish
    from ..runs.observers import Progress
    from . import report

    host = host_of(ctx)
    console = terminal.console(stderr=as_json)
    host.register(Progress(console, "steps"), "progress", "loraforge")
    done, seal = finish.promote(host, run, step, host.tell)
    if as_json:
        emit({"run": run, "step": step, "exports": {name: export.path for name, export in done.exports.items()}, "seal": seal})
        return
    report.promoted(console, run, step, done)
    report.sealed(console, run, seal)


COMMANDS = (evaluate, runs, promote)
