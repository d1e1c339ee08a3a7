# SPDX-License-Identifier: Apache-2.0
"""From a trained adapter to what is handed on: the chosen step, exports, the comparison with the base, diagnosis, card, seal."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..audit import card
from ..device import quiet_libraries
from ..errors import RunError
from ..evaluation.compare import evaluate, summary
from ..messages import speaker
from ..plugin_api.components import Exporter
from ..plugin_api.events import Compared, Exported, StageStarted
from ..runs.amending import Amendment, Recorded, amend
from ..runs.checkpoints import checkpoint_rows
from ..runs.disk import disk_errors
from ..runs.folder import FINISHED, RunFolder, atomic_dir, write_text
from ..runs.opened import LoadedRun, load_run
from ..runs.records import CHECKPOINTS, EVALUATION, REVIEW_KEYS
from ..runs.seal import require_sound
from ..terminal import quoted
from ..training.interrupts import Terminated
from .losses import show_checkpoints

if TYPE_CHECKING:
    from ..config.schema import RunConfig
    from ..diagnosis.diagnose import Diagnosis
    from ..plan import Plan
    from ..plugin_api.host import PluginHost
    from ..plugin_api.types import Adapter
    from ..runs.signing import Signer
    from ..training.loop import Loop

say = speaker(__name__)

_ASKED = 200  # held-out questions at the end of training; `loraforge eval` asks all


@dataclass(frozen=True)
class Export:
    """An export that is written: what to hand on, the lines that use it, and what was put elsewhere."""

    path: Path
    usage: tuple[str, ...]
    delivered: tuple[str, ...]


@dataclass
class Finished:
    """What was handed on.

    Attributes:
        exports: by name.
        result: the comparison of base and adapter, if one was made.
        changes: entries for the manifest.
    """

    exports: dict[str, Export] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The same for an ``Outcome``."""
        return {
            "exports": {name: export.path for name, export in self.exports.items()},
            "usage": {name: export.usage for name, export in self.exports.items()},
            "delivered": tuple(line for export in self.exports.values() for line in export.delivered),
            "result": self.result,
        }


@dataclass(frozen=True)
class Outcome:
    """What a finished run left behind.

    Attributes:
        result: the comparison of base and adapter, see ``compare.evaluate``; None if none was made.
        diagnoses: what the losses say, the most important first.
        advised_rate: the learning rate to try next, if the losses say that another one suits better.
        seal: see ``seal.seal_run``.
    """

    run: RunFolder
    exports: Mapping[str, Path]
    usage: Mapping[str, tuple[str, ...]]
    metrics: Mapping[str, Any]
    seconds: float
    question: str
    delivered: tuple[str, ...] = ()
    samples: Path | None = None
    result: Mapping[str, Any] | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    advised_rate: float | None = None
    seal: str = ""


def compares(plan: Plan, metrics: Mapping[str, Any]) -> bool:
    """Whether base and adapter are compared at the end: there is something held out, and it is wanted."""
    return plan.config.eval_answers and metrics.get("held_out_loss") is not None


@dataclass(frozen=True)
class Written:
    """An export that is written, and not yet where it will lie.

    Attributes:
        path: what to hand on, relative to its folder.
    """

    exporter: Exporter
    adapter: Adapter
    path: Path

    def deliver(self, folder: Path) -> Export:
        """What is said of it, and put elsewhere, once it lies in ``folder``."""
        path = folder / self.path
        return Export(path, tuple(self.exporter.usage(self.adapter, path)), tuple(self.exporter.deliver(self.adapter, path)))


def write_export(exporter: Exporter, adapter_folder: Path, config: Mapping[str, Any], target: Path) -> Written:
    """Exports an adapter to ``target``, whole or not at all.

    Args:
        config: the values of the run's keys, the exporter's among them.
    """
    quiet_libraries()
    from ..adapters import lora

    adapter = lora.read_peft(adapter_folder)
    exporter.require_kind(adapter)
    adapter = dataclasses.replace(adapter, facts={**adapter.facts, "config": dict(config)})
    with disk_errors(target), atomic_dir(target) as partial:
        written = exporter.export(adapter, partial).relative_to(partial)
    return Written(exporter, adapter, written)


def choose(config: RunConfig, folder: RunFolder, metrics: dict[str, Any], loop: Loop, tell: Callable[[Any], None]) -> dict[str, Any]:
    """Which step the adapter comes from, for the manifest. The figures in ``metrics`` become that step's."""
    last = loop.done
    best, loss = metrics.get("best_step"), metrics.get("best_held_out_loss")
    by_loss = config.adapter_from == "best" and best is not None and is_whole(folder, best)
    if by_loss and best != last:
        metrics |= {"last_held_out_loss": metrics["held_out_loss"], "held_out_loss": loss}
        tell(StageStarted("adapter", say("from step {step}, whose held-out loss is the lowest ({loss:.3f})", step=best, loss=loss)))
    return {
        "step": best if by_loss else last,
        "by": "held-out loss" if by_loss else "last step",
        "of": sum(1 for step, _ in loop.measured if step),
        "held_out_loss": metrics.get("held_out_loss"),
    }


