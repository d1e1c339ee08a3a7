# SPDX-License-Identifier: Apache-2.0
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
from .options import JSON, RUN, FiniteRange, emit, host_of
from .signing import KEY, signer_of

if TYPE_CHECKING:
    from rich.console import Console

    from ..runs.opened import LoadedRun
    from ..runs.signing import Signer

say = speaker(__name__)

_FILE = click.Path(path_type=Path)


@click.command("eval")
@RUN
@click.option("--limit", type=click.IntRange(min=1), help="At most so many held-out examples.")
@click.option("--minutes", type=FiniteRange(min=0), default=0, help="The most minutes of answering; by default until all are answered.")
@click.option("--sheet", type=_FILE, metavar="FILE.xlsx", help="Write a sheet on which experts judge base and adapter blind.")
@click.option("--grade", "graded", type=_FILE, multiple=True, metavar="FILE.xlsx", help="Read filled-in sheets; once for each expert's.")
@KEY
@JSON
@click.pass_context
def evaluate(
    ctx: click.Context,
    run: Path,
    limit: int | None,
    minutes: float,
    sheet: Path | None,
    graded: Sequence[Path],
    key: str | None,
    as_json: bool,
) -> None:
    """Compare base and adapter on the same held-out examples; with intervals, and in plain words."""
    from ..evaluation import compare
    from ..pipeline import finish
    from ..runs.opened import load_run
    from ..runs.records import EVALUATION
    from ..runs.seal import require_sound
    from . import answering, report

    host = host_of(ctx)
    opened = load_run(host, run)
    console = terminal.console(stderr=as_json)
    signer = signer_of(key)
    if graded:
        if sheet is not None:
            raise click.UsageError(say("--sheet and --grade exclude each other."))
        _grade(console, opened, graded, as_json, signer)
        return
    require_sound(opened.run, ["adapter"])
    if sheet is not None:
        from ..evaluation import review

        review.refuse_name(sheet)  # before minutes of asking
    with answering.ticker(console, say("answers")) as tick:
        result = compare.evaluate(host, opened, limit, tick, measured=lambda done, total: tick(done, total, say("losses")), minutes=minutes)
    # What only some of the examples show must not take the place of what all of them showed.
    whole = (limit is None or opened.task.evaluation.compare is not None) and "cut" not in result
    recorded = None
    if whole or sheet is not None:
        write = (lambda keys: _sheet(opened, sheet, result["rows"], keys)) if sheet is not None and result["rows"] else None
        recorded = finish.keep_result(opened, result if whole else None, write, signer)
    if as_json:
        emit({**result, **report.recorded_json(recorded)})
    else:
        report.evaluation(console, result, opened.run.path / EVALUATION if whole else None)
        report.recorded(console, recorded)
    if sheet is not None and "cut" in result and not result["rows"]:
        raise click.UsageError(say("--sheet: no question was answered in time, so there is nothing to judge; give more --minutes."))
    if sheet is not None and not result["rows"]:
        raise click.UsageError(say("--sheet: this run gives no answers in words, so there is nothing to judge on a sheet."))


def _sheet(opened: LoadedRun, sheet: Path, rows: Sequence[dict[str, object]], keys: Path) -> None:
    """Writes a review sheet, and which answer is whose to ``keys``; that is never handed to those who judge."""
    from ..evaluation import review

    run = opened.run.path
    # Near-identical questions once: graders should not read the same thing again, and it would count as one anyway.
    first: dict[object, dict[str, object]] = {}
    for row in rows:
        first.setdefault(row.get("alike", row.get("group")), row)
    count = review.write_sheet(sheet, list(first.values()), keys, run.name, _adapter(opened))
    line = command("loraforge", "eval", run, "--grade", sheet)
    show(say("{path}: {n} questions to judge. Then: {command}", path=sheet, n=count, command=line), err=True)


def _adapter(opened: LoadedRun) -> str:
    from ..runs.provenance import hash_file

    return hash_file(opened.run.adapter / "adapter_model.safetensors")


def _grade(console: Console, opened: LoadedRun, graded: Sequence[Path], as_json: bool, signer: Signer | None) -> None:
    """Reads filled sheets and keeps what they say in the run: manifest and card can then be filed."""
    from ..evaluation import review
    from ..pipeline import finish
    from ..runs.records import REVIEW_KEYS
    from ..runs.seal import require_sound
    from . import report

    keys = opened.run.path / REVIEW_KEYS
    require_sound(opened.run, ["adapter", *([REVIEW_KEYS] if keys.exists() else [])])
    result = review.read_grades(list(graded), keys, _adapter(opened))
    recorded = finish.keep_grades(opened, {key: value for key, value in result.items() if key != "items"}, signer)
    if as_json:
        emit({**result, **report.recorded_json(recorded)})
        return
    for line in review.report_lines(result):
        console.print(line, markup=False)
    report.recorded(console, recorded)


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
@KEY
@JSON
@click.pass_context
def promote(ctx: click.Context, run: Path, step: int, key: str | None, as_json: bool) -> None:
    """Make the checkpoint of STEP the run's adapter, and write its exports again."""
    from ..pipeline import finish
    from ..runs.observers import Progress
    from . import report

    host = host_of(ctx)
    console = terminal.console(stderr=as_json)
    host.register(Progress(console, "steps"), "progress", "loraforge")
    done, recorded = finish.promote(host, run, step, host.tell, signer_of(key))
    if as_json:
        exports = {name: export.path for name, export in done.exports.items()}
        emit({"run": run, "step": step, "exports": exports, **report.recorded_json(recorded)})
        return
    report.promoted(console, run, step, done)
    report.recorded(console, recorded)


COMMANDS = (evaluate, runs, promote)
