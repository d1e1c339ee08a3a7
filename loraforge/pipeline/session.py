# SPDX-License-Identifier: Apache-2.0
"""One training, from the loaded data to a run that is finished: what its stages share, and the manifest that it writes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import RunConfig
from ..data import findings
from ..data.dataset import Data
from ..data.lineage import parent_of
from ..device import device_name
from ..errors import DataError, RunError, StoppedOnRequest, TrainingError
from ..messages import speaker, why
from ..plan import Plan
from ..plugin_api.events import CheckpointSaved, Event, RunFailed, RunFinished, RunStarted, SamplesDrawn, StageStarted
from ..plugin_api.types import Adapter
from ..runs import provenance
from ..runs.folder import FAILED, FINISHED, RUNNING, STOPPED, RunFolder, atomic_dir, save_state
from ..runs.seal import seal_run
from ..terminal import quoted
from ..training.interrupts import Interrupts
from . import failures, finish, saves
from .finish import Outcome
from .losses import read_losses
from .manifest import RunState, describe
from .resume import check_start, identity, newest_checkpoint
from .twice import WAITING

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..plugin_api.host import PluginHost
    from ..plugin_api.models import TrainableModel
    from ..runs.signing import Signer
    from ..training.loop import Loop

say = speaker(__name__)

_PROBED = 50  # steps from which on their time is measured beforehand
_NOT_TRAINING = ("base_model", "estimated_seconds", "continues")  # facts for the screen that say nothing of how the adapter was trained


@dataclass(frozen=True)
class Runtime:
    """Where a training computes, and who hears of it.

    Attributes:
        config: the plan's, with ``precision`` decided for the accelerator's device.
        tell: receives every event; on processes that do not speak, nobody.
        signer: signs the run at its end.
    """

    accelerator: Accelerator
    config: RunConfig
    host: PluginHost
    tell: Callable[[Event], None]
    signer: Signer | None = None


class Session:
    """One training, from the loaded data to the exports. Holds what the stages share.

    Args:
        folder: where the run is written.
        state: what is known of the training before it begins.
        last: hand the adapter over even if the losses ask for another learning rate.
    """

    def __init__(self, plan: Plan, data: Data, folder: RunFolder, runtime: Runtime, state: RunState, last: bool = True) -> None:
        self.plan, self.data, self.folder, self.state, self.last = plan, data, folder, state, last
        self.accelerator, self.config, self.host, self.tell = runtime.accelerator, runtime.config, runtime.host, runtime.tell
        self.signer = runtime.signer
        parent = parent_of(plan.config.init_from_adapter)
        state.lineage = parent.lineage() if parent else []
        self.samples: Path | None = None
        self.begun = self.stepped = False  # whether the folder is there; whether a step is made, by this process or an earlier one
        self.code: Mapping[str, str] = {}
        self.trainable: TrainableModel  # while it trains
        self.loop: Loop
        self.interrupts = Interrupts(
            lambda: self.tell(StageStarted("stop", say("asked to stop: finishing this step and saving; a second Ctrl-C stops at once")))
        )

    # --- stages ------------------------------------------------------------------------------------------------------------

    def run(self, resume: bool) -> Outcome:
        found = newest_checkpoint(self.folder, identity(self.plan, self.data), self.data.rows(), self._note_resume) if resume else None
        with failures.loading(self.plan, self.config):
            self._load()
        loop, done = self.loop, 0
        if found is not None:
            self.stepped = True
            checkpoint, state, position = found
            self._note_resume(str(checkpoint))
            check_start(self.folder, self.trainable, state["initial"])
            loop.restore(state["loop"])
            done = int(position["step"])
            self.state.metrics.update(position["metrics"])
        if self.accelerator.is_main_process:
            self._start()
            if self.data.found:
                findings.write_report(self.data.found, self.folder.path / "findings.csv", self.folder.path.name)
        self.accelerator.wait_for_everyone()
        with failures.explained(self.plan, self.data, self.config, self.folder):
            # Two passes that are thrown away: a run of a few steps says as soon by itself how long it takes.
            seconds = loop.estimate_seconds() if loop.schedule.steps - done >= _PROBED else None
            self.state.facts["estimated_seconds"] = None if seconds is None else round(seconds * (1 - done / loop.schedule.steps), 1)
            self.tell(RunStarted(self.folder.path, self.plan.task.name, loop.schedule.steps, done, self.state.facts))
            with self.interrupts:
                loop.run(done)
            if self.interrupts.requested:  # in the last step, or before it: nothing more is begun
                raise _stopped(loop.done)
        del loop
        rate = self._keep_adapter(self.loop)
        self._free()
        return self._finish(rate)

    def _start(self) -> None:
        """The folder, with what makes it a run."""
        self.folder.start({**self.plan.keys.flat(), "precision": self.plan.config.precision})
        self.begun = True
        self.code = self.code or provenance.code(self.host)
        self._write_manifest(RUNNING)

    def _note_resume(self, text: str) -> None:
        self.tell(StageStarted("resume", text))

    def _load(self) -> None:
        """The base with its LoRA, and the loop over the encoded examples."""
        from accelerate.utils import set_seed

        from ..training.loop import Callbacks, Examples, Loop

        files, brought = self.plan.family.base_files(self.config), self.plan.family.brought_files(self.config, self.plan.keys)
        self.tell(StageStarted("base model", self.config.base_model))
        # Before the adapter is made: its random start belongs to the seed too.
        set_seed(self.config.seed)
        self.trainable = trainable = self.plan.family.load(self.config, self.plan.keys, self.accelerator.device)
        trained, total = trainable.lora.count()
        self.tell(
            StageStarted(
                "LoRA injection",
                say(
                    "{trainable:,} of {total:,} parameters are trained ({share:.3%}), in {n} layers",
                    trainable=trained,
                    total=total,
                    share=trained / total,
                    n=sum(1 for _ in trainable.lora.layers()),
                ),
            )
        )
        for note in trainable.notes:
            self.tell(StageStarted("LoRA injection", note))
        done = ", ".join(f"{count} {kind}" for kind, count in trainable.replaced.items() if count)
        if done:
            self.tell(
                StageStarted("kernels", say("faster calculation with the same result, for {done}; kernels: off turns it off", done=done))
            )
        encoded = self._encode(trainable)
        trainable.on_encoded()
        train, heldout = self.data.pick(False), self.data.pick(True)
        self.loop = Loop(
            trainable,
            Examples(
                [{**encoded[i], "repeat": n} if n else encoded[i] for i in train for n in range(self.data.records[i].repeats)],
                [encoded[i] for i in heldout],
            ),
            self.config,
            self.accelerator,
            Callbacks(tell=self._on_event, save=self._save, sample=self._sample, stop=lambda: self.interrupts.requested),
        )
        if self.accelerator.is_main_process:
            self.state.base = provenance.base(self.config.base_model, self.config.revision, files, brought)
        self.state.facts = {
            "base_model": self.config.base_model,
            "examples": len(train),
            "held_out": len(heldout),
            "epochs": self.loop.schedule.steps / self.loop.schedule.per_epoch,
            "steps": self.loop.schedule.steps,
            "trainable_parameters": trained,
            "parameters": total,
            "device": device_name(self.accelerator),
            "precision": self.config.precision,
            "template": str(self.data.template.describe().get("reason", self.data.template.name)),
            "continues": self.config.init_from_adapter,
            **self.data.examination.facts,
        }

    def _encode(self, trainable: TrainableModel) -> list[Any]:
        """Every row as the trainable model's example.

        Raises:
            DataError: with every row that the model refuses; a base whose tokenizer could not be asked earlier is asked here.
        """
        encoded, problems = [], []
        for record, text in zip(self.data.records, self.data.texts, strict=True):
            try:
                encoded.append(trainable.encode(record, text))
            except DataError as error:
                problems.append(f"{record.where}: {error}")
        if problems:
            raise DataError(problems)
        return encoded

    def _on_event(self, event: Any) -> None:
        """Keeps the figures of the manifest while the loop's events pass through."""
        if event.name == "Evaluated":
            if event.step == 0 and not math.isfinite(event.loss):
                raise TrainingError(failures.base_not_finite(self.config.precision))
            first = "held_out_loss_start" if self.config.init_from_adapter else "held_out_loss_base"
            self.state.metrics[first if event.step == 0 else "held_out_loss"] = event.loss
            if event.step and event.loss < self.state.metrics.get("best_held_out_loss", math.inf):
                self.state.metrics |= {"best_held_out_loss": event.loss, "best_step": event.step}
        elif event.name == "StepFinished":
            self.stepped = True
            self.state.metrics["train_loss"] = event.loss
        elif event.name == "MemoryRanOut":
            self.tell(StageStarted("memory", failures.memory_ran_out(event.rows, event.passes)))
        self.tell(event)

    def _sample(self, step: int) -> None:
        """What the model makes by now, for people to look at."""
        if not self.accelerator.is_main_process:
            return
        with self.folder.unless_vanished():  # the next save makes it again
            shown = self.trainable.sample(self.folder.samples, step)
            if shown is not None:
                self.samples = shown
                self.tell(SamplesDrawn(step, shown))

    def _save(self, step: int) -> None:
        """A checkpoint, whole or not at all. If the folder vanishes meanwhile it is written again."""
        if not self.accelerator.is_main_process:
            return
        self._renew(step)
        with self.folder.unless_vanished():
            self._checkpoint(step)
            saves.export_save(self.plan, self.folder, step, self.tell)
        if self._renew(step):
            self._checkpoint(step)

    def _renew(self, step: int) -> bool:
        """Makes the folder again, and tells so, if it has vanished; whether it had."""
        if self.folder.begun():
            return False
        self._start()
        gone = say("{path} had vanished; it is there again, without what was in it before step {step}", path=self.folder.path, step=step)
        self.tell(StageStarted("folder", gone))
        return True

    def _checkpoint(self, step: int) -> None:
        from ..adapters import lora

        target = self.folder.checkpoint(step)
        state = {"loop": self.loop.state(), "initial": self.trainable.lora.initial}
        with atomic_dir(target) as partial:
            with self.loop.averaged():
                lora.write_peft(self._adapter(), partial / "adapter")
            save_state(partial, state, {"step": step, "metrics": self.state.metrics})
        self.folder.prune(self.config.save_total_limit, self.state.metrics.get("best_step"))
        self.tell(CheckpointSaved(step, target))

    def _adapter(self) -> Adapter:
        trainable = self.trainable
        return trainable.lora.adapter(self.state.base.get("folder"), {
            "name": self.folder.path.name,
            "task": self.plan.task.name,
            "family": self.plan.family.name,
            "peft_task_type": self.plan.family.peft_task_type,
            "template": dict(self.data.template.describe()),
            "revision": self.config.revision,
            "base_files": self.state.base.get("files", {}),
            "variant": self.config.lora_variant,
            "training": {k: v for k, v in {**self.state.facts, **self._so_far()}.items() if k not in _NOT_TRAINING},
            **trainable.facts(),
        }, {**trainable.files(), **trainable.golden(self._unseen(), self.data.template.describe())})  # fmt: skip

    def _so_far(self) -> dict[str, Any]:
        """How long the adapter has been trained by now: a checkpoint that is promoted has its own figures."""
        return {"steps": self.loop.done, "epochs": self.loop.done / self.loop.schedule.per_epoch}

    def _unseen(self) -> list[tuple[Any, Any]]:
        """Held-out rows with their text, by which somebody can check that a server builds the same prompt; learned ones if none is. Rows
        with personal data are not among them: the file travels."""
        rows = self.data.shareable(self.data.pick(True)) or self.data.shareable(self.data.pick(False))
        return [(self.data.records[i], self.data.texts[i]) for i in rows]

    def _keep_adapter(self, loop: Loop) -> float | None:
        """The adapter in its place, and what the losses say: the learning rate to try next, if another one suits better."""
        from ..adapters import lora

        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return None
        self._renew(loop.done)
        self.state.chosen = finish.choose(self.config, self.folder, self.state.metrics, loop, self.tell)
        if self.folder.checkpoint(self.state.chosen["step"]).is_dir():
            finish.take_checkpoint(self.folder, self.state.chosen["step"])  # of the last step too: it holds all that was known there
        else:
            with atomic_dir(self.folder.adapter) as partial, loop.averaged():
                lora.write_peft(self._adapter(), partial)
        rate = read_losses(self.plan, self.data, self.folder, self.state, loop.schedule.per_epoch) if self._alone else None
        self._write_manifest(RUNNING)
        return rate

    @property
    def _alone(self) -> bool:
        return bool(self.accelerator.num_processes == 1)

    def _free(self) -> None:
        """The trained model leaves memory: the exporters and the comparison load a base of their own."""
        import gc

        import torch

        del self.trainable, self.loop
        self.accelerator.free_memory()
        gc.collect()  # accelerate collects before it lets go of the model, which its own wrapper of forward keeps in a circle
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _finish(self, rate: float | None) -> Outcome:
        """Exports, comparison, card and seal. Until all of it is there the run does not count as finished, and --resume takes it up."""
        done, seal = finish.Finished(), ""
        measured = self.state.metrics.get("held_out_loss") is not None
        if self.accelerator.is_main_process:
            if self.last or rate is None or not measured:
                compare = finish.compares(self.plan, self.state.metrics)
                if compare and not self._alone:
                    self.tell(
                        StageStarted("comparison", say("left out; `loraforge eval {run}` makes it later", run=quoted(self.folder.path)))
                    )
                manifest = self._manifest(FINISHED)
                finish.finish_run(
                    self.host, self.folder, manifest, self.plan.exporters, compare=compare and self._alone, tell=self.tell, done=done
                )
            else:
                because = next((d.sentence for d in self.state.diagnoses if d.learning_rate is not None), "")
                self.state.advice = {"from": self.plan.config.learning_rate, "to": rate, "because": because, WAITING: True}
            self.state.metrics["seconds"] = round(time.time() - self.state.started, 1)
            self.tell(RunFinished(self.folder.path, self.state.metrics["seconds"], self.state.metrics))
            # Last of all: what the observers wrote lies under the seal too. Nothing but the seal makes a run a finished one.
            seal = seal_run(self.folder, {**self._manifest(FINISHED), **done.changes}, self.signer)
        unseen = self.data.pick(True) or self.data.pick(False)
        return Outcome(
            self.folder,
            metrics=self.state.metrics,
            seconds=time.time() - self.state.started,
            question=self._prompt(unseen[0]),
            samples=self.samples,
            diagnoses=tuple(self.state.diagnoses),
            advised_rate=rate if measured else None,
            seal=seal,
            **done.fields(),
        )

    def _prompt(self, index: int) -> str:
        """What ``sample`` is given to ask for a row: its question; where the whole text is read and none of it learned, the first line of
        that, as the model saw it, with what the template put around it."""
        spans = self.data.texts[index]
        if any(span.learn for span in spans):
            return self.plan.task.question(self.data.records[index])
        return "".join(span.text for span in spans).partition("\n")[0]

    def fail(self, error: BaseException) -> None:
        """Notes in the manifest and the log that the run did not end well; the error goes on its way."""
        if not self.begun:
            return
        reason = why(error)
        with contextlib.suppress(OSError, RunError):  # the disk may be the reason, or the folder may have vanished
            if self.folder.manifest().get("status") == FINISHED:
                return
            status = STOPPED if isinstance(error, StoppedOnRequest | KeyboardInterrupt) else FAILED
            self._write_manifest(status, error=reason)
        self.tell(RunFailed(self.folder.path, reason))

    # --- the manifest ------------------------------------------------------------------------------------------------------

    def _manifest(self, status: str, error: str | None = None) -> dict[str, Any]:
        processes = self.accelerator.num_processes
        return describe(self.plan, self.data, self.state, self.code, processes=processes, status=status, error=error)

    def _write_manifest(self, status: str, error: str | None = None) -> None:
        self.folder.write_manifest(self._manifest(status, error))


def _stopped(step: int) -> Exception:
    """The loop's word for it; the loop is imported when a run trains and not before."""
    from ..training.loop import Stopped

    return Stopped(step)
