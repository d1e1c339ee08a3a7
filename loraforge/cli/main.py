# SPDX-License-Identifier: Apache-2.0
"""The command line: the click group and its core commands; plugins add more.

torch is imported by ``train``, ``sample``, ``eval`` and ``export`` only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import __version__, terminal
from ..errors import DataError, LoraForgeError, PluginError, RunError, machines_fault
from ..messages import out_of_something, speaker
from ..terminal import show
from . import audit as trust
from . import beginning, listings, new_plugin, results, sampling, signing, wording
from .options import (
    CONFIG,
    EXAMPLE,
    JSON,
    RUN,
    SET,
    TASK,
    ConfigCommand,
    ExportingCommand,
    TrainCommand,
    emit,
    host_of,
    program,
    settings,
)

say = speaker(__name__)


class LoraForgeGroup(click.Group):
    """Core commands, and those of plugins, which are asked for on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *host_of(ctx).commands(self.commands)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name) or host_of(ctx).commands(self.commands).get(cmd_name)
        return wording.localised(found) if found is not None else None

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """The command line, in the user's language."""
        with wording.clicks_words():
            return super(LoraForgeGroup, wording.localised(self)).main(*arguments, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """What a plugin's code raises is the plugin's, and said so."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            blamed = host_of(ctx).blamed(error)
            if blamed is None:
                raise
            raise blamed from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = say(" Did you mean '{word}'?", word=close[0]) if close else ""
            broken = "".join(f"\n{line}" for line in host_of(ctx).broken())
            raise click.UsageError(f"{error.message}{hint}{broken}", ctx) from None


@click.group(cls=LoraForgeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-p",
    "plugin_files",
    multiple=True,
    is_eager=True,
    metavar="FILE.py",
    type=click.Path(path_type=Path),
    help="Load a plugin: a file, or the folder of a package. May be repeated; stands before the command.",
)
@click.version_option(__version__, prog_name="loraforge", help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context, plugin_files: Sequence[Path]) -> None:
    """Train a LoRA adapter from a folder of examples with one YAML file.

    \b
      loraforge init text --data table.xlsx
      loraforge train text --example legal
      loraforge sample output/legal "劳动合同到期不续签有补偿吗？" --base
    """
    if ctx.invoked_subcommand not in ("plugins", "list") and (lines := host_of(ctx).unusable()):
        raise PluginError(lines)


@cli.command(cls=TrainCommand)
@TASK
@CONFIG
@EXAMPLE
@SET
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint in output_dir.")
@click.option("--fresh", is_flag=True, help="Rename an earlier run in output_dir out of the way and train anew.")
@click.option("-v", "--verbose", is_flag=True, help="At the end print all measures, what the losses show, and how each export is used.")
@signing.KEY
@JSON
@click.pass_context
def train(
    ctx: click.Context,
    /,
    task: str,
    config: Path,
    example: str | None,
    overrides: Sequence[str],
    resume: bool,
    fresh: bool,
    verbose: bool,
    key: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train an adapter: data, training, export, in one go."""
    from ..device import is_main_process
    from ..pipeline.run import run_training
    from ..plan import located, make_plan
    from ..runs.observers import Progress
    from . import summary

    host = host_of(ctx)
    if resume and fresh:
        raise click.UsageError(say("--resume and --fresh exclude each other."))
    given = [f"{name}={json.dumps(value)}" for name, value in options.items() if value is not None]
    plan = make_plan(host, task, config, [*overrides, *given])
    console = terminal.console(stderr=as_json)
    signer = signing.signer_of(key) if is_main_process() else None  # a passphrase is asked for before hours of training
    if is_main_process():
        summary.headline(console, plan, config)
        host.register(Progress(console, plan.task.unit), "progress", "loraforge")
    with located(plan):
        outcome = run_training(plan, host, resume=resume, fresh=fresh, signer=signer)
    if not is_main_process():
        return
    for line in host.failures:
        show(line, err=True)
    if as_json:
        emit({
            "run": outcome.run.path,
            "adapter": outcome.run.adapter,
            "exports": outcome.exports,
            "metrics": outcome.metrics,
            "verdict": (outcome.result or {}).get("verdict"),
            "sentence": (outcome.result or {}).get("sentence"),
            "diagnosis": [d.sentence for d in outcome.diagnoses],
            "seal": outcome.seal,
            "signed": signer.public.name if signer else None,
        })  # fmt: skip
    else:
        summary.outcome(console, outcome, program(ctx), signer, verbose=verbose)


@cli.command(cls=ConfigCommand)
@TASK
@CONFIG
@EXAMPLE
@SET
@click.option("--show", type=click.IntRange(min=0), default=0, metavar="N", help="Print N rows with what is learned in colour.")
@click.option(
    "--report", "reports", type=click.Path(path_type=Path), multiple=True, metavar="FILE", help="Write all findings as .csv or .html."
)
@click.option("--gpu", metavar="SIZE", help="Estimate for a GPU with this much memory, like 24GB, instead of this computer's CPU.")
@JSON
@click.pass_context
def check(
    ctx: click.Context,
    task: str,
    config: Path,
    example: str | None,
    overrides: Sequence[str],
    show: int,
    reports: Sequence[Path],
    gpu: str | None,
    as_json: bool,
) -> None:
    """Find all that is wrong with a config and its data, and estimate whether it fits, without loading a model."""
    from ..config.advice import steps_advice, warmup_advice
    from ..data import findings
    from ..data.dataset import load_data
    from ..evaluation import foresight
    from ..pipeline import estimate, hardware, saves
    from ..plan import located, make_plan
    from ..training.batching import schedule
    from . import report

    memory = hardware.gpu_bytes(gpu) if gpu is not None else None
    plan = make_plan(host_of(ctx), task, config, overrides)
    with located(plan):
        data = load_data(plan, stop=False, progress=lambda text: terminal.show(text, err=True))
        fit = estimate.estimate(plan, data, memory)
    planned = schedule(plan.config, len(data.learned()))
    ceiling = steps_advice(plan.config, plan.places, plan.names, planned.steps, planned.per_epoch)
    steps, few = planned.steps, [*foresight.too_few(plan, data), *saves.remarks(plan)]
    summary = {
        "config": str(config),
        "base_model": plan.config.base_model,
        "examples": len(data.pick(False)),
        "held_out": len(data.pick(True)),
        "set_aside": len(data.split.leaks),
        "steps": steps,
        "template": data.template.describe().get("reason", data.template.name),
        **data.examination.facts,
        "review": data.review,
        "findings": findings.counts(data.found),
        "notes": [*plan.notes, *data.notes],
        "advice": [*plan.advice, *ceiling, *warmup_advice(plan.config.warmup, plan.places.get("warmup", str(config)), steps), *few],
        "fit": fit.as_json() if fit is not None else None,
    }
    for path in reports:
        with contextlib.suppress(OSError):  # that it cannot be written is said by whoever writes it
            path.absolute().parent.mkdir(parents=True, exist_ok=True)
        findings.write_report(data.found, path, say("Findings in {path}", path=plan.config.metadata_path or plan.config.train_data_dir))
    stops = findings.stopping(data.found, plan.config.stop_on)
    if as_json:
        rows = [
            {"where": data.records[i].where, "pieces": [{"text": span.text, "learned": span.learn} for span in pieces]}
            for i, pieces in enumerate(data.examination.shown or data.texts)
        ]
        listed = {**summary, "found": [dataclasses.asdict(one) for one in data.found]}
        emit({**listed, "rows": rows[:show]} if show else listed)
    else:
        report.check(terminal.console(), summary, data, show, reports, estimate.lines(fit))
    if stops:
        raise DataError(findings.explain(stops))


@cli.command(cls=ExportingCommand)
@RUN
@click.option("--to", "name", required=True, help="The exporter: see `loraforge list`.")
@click.option("--out", type=click.Path(path_type=Path), help="Write here instead of RUN/export/NAME.")
@signing.KEY
@JSON
@click.pass_context
def export(ctx: click.Context, /, run: Path, name: str, out: Path | None, key: str | None, as_json: bool, **options: Any) -> None:
    """Write a run's adapter again, or in another format."""
    from typing import cast

    from ..errors import ExportError
    from ..pipeline import finish
    from ..plugin_api.components import Exporter
    from ..runs.opened import load_run
    from ..runs.seal import require_sound
    from . import report

    host = host_of(ctx)
    opened = load_run(host, run)
    exporter = cast(Exporter, host.component("loraforge_exporters", opened.task.name, name))
    if out is not None and out.exists():
        raise ExportError(say("{path} exists already; nothing was written. Choose another --out.", path=out))
    if out is not None and out.absolute().resolve().is_relative_to(run.absolute().resolve()):
        raise ExportError(
            say("{path} lies in the run's folder, where everything is recorded. Leave --out away, or choose another.", path=out)
        )
    signer = signing.signer_of(key) if out is None else None
    require_sound(opened.run, ["adapter"])
    before = {key: value for key, value in opened.manifest["config"].items() if key in exporter.keys.model_fields}
    values = settings(exporter.keys, {**before, **{key: value for key, value in options.items() if value is not None}})
    chosen, recorded = {**opened.manifest["config"], **values}, None
    if out is None:
        done, recorded = finish.keep_export(opened, exporter, chosen, signer)
    else:
        done = finish.write_export(exporter, opened.run.adapter, chosen, out).deliver(out)
    if as_json:
        emit({"path": done.path, "usage": done.usage, "delivered": done.delivered, **report.recorded_json(recorded)})
    else:
        report.exported(terminal.console(), name, done)
        report.recorded(terminal.console(), recorded)


_MODULES = (beginning, listings, new_plugin, sampling, results, trust, signing)
for _command in (command for module in _MODULES for command in module.COMMANDS):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Exit codes: 0 done, 2 the user's input, 1 anything else."""
    if sys.stdout is None:  # closed by whoever started this: nobody wants to read it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # Windows consoles are not UTF-8 by themselves
            stream.reconfigure(encoding="utf-8", errors="replace")
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY"):  # before any library that reads them is imported
        os.environ.setdefault(name, "1")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_ended(given))
    except OSError as error:
        sys.exit(_unwritable(error))


