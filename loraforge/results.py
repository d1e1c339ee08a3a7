"""The commands on finished runs: eval, runs, promote. torch is imported by eval and promote only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from .errors import LoraForgeError
from .messages import speaker
from .options import JSON, RUN, emit, host_of

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
    from . import evaluation, handover, report
    from .opened import open_run

    if graded:
        if sheet is not None:
            raise click.UsageError(say("--sheet and --grade exclude each other."))
        _grade(run, graded, as_json)
        return
    host = host_of(ctx)
    opened = open_run(host, run)
    console = report.console(stderr=as_json)
    if sheet is not None:
        from .evaluation import review

        review.refuse_name(sheet)  # before minutes of asking
    with report.ticker(console, say("answers")) as tick:
        result = evaluation.evaluate(host, opened, limit, tick)
    file = handover.keep_result(opened, result)
    if as_json:
        emit(result)
    else:
        report.evaluation(console, result, file)
    if sheet is not None:
        _sheet(opened.run.path, sheet, result["rows"])


def _sheet(run: Path, sheet: Path, rows: Sequence[dict[str, object]]) -> None:
    from .evaluation import review

    if not rows:
        raise click.UsageError(say("--sheet: this run gives no answers in words, so there is nothing to judge on a sheet."))
    count = review.write_sheet(sheet, rows, run / _KEYS, run.name)
    click.echo(say("{path}: {n} questions to judge. Then: loraforge eval {run} --grade {path}", path=sheet, n=count, run=run), err=True)


def _grade(run: Path, graded: Sequence[Path], as_json: bool) -> None:
    from .evaluation import review
    from .rundir import RunDir

    RunDir(run).manifest()  # says it where this is no run
    result = review.read_grades(list(graded), run / _KEYS)
    if as_json:
        emit(result)
        return
    for line in review.report_lines(result):
        click.echo(line)


@click.command()
@click.argument("folder", type=_FILE, default=Path("output"))
@JSON
def runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (by default ./output); of a run itself, compare its checkpoints."""
    from . import report, rundir
    from .checkpoints import checkpoint_rows

    itself = rundir.RunDir(folder)
    if itself.manifest_file.is_file():
        rows = checkpoint_rows(itself, itself.manifest())
        if as_json:
            emit({"run": str(folder), "checkpoints": rows})
        else:
            report.checkpoints(report.console(), itself, rows)
        return
    found = []
    for run in rundir.find_runs(folder):
        try:
            found.append(report.run_row(run))
        except (LoraForgeError, KeyError, TypeError, AttributeError) as error:
            click.echo(f"{run.path}: {error}", err=True)
    if as_json:
        emit(found)
    else:
        report.runs(report.console(), found, folder)


@click.command()
@RUN
@click.argument("step", type=click.IntRange(min=1))
@JSON
@click.pass_context
def promote(ctx: click.Context, run: Path, step: int, as_json: bool) -> None:
    """Make the checkpoint of STEP the run's adapter, and write its exports again."""
    from . import handover, report
    from .observers import Progress

    host = host_of(ctx)
    console = report.console(stderr=as_json)
    host.register(Progress(console, "steps"), "progress", "loraforge")
    done = handover.promote(host, run, step, host.tell)
    if as_json:
        emit({"run": run, "step": step, "exports": {name: export.path for name, export in done.exports.items()}})
        return
    report.promoted(console, run, step, done)


COMMANDS = (evaluate, runs, promote)
