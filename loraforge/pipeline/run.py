"""The one-way street: plan -> data -> model -> loop -> adapter -> exports. Torch is imported by ``run_training``, not before."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..config.advice import steps_advice, warmup_advice
from ..data import findings
from ..data.dataset import Data, load_data
from ..device import is_main_process, make_accelerator, quiet_libraries
from ..errors import DataError, LoraForgeError, RunError, StoppedOnRequest
from ..messages import speaker
from ..plan import Plan
from ..plugin_api.events import StageStarted
from ..runs.disk import disk_errors
from ..runs.folder import RunFolder
from ..runs.seal import seal_run
from ..training.batching import schedule
from ..training.interrupts import terminable
from . import estimate, finish
from .finish import Outcome, compares
from .manifest import RunState
from .resume import finish_seal, occupied
from .session import Runtime, Session

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost
    from ..runs.signing import Signer

say = speaker(__name__)


def run_training(plan: Plan, host: PluginHost, *, resume: bool = False, fresh: bool = False, signer: Signer | None = None) -> Outcome:
    """Trains, saves, exports and compares. With ``lr_advice: apply`` a run whose losses ask for another learning rate is made twice.

    Args:
        resume: continue from the newest checkpoint in output_dir.
        fresh: rename an earlier run in output_dir out of the way.
        signer: signs the run at its end.
    """
    folder = RunFolder(Path(plan.config.output_dir))
    with terminable(), folder.claimed() if is_main_process() else contextlib.nullcontext():
        first = _run_once(plan, host, resume=resume, fresh=fresh, last=plan.config.lr_advice != "apply", signer=signer)
        if plan.config.lr_advice != "apply" or first.advised_rate is None:
            return first
        with disk_errors(folder.path):
            return _once_more(plan, host, first, signer)


def _run_once(
    plan: Plan,
    host: PluginHost,
    *,
    resume: bool,
    fresh: bool,
    last: bool,
    signer: Signer | None,
    advice: Mapping[str, Any] | None = None,
) -> Outcome:
    """One training.

    Args:
        last: hand the adapter over even if the losses ask for another learning rate.
        advice: why this is the second training, for the manifest.
    """
    started = time.time()
    folder = RunFolder(Path(plan.config.output_dir))
    if folder.occupied() and not resume and not fresh:
        raise RunError(occupied(folder))
    if resume and is_main_process():
        finish_seal(folder, signer)
    quiet_libraries()
    main = is_main_process()
    tell = host.tell if main else lambda event: None
    tell(StageStarted("data", plan.config.metadata_path or plan.config.train_data_dir))
    data = load_data(plan, lambda text: tell(StageStarted("data", text)), progress=lambda text: tell(StageStarted("data", text)))
    late = warmup_advice(plan.config.warmup, plan.places.get("warmup", "warmup"), schedule(plan.config, len(data.learned())).steps)
    for line in [*late, *data.examination.lines, *_checked(data, folder)]:
        tell(StageStarted("data", line))
    tell(StageStarted("template", str(data.template.describe().get("reason", data.template.name))))
    if not data.pick(heldout=False):
        raise DataError(say("eval_ratio leaves nothing to train on; there are {n} rows.", n=len(data.records)))
    accelerator, config = make_accelerator(plan.config)
    planned = schedule(plan.config, len(data.learned()), accelerator.num_processes)
    for line in steps_advice(plan.config, plan.places, plan.names, planned.steps, planned.per_epoch):
        tell(StageStarted("data", line))
    start = plan.config.init_from_adapter
    if fresh and folder.occupied() and start and Path(start).absolute().is_relative_to(folder.path.absolute()):
        raise RunError(say("init_from_adapter lies in output_dir, which --fresh renames. Choose another output_dir."))
    if main and folder.occupied() and fresh and not resume:
        with disk_errors(folder.path):
            tell(StageStarted("folder", say("the earlier run is now {path}", path=folder.set_aside())))
    if main and accelerator.device.type == "cpu" and (warning := estimate.warning(plan, data)):
        tell(StageStarted("memory", warning))
    accelerator.wait_for_everyone()
    session = Session(plan, data, folder, Runtime(accelerator, config, host, tell, signer), RunState(started, advice=advice), last)
    try:
        with disk_errors(folder.path):
            if main:
                folder.tidy()
            return session.run(resume)
    except BaseException as error:
        if main:
            session.fail(error)
        raise


def _checked(data: Data, folder: RunFolder) -> list[str]:
    """What the checks found, in a line or none."""
    count = findings.counts(data.found)
    if not any(count.values()):
        return []
    return [
        say(
            "checks: {error} errors, {warning} warnings, {hint} hints, {waived} waived; all of them will be in {path}",
            path=folder.path / "findings.csv",
            **count,
        )
    ]


def _once_more(plan: Plan, host: PluginHost, first: Outcome, signer: Signer | None) -> Outcome:
    """Trains again with the advised rate, and keeps the better of the two in output_dir."""
    rate = cast(float, first.advised_rate)
    because = next(d.sentence for d in first.diagnoses if d.learning_rate is not None)
    kept = first.run.set_aside()
    host.tell(
        StageStarted(
            "advice",
            say(
                "learning_rate {old:g} -> {new:g}: {because} The first training is kept in {path}.",
                old=plan.config.learning_rate,
                new=rate,
                because=because,
                path=kept,
            ),
        )
    )
    config = plan.config.model_copy(update={"learning_rate": rate, "lr_advice": "show"})
    again = dataclasses.replace(plan, config=config, keys=plan.keys.replaced(config))
    advice = {"from": plan.config.learning_rate, "to": rate, "because": because, "first": str(kept)}
    try:
        second = _run_once(again, host, resume=False, fresh=False, last=True, advice=advice, signer=signer)
    except BaseException as error:
        other = first.run.set_aside() if first.run.path.exists() else None
        os.replace(kept, first.run.path)
        if isinstance(error, StoppedOnRequest):
            text = say(
                "The second training was stopped; the first is back in {path}, finished. Its exports: loraforge export.",
                path=first.run.path,
            )
            raise StoppedOnRequest(text) from None
        if not isinstance(error, LoraForgeError):
            raise
        text = say(
            "the second training failed ({error}); the first is taken, what there is of the second is in {path}", error=error, path=other
        )
        host.tell(StageStarted("advice", text))
        return _take_first(plan, host, first, signer, {**advice, "first": str(first.run.path), "second": str(other), "taken": "first"})
    before, after = first.metrics.get("held_out_loss"), second.metrics.get("held_out_loss")
    if before is None or after is None or after < before:
        if before is not None and after is not None:
            text = say("the second training is taken: held-out loss {after:.4f}, before {before:.4f}", after=after, before=before)
            host.tell(StageStarted("advice", text))
        return second
    other = second.run.set_aside()
    os.replace(kept, first.run.path)
    text = say(
        "the second training is no better (held-out loss {after:.4f}, before {before:.4f}); the first is taken, the other is in {path}",
        after=after,
        before=before,
        path=other,
    )
    host.tell(StageStarted("advice", text))
    return _take_first(plan, host, first, signer, {**advice, "first": str(first.run.path), "second": str(other), "taken": "first"})


def _take_first(plan: Plan, host: PluginHost, first: Outcome, signer: Signer | None, advice: Mapping[str, Any]) -> Outcome:
    """Hands over the first training, which had waited for the second."""
    manifest = {**first.run.manifest(), "advice": dict(advice)}
    done = finish.Finished()
    finish.finish_run(host, first.run, manifest, plan.exporters, compare=compares(plan, first.metrics), tell=host.tell, done=done)
    seal = seal_run(first.run, {**manifest, **done.changes}, signer)
    return dataclasses.replace(first, **done.fields(), seal=seal)