def _ended(given: Sequence[str]) -> int:
    """Runs a command; its exit code.

    Raises:
        OSError: if standard output takes no more.
    """
    try:
        code = cli.main(args=list(given), prog_name="loraforge", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except LoraForgeError as error:
        return _failed(error, given)
    except click.ClickException as error:
        with wording.clicks_words():
            said = io.StringIO()
            error.show(said)
        show(said.getvalue().rstrip("\n"), err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):
        show(say("Stopped. What was saved stays; --resume continues from the last checkpoint."), err=True)
        return 1
    except (OSError, MemoryError, RuntimeError) as error:
        if machines_fault(error):
            return _failed(out_of_something(error), given)
        if not isinstance(error, OSError) or error.filename is None or error.errno not in _PLACES:
            raise
        return _failed(RunError(say("{path}: {reason}.", path=error.filename, reason=error)), given)


# What is wrong with a name or a place, and not with this program.
_PLACES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE)


def _failed(error: LoraForgeError, given: Sequence[str]) -> int:
    if "--json" in given:
        emit({"error": list(error.problems)})
    for line in error.problems:
        show(line, err=True)
    return error.exit_code


def _unwritable(error: OSError) -> int:
    """For standard output that is full or gone: nothing that was written for good is lost by it.

    Raises:
        OSError: if it is another one.
    """
    if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO, errno.EBADF, errno.EFBIG):
        raise error
    with contextlib.suppress(OSError, ValueError):
        show(say("standard output cannot be written: {reason}. What was saved stays.", reason=error), err=True)
    for stream in (sys.stdout, sys.stderr):  # what is left in their buffers would be tried again at the end
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 1