def take_checkpoint(folder: RunFolder, step: int, target: Path | None = None) -> None:
    """Makes the adapter of a checkpoint the run's adapter, or copies it to ``target``.

    Raises:
        RunError: if there is no such checkpoint; it lists those that there are.
    """
    quiet_libraries()
    from ..adapters import lora

    there = require_checkpoint(folder, step)
    lora.verify(lora.read_peft(there / "adapter"))
    with atomic_dir(target or folder.adapter) as partial:
        shutil.copytree(there / "adapter", partial, dirs_exist_ok=True)


def require_checkpoint(folder: RunFolder, step: int) -> Path:
    """The checkpoint of ``step``.

    Raises:
        RunError: if there is none; it lists those that there are.
    """
    there = folder.checkpoint(step)
    if not there.is_dir():
        have = ", ".join(str(int(path.name.removeprefix("step-"))) for path in folder.checkpoints()) or say("none")
        raise RunError(say("{run}: there is no checkpoint of step {step}. There are: {have}.", run=folder.path, step=step, have=have))
    return there


def is_whole(folder: RunFolder, step: int) -> bool:
    """Whether the adapter in the checkpoint of ``step`` is there and can be read."""
    from ..adapters import lora

    try:
        lora.read_peft(folder.checkpoint(step) / "adapter")
    except RunError:
        return False
    return True


def finish_run(
    host: PluginHost,
    folder: RunFolder,
    manifest: Mapping[str, Any],
    exporters: Sequence[Exporter],
    *,
    compare: bool,
    tell: Callable[[Any], None],
    done: Finished,
) -> None:
    """Exports the run's adapter, asks base and adapter the held-out questions if ``compare``, and writes the model card.

    Args:
        manifest: of the run, whether or not it is on disk yet.
        done: is filled in.
    """
    for exporter in exporters:
        tell(StageStarted("export", exporter.name))
        folder.adapter.stat()  # if it has vanished, that is what is told
        target = folder.exports / exporter.name
        done.exports[exporter.name] = write_export(exporter, folder.adapter, manifest["config"], target).deliver(target)
        tell(Exported(exporter.name, done.exports[exporter.name].path))
    done.changes["exports"] = {name: export.path.relative_to(folder.path).as_posix() for name, export in done.exports.items()}
    if compare:
        done.result = _compared(host, dataclasses.replace(load_run(host, folder.path), manifest=manifest), tell)
        done.changes["evaluation"] = summary(done.result) if done.result else None
        if done.result:
            _write_result(folder, done.result)
    write_card(folder, {**manifest, **done.changes}, done.result)


def _compared(host: PluginHost, opened: LoadedRun, tell: Callable[[Any], None]) -> dict[str, Any] | None:
    """The comparison; None where it cannot be made or was stopped: the adapter is there all the same."""
    minutes = opened.config.eval_minutes
    limit = say(", {minutes:g} minutes at most (eval_minutes)", minutes=minutes) if minutes else ""
    tell(StageStarted("comparison", say("base and adapter on the held-out examples (Ctrl-C leaves it out)") + limit))
    try:
        result = evaluate(
            host,
            opened,
            _ASKED,
            lambda done, total: tell(Compared(done, total)),
            measured=lambda done, total: tell(Compared(done, total, "losses")),
            draw=False,
            minutes=minutes,
        )
    except KeyboardInterrupt as error:
        if isinstance(error, Terminated):
            raise  # whoever sends that wants the process to end
        tell(StageStarted("comparison", say("left out; `loraforge eval {run}` makes it later", run=quoted(opened.run.path))))
        return None
    except Exception as error:  # out of memory, say: the adapter is trained and exported all the same
        tell(
            StageStarted(
                "comparison", say("failed: {error}. `loraforge eval {run}` tries again.", error=error, run=quoted(opened.run.path))
            )
        )
        return None
    return result


def _write_result(folder: RunFolder, result: Mapping[str, Any]) -> None:
    write_text(folder.path / EVALUATION, json.dumps(result, ensure_ascii=False, indent=1, default=str) + "\n")


def write_card(folder: RunFolder, manifest: Mapping[str, Any], result: Mapping[str, Any] | None, stage: RunFolder | None = None) -> None:
    """The model card of the run in ``folder``, beside the manifest or in ``stage``."""
    named = {"name": folder.path.absolute().name, **manifest}
    card.write_card(named, dict(result) if result else None, (stage or folder).path / card.NAME, folder.path)


# --- later commands -----------------------------------------------------------------------------------------------------------


