"""From a trained adapter to what is handed on: the chosen step, exports, the comparison with the base, diagnosis, card, seal."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from ..runs.checkpoints import checkpoint_rows
from ..runs.disk import disk_errors
from ..runs.folder import FINISHED, RunFolder, atomic_dir, write_text
from ..runs.opened import LoadedRun, load_run
from ..runs.seal import kept_seal, require_sound, reseal
from ..terminal import quoted
from ..training.interrupts import Terminated

if TYPE_CHECKING:
    from ..config.schema import RunConfig
    from ..diagnosis.diagnose import Diagnosis
    from ..plan import Plan
    from ..plugin_api.host import PluginHost
    from ..training.loop import Loop

say = speaker(__name__)

RESULT = "eval.json"
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


def write_export(exporter: Exporter, folder: RunFolder, config: Mapping[str, Any], destination: Path | None = None) -> Export:
    """Exports the adapter of a run to ``destination`` (by default ``export/<name>``), whole or not at all.

    Args:
        config: the values of the run's keys, the exporter's among them.
    """
    quiet_libraries()
    from ..adapters import lora

    adapter = lora.read_peft(folder.adapter)
    adapter = dataclasses.replace(adapter, facts={**adapter.facts, "config": dict(config)})
    target = destination or folder.exports / exporter.name
    with disk_errors(target), atomic_dir(target) as partial:
        written = exporter.export(adapter, partial).relative_to(partial)
    path = target / written
    return Export(path, tuple(exporter.usage(adapter, path)), tuple(exporter.deliver(adapter, path)))


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


def take_checkpoint(folder: RunFolder, step: int) -> None:
    """Makes the adapter of a checkpoint the run's adapter.

    Raises:
        RunError: if there is no such checkpoint; it lists those that there are.
    """
    quiet_libraries()
    from ..adapters import lora

    there = require_checkpoint(folder, step)
    lora.verify(lora.read_peft(there / "adapter"))
    with atomic_dir(folder.adapter) as partial:
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
        done.exports[exporter.name] = write_export(exporter, folder, manifest["config"])
        tell(Exported(exporter.name, done.exports[exporter.name].path))
    done.changes["exports"] = {name: export.path.relative_to(folder.path).as_posix() for name, export in done.exports.items()}
    if compare:
        done.result = _compared(host, dataclasses.replace(load_run(host, folder.path), manifest=manifest), tell)
        done.changes["evaluation"] = summary(done.result) if done.result else None
    write_card(folder, {**manifest, **done.changes}, done.result)


def _compared(host: PluginHost, opened: LoadedRun, tell: Callable[[Any], None]) -> dict[str, Any] | None:
    """The comparison; None where it cannot be made or was stopped: the adapter is there all the same."""
    tell(StageStarted("comparison", say("base and adapter on the held-out examples (Ctrl-C leaves it out)")))
    try:
        result = evaluate(host, opened, _ASKED, lambda done, total: tell(Compared(done, total)), draw=False)
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
    _write_result(opened.run, result)
    return result


def _write_result(folder: RunFolder, result: Mapping[str, Any]) -> None:
    write_text(folder.path / RESULT, json.dumps(result, ensure_ascii=False, indent=1, default=str) + "\n")


def write_card(folder: RunFolder, manifest: Mapping[str, Any], result: Mapping[str, Any] | None) -> Path:
    """The model card, beside the manifest."""
    path = folder.path / card.NAME
    card.write_card({"name": folder.path.name, **manifest}, dict(result) if result else None, path)
    return path


# --- later commands -----------------------------------------------------------------------------------------------------------


def keep_result(opened: LoadedRun, result: Mapping[str, Any]) -> str | None:
    """Writes what ``loraforge eval`` found into the run, with a new card.

    Returns:
        the new seal.
    """
    with disk_errors(opened.run.path / RESULT):
        _write_result(opened.run, result)
    return keep_entries(opened, [RESULT], evaluation=summary(result))


def keep_entries(opened: LoadedRun, names: Sequence[str], **changes: Any) -> str | None:
    """Enters what a later command found into the manifest, with a new card and the seal before it.

    Returns:
        the new seal; None for a run without one.
    """
    changes["seals"] = _seals(opened)
    with disk_errors(opened.run.path):
        write_card(opened.run, {**opened.manifest, **changes}, None)
        return reseal(opened.run, [*names, card.NAME], **changes)


def _seals(opened: LoadedRun) -> list[str]:
    """The seals that the run had before, the newest last: whoever kept one of them can still tell whose it is."""
    before = list(opened.manifest.get("seals") or [])
    now = kept_seal(opened.run)
    return [*before, *([now] if now and now not in before else [])]


def keep_export(opened: LoadedRun, name: str, export: Export) -> str | None:
    """Enters an export that was written later into the manifest, unless it lies elsewhere.

    Returns:
        the new seal.
    """
    if not export.path.is_relative_to(opened.run.path):
        return None
    exports = {**(opened.manifest.get("exports") or {}), name: export.path.relative_to(opened.run.path).as_posix()}
    return keep_entries(opened, [f"export/{name}"], exports=exports)


def promote(host: PluginHost, folder: Path, step: int, tell: Callable[[Any], None]) -> tuple[Finished, str | None]:
    """Makes a checkpoint the run's adapter, writes its exports again, compares anew if the run had been compared, and seals.

    Returns:
        what was finished, and the new seal.

    Raises:
        RunError: if there is no such checkpoint, it is not what was sealed, or the run is not finished.
    """
    quiet_libraries()  # before peft is imported, which looks for optional libraries
    with RunFolder(folder).claimed(), disk_errors(folder):
        RunFolder(folder).tidy()  # an earlier attempt may have been killed
        opened = load_run(host, folder)
        if opened.manifest.get("status") != FINISHED:
            raise RunError(say("{run}: this run is not finished. --resume finishes it.", run=folder))
        names = [name for name in opened.manifest.get("exports") or {} if (opened.run.exports / name).is_dir()]
        exporters = [cast(Exporter, host.component("loraforge_exporters", opened.task.name, name)) for name in names]
        require_sound(opened.run, [f"checkpoints/{opened.run.checkpoint(step).name}"])
        require_checkpoint(opened.run, step)  # before anything is touched
        with _kept_on_failure(opened.run):
            take_checkpoint(opened.run, step)
            return _promoted(host, opened, step, exporters, tell)


@contextlib.contextmanager
def _kept_on_failure(run: RunFolder) -> Iterator[None]:
    """What goes wrong inside leaves the adapter that was there."""
    from ..adapters import lora

    before = lora.read_peft(run.adapter)
    try:
        yield
    except BaseException:
        with atomic_dir(run.adapter) as partial:
            lora.write_peft(before, partial)
        raise


def _promoted(
    host: PluginHost, opened: LoadedRun, step: int, exporters: Sequence[Exporter], tell: Callable[[Any], None]
) -> tuple[Finished, str | None]:
    run = opened.run
    loss = next((row["held_out_loss"] for row in checkpoint_rows(run, {}) if row["step"] == step), None)
    changes: dict[str, Any] = {
        "chosen": {**(opened.manifest.get("chosen") or {}), "step": step, "by": "promote", "held_out_loss": loss},
        "metrics": {**opened.manifest.get("metrics", {}), "held_out_loss": loss},
        "evaluation": None,
        "grades": None,
        "seals": _seals(opened),
    }
    done = Finished()
    compared = bool(opened.manifest.get("evaluation"))
    finish_run(host, run, {**opened.manifest, **changes}, exporters, compare=compared, tell=tell, done=done)
    if done.result is None:
        (run.path / RESULT).unlink(missing_ok=True)  # it speaks of another step
    exported = [f"export/{name}" for name in done.exports]
    return done, reseal(run, ["adapter", *exported, RESULT, card.NAME], **{**changes, **done.changes})
