"""From a trained adapter to what is handed on: the chosen step, exports, the comparison with the base, diagnosis, card, seal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from . import audit, evaluation, rundir
from .audit import card
from .checkpoints import checkpoint_rows
from .errors import LoraForgeError, RunError
from .events import Compared, Exported, StageStarted
from .interfaces import Exporter
from .machine import quiet_libraries
from .messages import speaker
from .opened import OpenRun, open_run
from .rundir import RunDir, write_text

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .planning import Plan
    from .plugins import PluginHost

say = speaker(__name__)

RESULT = "eval.json"


@dataclass(frozen=True)
class Export:
    """An export that is written: what to hand on, the lines that use it, and what was put elsewhere."""

    path: Path
    usage: tuple[str, ...]
    delivered: tuple[str, ...]


@dataclass
class Handover:
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
        result: the comparison of base and adapter, see ``evaluation.evaluate``; None if none was made.
        diagnoses: what the losses say, the most important first.
        advised_rate: the learning rate to try next, if the losses say that another one suits better.
        seal: see ``audit.seal``.
    """

    run: RunDir
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


def write_export(exporter: Exporter, folder: RunDir, config: Mapping[str, Any], destination: Path | None = None) -> Export:
    """Exports the adapter of a run to ``destination`` (by default ``export/<name>``), whole or not at all.

    Args:
        config: the values of the run's keys, the exporter's among them.
    """
    quiet_libraries()
    from . import lora

    adapter = lora.read_peft(folder.adapter)
    adapter = dataclasses.replace(adapter, facts={**adapter.facts, "config": dict(config)})
    target = destination or folder.exports / exporter.name
    with rundir.aside(target) as partial:
        written = exporter.export(adapter, partial).relative_to(partial)
    path = target / written
    return Export(path, tuple(exporter.usage(adapter, path)), tuple(exporter.deliver(adapter, path)))


def take_checkpoint(folder: RunDir, step: int) -> None:
    """Makes the adapter of a checkpoint the run's adapter.

    Raises:
        RunError: if there is no such checkpoint; it lists those that there are.
    """
    quiet_libraries()
    from . import lora

    there = folder.checkpoint(step)
    if not there.is_dir():
        have = ", ".join(str(int(path.name.removeprefix("step-"))) for path in folder.checkpoints()) or say("none")
        raise RunError(say("{run}: there is no checkpoint of step {step}. There are: {have}.", run=folder.path, step=step, have=have))
    adapter = lora.read_peft(there / "adapter")
    with rundir.aside(folder.adapter) as partial:
        lora.write_peft(adapter, partial)


def hand_over(
    host: PluginHost,
    folder: RunDir,
    manifest: Mapping[str, Any],
    exporters: Sequence[Exporter],
    *,
    compare: bool,
    tell: Callable[[Any], None],
) -> Handover:
    """Exports the run's adapter, asks base and adapter the held-out questions if ``compare``, and writes the model card.

    Args:
        manifest: of the finished run, whether or not it is on disk yet.
    """
    done = Handover()
    for exporter in exporters:
        tell(StageStarted("export", exporter.name))
        done.exports[exporter.name] = write_export(exporter, folder, manifest["config"])
        tell(Exported(exporter.name, done.exports[exporter.name].path))
    done.changes["exports"] = {name: str(export.path.relative_to(folder.path)) for name, export in done.exports.items()}
    if compare:
        done.result = _compared(host, dataclasses.replace(open_run(host, folder.path), manifest=manifest), tell)
        done.changes["evaluation"] = evaluation.summary(done.result) if done.result else None
    write_card(folder, {**manifest, **done.changes}, done.result)
    return done


def _compared(host: PluginHost, opened: OpenRun, tell: Callable[[Any], None]) -> dict[str, Any] | None:
    """The comparison; None where it cannot be made or was stopped: the adapter is there all the same."""
    tell(StageStarted("comparison", say("base and adapter on the held-out examples (Ctrl-C leaves it out)")))
    try:
        result = evaluation.evaluate(host, opened, None, lambda done, total: tell(Compared(done, total)), draw=False)
    except KeyboardInterrupt:
        tell(StageStarted("comparison", say("left out; `loraforge eval {run}` makes it later", run=opened.run.path)))
        return None
    except LoraForgeError as error:
        tell(StageStarted("comparison", str(error)))
        return None
    _write_result(opened.run, result)
    return result


def _write_result(folder: RunDir, result: Mapping[str, Any]) -> None:
    write_text(folder.path / RESULT, json.dumps(result, ensure_ascii=False, indent=1, default=str) + "\n")


def write_card(folder: RunDir, manifest: Mapping[str, Any], result: Mapping[str, Any] | None) -> Path:
    """The model card, beside the manifest."""
    path = folder.path / card.NAME
    card.write_card({"name": folder.path.name, **manifest}, dict(result) if result else None, path)
    return path


# --- later commands -----------------------------------------------------------------------------------------------------------


def keep_result(opened: OpenRun, result: Mapping[str, Any]) -> Path:
    """Writes what ``loraforge eval`` found into the run, with a new card and seal."""
    _write_result(opened.run, result)
    changes = {"evaluation": evaluation.summary(result)}
    write_card(opened.run, {**opened.manifest, **changes}, result)
    audit.amend(opened.run, [RESULT, card.NAME], **changes)
    return opened.run.path / RESULT


def keep_export(opened: OpenRun, name: str, export: Export) -> None:
    """Enters an export that was written later into the manifest, unless it lies elsewhere."""
    if not export.path.is_relative_to(opened.run.path):
        return
    exports = {**(opened.manifest.get("exports") or {}), name: str(export.path.relative_to(opened.run.path))}
    audit.amend(opened.run, [f"export/{name}"], exports=exports)


def promote(host: PluginHost, folder: Path, step: int, tell: Callable[[Any], None]) -> Handover:
    """Makes a checkpoint the run's adapter, writes its exports again, compares anew if the run had been compared, and seals.

    Raises:
        RunError: if there is no such checkpoint, or it is not what was sealed.
    """
    with RunDir(folder).claimed():
        return _promote(host, open_run(host, folder), step, tell)


def _promote(host: PluginHost, opened: OpenRun, step: int, tell: Callable[[Any], None]) -> Handover:
    run = opened.run
    audit.require_sound(run, [f"checkpoints/{run.checkpoint(step).name}"])
    take_checkpoint(run, step)
    loss = next((row["held_out_loss"] for row in checkpoint_rows(run, {}) if row["step"] == step), None)
    changes = {
        "chosen": {"step": step, "by": "promote", "held_out_loss": loss},
        "metrics": {**opened.manifest.get("metrics", {}), "held_out_loss": loss},
        "evaluation": None,
    }
    (run.path / RESULT).unlink(missing_ok=True)  # it speaks of another step
    names = [name for name in opened.manifest.get("exports") or {} if (run.exports / name).is_dir()]
    exporters = [cast(Exporter, host.component("loraforge_exporters", opened.task.name, name)) for name in names]
    compared = bool(opened.manifest.get("evaluation"))
    done = hand_over(host, run, {**opened.manifest, **changes}, exporters, compare=compared, tell=tell)
    audit.amend(run, ["adapter", "export", RESULT, card.NAME], **{**changes, **done.changes})
    return done