def keep_result(
    opened: LoadedRun, result: Mapping[str, Any] | None, sheet: Callable[[Path], None] | None = None, signer: Signer | None = None
) -> Recorded:
    """Records what ``loraforge eval`` found, with a new card.

    Args:
        result: None if it is not to be kept.
        sheet: writes a review sheet, and its key to the file that it is given, which holds the keys of earlier sheets.
    """
    keys = opened.run.path / REVIEW_KEYS
    if sheet is not None and keys.exists():
        require_sound(opened.run, [REVIEW_KEYS])
    with amend(opened.run, "eval", signer) as change:
        if result is not None:
            _write_result(change.stage, result)
            change.entries["evaluation"] = summary(result)
            _card(opened, change)
        if sheet is not None:
            if keys.exists():
                shutil.copy(keys, change.stage.path / REVIEW_KEYS)
            sheet(change.stage.path / REVIEW_KEYS)
    return change.recorded


def keep_grades(opened: LoadedRun, grades: Mapping[str, Any], signer: Signer | None = None) -> Recorded:
    """Records what experts found, with a new card."""
    with amend(opened.run, "grade", signer) as change:
        change.entries["grades"] = dict(grades)
        _card(opened, change)
    return change.recorded


def keep_card(run: RunFolder, signer: Signer | None = None) -> Recorded:
    """Writes the card again, in today's words and language."""
    with amend(run, "card", signer) as change:
        write_card(run, change.manifest, None, change.stage)
    return change.recorded


def keep_export(opened: LoadedRun, exporter: Exporter, config: Mapping[str, Any], signer: Signer | None = None) -> tuple[Export, Recorded]:
    """Exports the run's adapter into the run and records it, with a new card."""
    name = exporter.name
    with amend(opened.run, "export", signer) as change:
        target = change.stage.exports / name
        written = write_export(exporter, opened.run.adapter, config, target)
        path = (target / written.path).relative_to(change.stage.path).as_posix()
        change.entries["exports"] = {**(change.manifest.get("exports") or {}), name: path}
        _card(opened, change)
    return written.deliver(opened.run.exports / name), change.recorded


def _card(opened: LoadedRun, change: Amendment) -> None:
    write_card(opened.run, {**change.manifest, **change.entries}, None, change.stage)


def promote(
    host: PluginHost, folder: Path, step: int, tell: Callable[[Any], None], signer: Signer | None = None
) -> tuple[Finished, Recorded]:
    """Makes a checkpoint the run's adapter, writes its exports again, compares anew if the run had been compared, and records that.

    Returns:
        what was finished, and what was recorded.

    Raises:
        RunError: if there is no such checkpoint, it is not what was sealed, or the run is not finished.
    """
    quiet_libraries()  # before peft is imported, which looks for optional libraries
    run, opened = RunFolder(folder), load_run(host, folder)
    if opened.manifest.get("status") != FINISHED:
        raise RunError(say("{run}: this run is not finished. --resume finishes it.", run=folder))
    names = [name for name in opened.manifest.get("exports") or {} if (run.exports / name).is_dir()]
    exporters = [cast(Exporter, host.component("loraforge_exporters", opened.task.name, name)) for name in names]
    require_sound(run, [f"checkpoints/{run.checkpoint(step).name}"])
    require_checkpoint(run, step)  # before anything is written
    with amend(run, "promote", signer) as change:
        take_checkpoint(run, step, change.stage.adapter)
        done, written = _promoted(host, opened, change, step, exporters, tell)
    done.exports = {name: one.deliver(run.exports / name) for name, one in written.items()}
    return done, change.recorded


def _promoted(
    host: PluginHost, opened: LoadedRun, change: Amendment, step: int, exporters: Sequence[Exporter], tell: Callable[[Any], None]
) -> tuple[Finished, dict[str, Written]]:
    """Exports, comparison and card of the checkpoint's adapter, all of it aside."""
    stage, before = change.stage, change.manifest
    loss = next((row["held_out_loss"] for row in checkpoint_rows(opened.run, {}) if row["step"] == step), None)
    change.entries |= {
        "chosen": {**(before.get("chosen") or {}), "step": step, "by": "promote", "held_out_loss": loss},
        "evaluation": None,
        "grades": None,
    }
    done, written = Finished(), {}
    for exporter in exporters:
        tell(StageStarted("export", exporter.name))
        target = stage.exports / exporter.name
        written[exporter.name] = write_export(exporter, stage.adapter, before["config"], target)
        tell(Exported(exporter.name, opened.run.exports / exporter.name / written[exporter.name].path))
    change.entries["exports"] = {name: (Path("export") / name / one.path).as_posix() for name, one in written.items()}
    manifest = {**before, **change.entries, "metrics": {**before.get("metrics", {}), "held_out_loss": loss}}
    if before.get("evaluation"):
        done.result = _compared(host, dataclasses.replace(opened, manifest=manifest, adapter=stage.adapter), tell)
    if done.result is None:
        change.removed.append(EVALUATION)  # it speaks of another step
    else:
        _write_result(stage, done.result)
        change.entries["evaluation"] = summary(done.result)
    if (opened.run.path / CHECKPOINTS).is_file():
        show_checkpoints(opened.run, change.entries["chosen"], stage.path / CHECKPOINTS)
    write_card(opened.run, {**manifest, **change.entries}, done.result, stage)
    return done, written
