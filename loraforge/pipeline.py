"""The one-way street: plan -> data -> model -> loop -> adapter -> exports. Torch is imported by ``run``, not before."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from . import rundir
from .config import RunConfig
from .dataset import Data, load_data
from .errors import DataError, RunError, TrainingError
from .events import CheckpointSaved, Exported, RunFailed, RunFinished, RunStarted, SamplesDrawn, StageStarted
from .interfaces import Exporter
from .machine import device_name, is_main_process, make_accelerator, quiet_libraries
from .messages import speaker
from .planning import Plan, plan
from .provenance import hash_file, versions
from .resume import check_start, identity, newest_checkpoint, occupied
from .rundir import RunDir
from .types import Adapter

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .interfaces import Trainee
    from .loop import Loop
    from .plugins import PluginHost

__all__ = ["Data", "Export", "Outcome", "Plan", "load_data", "plan", "run", "write_export"]

say = speaker(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a finished run left behind."""

    run: RunDir
    exports: Mapping[str, Path]
    usage: Mapping[str, tuple[str, ...]]
    metrics: Mapping[str, Any]
    seconds: float
    question: str
    delivered: tuple[str, ...] = ()
    samples: Path | None = None


def run(plan: Plan, host: PluginHost, *, resume: bool = False, fresh: bool = False) -> Outcome:
    """Trains, saves and exports.

    Args:
        resume: continue from the newest checkpoint in output_dir.
        fresh: rename an earlier run in output_dir out of the way.
    """
    started = time.time()
    folder = RunDir(Path(plan.config.output_dir))
    if folder.occupied() and not resume and not fresh:
        raise RunError(occupied(folder))
    quiet_libraries()
    main = is_main_process()
    tell = host.tell if main else lambda event: None
    tell(StageStarted("data", plan.config.metadata_path or plan.config.train_data_dir))
    data = load_data(plan, lambda text: tell(StageStarted("data", text)))
    for line in data.examination.lines:
        tell(StageStarted("data", line))
    tell(StageStarted("template", str(data.template.describe().get("reason", data.template.name))))
    if not data.pick(heldout=False):
        raise DataError(say("eval_ratio leaves nothing to train on; there are {n} rows.", n=len(data.records)))
    accelerator, config = make_accelerator(plan.config)
    if main and folder.occupied() and fresh and not resume:
        tell(StageStarted("folder", say("the earlier run is now {path}", path=folder.set_aside())))
    accelerator.wait_for_everyone()
    session = _Session(plan, config, data, folder, accelerator, tell, started)
    try:
        return session.go(resume)
    except BaseException as error:
        if main:
            session.fail(error)
        raise


