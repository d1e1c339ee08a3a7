# SPDX-License-Identifier: Apache-2.0
"""``lr_advice: apply``: a run whose losses ask for another learning rate is made twice, and the better one is handed on.

The first training waits beside output_dir while the second is made there. What stands in the manifests says how far this has come, so
that a process that is killed at any moment is taken up by ``--resume``.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError, TrainingError
from ..messages import speaker
from ..plan import Plan
from ..plugin_api.events import StageStarted
from ..runs.disk import disk_errors
from ..runs.folder import FINISHED, RUNNING, RunFolder
from ..runs.seal import SEAL, SIGNATURE, seal_run
from . import finish
from .finish import Outcome, compares
from .resume import finish_seal

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost
    from ..runs.signing import Signer

say = speaker(__name__)

WAITING = "waiting"  # in the advice of a first training: for the second


def train_twice(
    plan: Plan, host: PluginHost, train: Callable[..., Outcome], *, resume: bool, fresh: bool, signer: Signer | None = None
) -> Outcome:
    """See above.

    Args:
        train: makes one training, as ``run._run_once``.
        signer: signs the run at its end.
    """
    folder = RunFolder(Path(plan.config.output_dir))
    first: Outcome | None = None
    with disk_errors(folder.path):
        if resume:
            with contextlib.suppress(RunError):
                finish_seal(folder, signer)  # says that all is done, which may be true of one of the two only
        here = _advice(folder, plan)
        if resume and here.get("taken") == "first" and folder.manifest()["status"] != FINISHED:
            return train(plan, host, resume=True, fresh=False, last=True, advice=here)
        kept = _waiting(folder, plan) if resume else None
        if kept is None:
            first = train(plan, host, resume=resume, fresh=fresh, last=False)
            if first.advised_rate is None:
                return first
            kept = folder.path
        if kept == folder.path:
            kept = _set_aside(plan, host, folder)
        return _second(plan, host, train, first, folder, RunFolder(kept), signer)


def _set_aside(plan: Plan, host: PluginHost, folder: RunFolder) -> Path:
    advice, kept = _advice(folder, plan), folder.set_aside()
    text = say(
        "learning_rate {old:g} -> {new:g}: {because} The first training is kept in {path}.",
        old=advice["from"],
        new=advice["to"],
        because=advice["because"],
        path=kept,
    )
    host.tell(StageStarted("advice", text))
    return kept


def _second(
    plan: Plan,
    host: PluginHost,
    train: Callable[..., Outcome],
    first: Outcome | None,
    folder: RunFolder,
    kept: RunFolder,
    signer: Signer | None,
) -> Outcome:
    """Makes the second training, or goes on with it, and hands the better of the two on."""
    told = _advice(kept, plan)
    advice = {**{key: told[key] for key in ("from", "to", "because")}, "first": str(kept.path)}
    if told.get("taken") == "first":
        return _first_taken(plan, host, train, first, folder, kept, advice, signer)
    again = _with_rate(plan, told["to"])
    finished = folder.begun() and folder.manifest().get("status") == FINISHED
    try:
        second = None if finished else train(again, host, resume=folder.occupied(), fresh=False, last=True, advice=advice)
    except TrainingError as error:
        other = _first_back(folder, kept, advice)
        text = say(
            "the second training failed ({error}); the first is taken, what there is of the second is in {path}", error=error, path=other
        )
        host.tell(StageStarted("advice", text))
        return _handed_over(plan, host, train, first, folder, signer)
    before, after = _loss(kept), _loss(folder)
    if before is None or after is None or after < before:
        if before is not None and after is not None:
            text = say("the second training is taken: held-out loss {after:.4f}, before {before:.4f}", after=after, before=before)
            host.tell(StageStarted("advice", text))
        return second or train(again, host, resume=True, fresh=False, last=True)  # which says that it is finished
    return _first_taken(plan, host, train, first, folder, kept, advice, signer)


def _first_taken(
    plan: Plan,
    host: PluginHost,
    train: Callable[..., Outcome],
    first: Outcome | None,
    folder: RunFolder,
    kept: RunFolder,
    advice: Mapping[str, Any],
    signer: Signer | None,
) -> Outcome:
    """For a second training that is no better."""
    before, after = _loss(kept), _loss(folder)
    other = _first_back(folder, kept, advice)
    if before is not None and after is not None:
        text = say(
            "the second training is no better (held-out loss {after:.4f}, before {before:.4f}); the first is taken, the other is in {path}",
            after=after,
            before=before,
            path=other,
        )
        host.tell(StageStarted("advice", text))
    return _handed_over(plan, host, train, first, folder, signer)


def _first_back(folder: RunFolder, kept: RunFolder, advice: Mapping[str, Any]) -> Path | None:
    """The first training in its place again, marked as the one that is handed on; where the second is now."""
    for name in (SEAL, SIGNATURE):
        (kept.path / name).unlink(missing_ok=True)
    taken = {**advice, "first": str(folder.path), "taken": "first"}
    kept.write_manifest({**kept.manifest(), "status": RUNNING, "advice": taken})
    other = folder.set_aside() if folder.occupied() else None
    folder.put_back(kept.path)
    folder.write_manifest({**folder.manifest(), "advice": {**taken, "second": str(other)}})
    return other


def _handed_over(
    plan: Plan, host: PluginHost, train: Callable[..., Outcome], first: Outcome | None, folder: RunFolder, signer: Signer | None
) -> Outcome:
    """Exports, comparison, card and seal of the first training, which had waited for the second."""
    if first is None:  # of an earlier process
        return train(plan, host, resume=True, fresh=False, last=True, advice=folder.manifest()["advice"])
    manifest = {**folder.manifest(), "status": FINISHED}
    done = finish.Finished()
    finish.finish_run(host, folder, manifest, plan.exporters, compare=compares(plan, first.metrics), tell=host.tell, done=done)
    seal = seal_run(folder, {**manifest, **done.changes}, signer)
    return dataclasses.replace(first, **done.fields(), seal=seal)


def _with_rate(plan: Plan, rate: float) -> Plan:
    config = plan.config.model_copy(update={"learning_rate": rate, "lr_advice": "show"})
    return dataclasses.replace(plan, config=config, keys=plan.keys.replaced(config))


# --- how far it has come --------------------------------------------------------------------------------------------------------


def _advice(folder: RunFolder, plan: Plan) -> Mapping[str, Any]:
    """What the manifest says of two trainings, if they began with this config's rate; empty if it says nothing."""
    try:
        found = folder.manifest().get("advice")
    except RunError:
        return {}
    whole = isinstance(found, Mapping) and {"from", "to", "because"} <= set(found)
    return found if isinstance(found, Mapping) and whole and found["from"] == plan.config.learning_rate else {}


def _waiting(folder: RunFolder, plan: Plan) -> Path | None:
    """Where the finished first training is that an interrupted process was about to compare with a second; None if there is none."""
    here = _advice(folder, plan)
    if here.get(WAITING):
        return folder.path
    if "first" in here and "taken" not in here:
        return Path(str(here["first"])) if _advice(RunFolder(Path(str(here["first"]))), plan) else None
    if folder.manifest_file.exists():
        return None
    beside = sorted(folder.path.parent.glob(f"{_literal(folder.path.name)}.*"), reverse=True)
    left = (path for path in beside if (told := _advice(RunFolder(path), plan)) and (told.get(WAITING) or told.get("taken") == "first"))
    return next(left, None)


def _literal(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _loss(folder: RunFolder) -> float | None:
    """The loss on the held-out examples; None if the run has none."""
    with contextlib.suppress(RunError):
        found = (folder.manifest().get("metrics") or {}).get("held_out_loss")
        return found if isinstance(found, float) else None
    return None
