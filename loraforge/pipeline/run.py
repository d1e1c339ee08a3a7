# SPDX-License-Identifier: Apache-2.0
"""The one-way street: plan -> data -> model -> loop -> adapter -> exports. Torch is imported by ``run_training``, not before."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.advice import steps_advice, warmup_advice
from ..data import findings
from ..data.dataset import Data, load_data
from ..device import is_main_process, make_accelerator, quiet_libraries, require_optimizer
from ..errors import DataError, RunError
from ..evaluation import foresight
from ..messages import speaker
from ..plan import Plan
from ..plugin_api.events import StageStarted
from ..runs.disk import disk_errors
from ..runs.folder import RunFolder
from ..training.batching import schedule
from ..training.interrupts import terminable
from . import estimate, saves
from .beginning import Beginning, claim
from .finish import Outcome
from .manifest import RunState
from .resume import finish_seal
from .session import Runtime, Session
from .twice import train_twice

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost
    from ..runs.signing import Signer

say = speaker(__name__)


def run_training(plan: Plan, host: PluginHost, *, resume: bool = False, fresh: bool = False, signer: Signer | None = None) -> Outcome:
    """Trains, saves, exports and compares. See ``twice`` for ``lr_advice: apply``.

    Args:
        resume: continue from the newest checkpoint in output_dir.
        fresh: rename an earlier run in output_dir out of the way.
        signer: signs the run at its end.
    """
    folder = RunFolder(Path(plan.config.output_dir))
    with terminable(), folder.claimed() if is_main_process() else contextlib.nullcontext():
        if plan.config.lr_advice == "apply" and int(os.environ.get("WORLD_SIZE", "1")) == 1:  # several processes give no advice
            return train_twice(plan, host, functools.partial(_run_once, signer=signer), resume=resume, fresh=fresh, signer=signer)
        return _run_once(plan, host, resume=resume, fresh=fresh, last=True, signer=signer)


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
    main = is_main_process()
    tell = host.tell if main else lambda event: None
    if not resume and not fresh:
        claim(folder, tell, main=main)
    if resume and main:
        finish_seal(folder, signer)
    quiet_libraries()
    tell(StageStarted("data", plan.config.metadata_path or plan.config.train_data_dir))
    data = load_data(plan, lambda text: tell(StageStarted("data", text)), progress=lambda text: tell(StageStarted("data", text)))
    late = warmup_advice(plan.config.warmup, plan.places.get("warmup", "warmup"), schedule(plan.config, len(data.learned())).steps)
    for line in [*late, *data.examination.lines, *_checked(data, folder), *foresight.too_few(plan, data), *saves.remarks(plan)]:
        tell(StageStarted("data", line))
    tell(StageStarted("template", str(data.template.describe().get("reason", data.template.name))))
    if not data.pick(heldout=False):
        raise DataError(say("eval_ratio leaves nothing to train on; there are {n} rows.", n=len(data.records)))
    accelerator, config = make_accelerator(plan.config)
    require_optimizer(config, accelerator.device.type)
    planned = schedule(plan.config, len(data.learned()), accelerator.num_processes)
    for line in steps_advice(plan.config, plan.places, plan.names, planned.steps, planned.per_epoch):
        tell(StageStarted("data", line))
    start = plan.config.init_from_adapter
    if fresh and folder.occupied() and start and Path(start).absolute().is_relative_to(folder.path.absolute()):
        raise RunError(say("init_from_adapter lies in output_dir, which --fresh renames. Choose another output_dir."))
    beginning = Beginning(folder, started, tell) if main and advice is None and not (resume and folder.occupied()) else None
    session: Session | None = None
    try:
        if beginning is not None and folder.occupied():
            beginning.set_aside()
        for warning in estimate.warnings(plan, data, cpu=accelerator.device.type == "cpu") if main else ():
            tell(StageStarted("memory", warning))
        accelerator.wait_for_everyone()
        session = Session(plan, data, folder, Runtime(accelerator, config, host, tell, signer), RunState(started, advice=advice), last)
        with disk_errors(folder.path):
            if main:
                folder.tidy()
            return session.run(resume)
    except BaseException as error:
        if beginning is not None and not (session is not None and session.stepped):
            beginning.undo(error)
        elif main and session is not None:
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