class _Session:
    """One run, from the loaded data to the exports. Holds what the stages share."""

    def __init__(
        self,
        plan: Plan,
        config: RunConfig,
        data: Data,
        folder: RunDir,
        accelerator: Accelerator,
        tell: Callable[[Any], None],
        started: float,
    ) -> None:
        self.plan, self.config, self.data, self.folder = plan, config, data, folder
        self.accelerator, self.tell, self.started = accelerator, tell, started
        self.base: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.samples: Path | None = None
        self.begun = False

    # --- stages ------------------------------------------------------------------------------------------------------------

    def go(self, resume: bool) -> Outcome:
        checkpoint = newest_checkpoint(self.folder, identity(self.plan, self.data)) if resume else None
        trainee, loop = self._load()
        done = 0
        if checkpoint is not None:
            self.tell(StageStarted("resume", str(checkpoint)))
            state, position = rundir.load_state(checkpoint)
            check_start(self.folder, trainee, state["initial"])
            loop.restore(state["loop"])
            done = int(position["step"])
            self.metrics.update(position["metrics"])
        if self.accelerator.is_main_process:
            self.folder.start({**self.plan.keys.flat(), "precision": self.plan.config.precision})
            self.begun = True
            self._write_manifest(rundir.RUNNING)
        self.accelerator.wait_for_everyone()
        try:
            seconds = loop.probe() if done < loop.schedule.steps else 0.0
            self.facts["estimated_seconds"] = round(seconds * (1 - done / loop.schedule.steps), 1)
            self.tell(RunStarted(self.folder.path, self.plan.task.name, loop.schedule.steps, done, self.facts))
            loop.run(done)
        except _not_finite() as error:
            raise TrainingError(self._explain(cast(Any, error))) from None
        return self._finish(trainee, loop)

    def _load(self) -> tuple[Trainee, Loop]:
        """The base with its LoRA, and the loop over the encoded examples."""
        from accelerate.utils import set_seed

        from .loop import Loop

        files = self.plan.family.base_files(self.config)
        self.tell(StageStarted("base model", self.config.base_model))
        # Before the adapter is made: its random start belongs to the seed too.
        set_seed(self.config.seed)
        trainee = self.plan.family.load(self.config, self.plan.keys, self.accelerator.device)
        trainable, total = trainee.lora.count()
        self.tell(
            StageStarted(
                "LoRA injection",
                say(
                    "{trainable:,} of {total:,} parameters are trained ({share:.3%}), in {n} layers",
                    trainable=trainable,
                    total=total,
                    share=trainable / total,
                    n=sum(1 for _ in trainee.lora.layers()),
                ),
            )
        )
        encoded = self._encode(trainee)
        trainee.settle()
        train, heldout = self.data.pick(False), self.data.pick(True)
        loop = Loop(
            trainee,
            [{**encoded[i], "repeat": n} if n else encoded[i] for i in train for n in range(self.data.records[i].repeats)],
            [encoded[i] for i in heldout],
            self.config,
            self.accelerator,
            self._hear,
            lambda step: self._save(trainee, loop, step),
            lambda step: self._show(trainee, step),
        )
        if self.accelerator.is_main_process:
            folder = Path(os.path.commonpath([file.parent for file in files])) if files else None
            self.base = {
                "name": self.config.base_model,
                "revision": self.config.revision,
                "folder": str(folder) if folder else None,
                "files": {file.relative_to(folder).as_posix(): hash_file(file) for file in files} if folder else {},
            }
        self.facts = {
            "base_model": self.config.base_model,
            "examples": len(train),
            "held_out": len(heldout),
            "epochs": loop.schedule.steps / loop.schedule.per_epoch,
            "steps": loop.schedule.steps,
            "trainable_parameters": trainable,
            "parameters": total,
            "device": device_name(self.accelerator),
            "precision": self.config.precision,
            "template": str(self.data.template.describe().get("reason", self.data.template.name)),
            **self.data.examination.facts,
        }
        return trainee, loop

    def _encode(self, trainee: Trainee) -> list[Any]:
        """Every row as the trainee's example.

        Raises:
            DataError: with every row that the trainee refuses; a base whose tokenizer could not be asked earlier is asked here.
        """
        encoded, problems = [], []
        for record, text in zip(self.data.records, self.data.texts, strict=True):
            try:
                encoded.append(trainee.encode(record, text))
            except DataError as error:
                problems.append(f"{record.where}: {error}")
        if problems:
            raise DataError(problems)
        return encoded

    def _hear(self, event: Any) -> None:
        """Keeps the figures of the manifest while the loop's events pass through."""
        if event.name == "Evaluated":
            self.metrics["held_out_loss_base" if event.step == 0 else "held_out_loss"] = event.loss
            if event.step and event.loss < self.metrics.get("best_held_out_loss", math.inf):
                self.metrics |= {"best_held_out_loss": event.loss, "best_step": event.step}
        elif event.name == "StepFinished":
            self.metrics["train_loss"] = event.loss
        self.tell(event)

    def _show(self, trainee: Trainee, step: int) -> None:
        """What the model makes by now, for people to look at."""
        if not self.accelerator.is_main_process:
            return
        shown = trainee.sample(self.folder.samples, step)
        if shown is not None:
            self.samples = shown
            self.tell(SamplesDrawn(step, shown))

    def _save(self, trainee: Trainee, loop: Loop, step: int) -> None:
        """A checkpoint, whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        from . import lora

        target = self.folder.checkpoint(step)
        state = {"loop": loop.state(), "initial": trainee.lora.initial}
        with rundir.aside(target) as partial:
            with loop.averaged():
                lora.write_peft(self._adapter(trainee), partial / "adapter")
            rundir.save_state(partial, state, {"step": step, "metrics": self.metrics})
        self.folder.prune(self.config.save_total_limit)
        self.tell(CheckpointSaved(step, target))

    def _adapter(self, trainee: Trainee) -> Adapter:
        return trainee.lora.adapter(self.base.get("folder"), {
            "name": self.folder.path.name,
            "task": self.plan.task.name,
            "family": self.plan.family.name,
            "peft_task_type": self.plan.family.peft_task_type,
            "template": dict(self.data.template.describe()),
            "revision": self.config.revision,
            "base_files": self.base.get("files", {}),
            "variant": self.config.lora_variant,
            "training": {key: value for key, value in self.facts.items() if key not in ("base_model", "estimated_seconds")},
            **trainee.facts(),
        }, trainee.files())  # fmt: skip

    def _finish(self, trainee: Trainee, loop: Loop) -> Outcome:
        from . import lora

        self.accelerator.wait_for_everyone()
        exports: dict[str, Path] = {}
        usage: dict[str, tuple[str, ...]] = {}
        delivered: tuple[str, ...] = ()
        if self.accelerator.is_main_process:
            with rundir.aside(self.folder.adapter) as partial, loop.averaged():
                lora.write_peft(self._adapter(trainee), partial)
            del trainee, loop  # the exporters may need the memory for a base of their own
            for exporter in self.plan.exporters:
                self.tell(StageStarted("export", exporter.name))
                done = write_export(exporter, self.folder, self.plan.keys.flat())
                exports[exporter.name], usage[exporter.name] = done.path, done.usage
                delivered += done.delivered
                self.tell(Exported(exporter.name, exports[exporter.name]))
        seconds = time.time() - self.started
        self.metrics["seconds"] = round(seconds, 1)
        if self.accelerator.is_main_process:
            self._write_manifest(rundir.FINISHED, exports)
            self.tell(RunFinished(self.folder.path, seconds, self.metrics))
        unseen = self.data.pick(True) or self.data.pick(False)
        question = self.plan.task.question(self.data.records[unseen[0]])
        return Outcome(self.folder, exports, usage, self.metrics, seconds, question, delivered, self.samples)

    def fail(self, error: BaseException) -> None:
        """Notes in the manifest and the log that the run did not end well; the error goes on its way."""
        if not self.begun:
            return
        reason = str(error) or type(error).__name__
        with contextlib.suppress(OSError):  # the disk may be the reason
            self._write_manifest(rundir.FAILED, error=reason)
        self.tell(RunFailed(self.folder.path, reason))

    def _explain(self, error: Any) -> list[str]:
        """A loss or gradient that is no number, with the rows of the step."""
        train = self.data.learned()
        rows = [self.data.records[train[i]].where for i in error.rows]
        last = self.folder.checkpoints()
        return [
            say("step {step}: the {what} is not a number. Nothing was changed by this step.", step=error.step, what=say(error.what)),
            say("The rows of the step: {rows}", rows="; ".join(rows)),
            say("What usually helps: a lower learning_rate; precision: bf16 or fp32 instead of fp16; a look at these rows."),
            say("The last checkpoint: {path}", path=last[-1] if last else say("none")),
        ]

    # --- the manifest ------------------------------------------------------------------------------------------------------

    def _write_manifest(self, status: str, exports: Mapping[str, Path] | None = None, error: str | None = None) -> None:
        template = dict(self.data.template.describe())
        self.folder.write_manifest({
            "format": 1,
            "status": status,
            "error": error,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "task": self.plan.task.name,
            "family": self.plan.family.name,
            "config": self.plan.keys.flat(),
            "identity": identity(self.plan, self.data),
            "seed": self.config.seed,
            "template": template,
            "base": self.base,
            "init_from_adapter": self.config.init_from_adapter,
            "data": {
                "sha256": self.data.digest(),
                "rows": [{"where": r.where, "sha256": r.fingerprint(), "split": "held-out" if i in self.data.heldout else "train"}
                         for i, r in enumerate(self.data.records)],
                "notes": list(self.data.notes),
            },
            "facts": self.facts,
            "metrics": self.metrics,
            "exports": {name: str(path.relative_to(self.folder.path)) for name, path in (exports or {}).items()},
            "versions": versions(),
            "machine": {"system": platform.platform(), "processor": platform.machine(), "device": self.facts.get("device")},
        })  # fmt: skip


def _not_finite() -> type[Exception]:
    from .loop import NotFinite

    return NotFinite


@dataclass(frozen=True)
class Export:
    """An export that is written: what to hand on, the lines that use it, and what was put elsewhere."""

    path: Path
    usage: tuple[str, ...]
    delivered: tuple[str, ...]


def write_export(exporter: Exporter, folder: RunDir, config: Mapping[str, Any], destination: Path | None = None) -> Export:
    """Exports the adapter of a run to ``destination`` (by default ``export/<name>``), whole or not at all.

    Args:
        config: the values of the run's keys, the exporter's among them.
    """
    from . import lora

    quiet_libraries()
    adapter = lora.read_peft(folder.adapter)
    adapter = dataclasses.replace(adapter, facts={**adapter.facts, "config": dict(config)})
    target = destination or folder.exports / exporter.name
    with rundir.aside(target) as partial:
        written = exporter.export(adapter, partial).relative_to(partial)
    path = target / written
    return Export(path, tuple(exporter.usage(adapter, path)), tuple(exporter.deliver(adapter, path)))
