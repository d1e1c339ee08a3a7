"""Whether a stopped run may go on, and from where."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import rundir
from .dataset import Data
from .errors import RunError
from .messages import speaker
from .planning import Plan
from .provenance import digest
from .rundir import RunDir

if TYPE_CHECKING:
    from .interfaces import Trainee

say = speaker(__name__)

# These may change between the two halves of a run: they do not change what is trained.
_FREE = (
    *("output_dir", "save_steps", "save_total_limit", "export"),
    *("checks", "stop_on", "waivers", "adapter_from", "eval_answers", "lr_advice"),
)


def identity(plan: Plan, data: Data) -> dict[str, Any]:
    """What must be equal for a run to go on as if it had never stopped."""
    exporting = {key for exporter in plan.exporters for key in exporter.keys.model_fields}
    config = {k: v for k, v in plan.keys.flat().items() if k not in _FREE and k not in exporting}
    return {"config": config, "data": data.digest(), "template": digest(data.template.describe())}


def occupied(folder: RunDir) -> str:
    """What can be done about a run that is already in output_dir."""
    with contextlib.suppress(RunError):
        if folder.manifest().get("status") == rundir.FINISHED:
            return say(
                "{path} already holds a finished run. --fresh renames it and trains anew, --set output_dir=... trains beside it.",
                path=folder.path,
            )
    return say(
        "{path} already holds a run. --resume continues it, --fresh renames it and trains anew, --set output_dir=... trains beside it.",
        path=folder.path,
    )


def newest_checkpoint(
    folder: RunDir, ours: Mapping[str, Any], tell: Callable[[str], None]
) -> tuple[Path, dict[str, Any], dict[str, Any]] | None:
    """(path, state, position) of the checkpoint to go on from, or None to begin at the start. A damaged one is set aside and named.

    Args:
        ours: the ``identity`` of the run that wants to go on.
        tell: told what the user should know.

    Raises:
        RunError: if the run in the folder was another one; it shows the difference.
    """
    if not folder.manifest_file.exists():
        tell(say("there is no run in {path} yet; it begins at the start.", path=folder.path))
        return None
    from safetensors import SafetensorError

    before = folder.manifest()
    if before.get("status") == rundir.FINISHED:
        raise RunError(say("{path}: this run is finished; there is nothing to resume. --fresh trains anew.", path=folder.path))
    if before.get("format") != rundir.FORMAT:
        raise RunError(
            say(
                "{path}: this run was begun by another version of LoRAForge, which cannot be resumed. --fresh trains anew.",
                path=folder.path,
            )
        )
    theirs, ours = before.get("identity", {}), json.loads(json.dumps(ours, default=str))
    problems = [
        say("{key}: was {old}, is now {new}.", key=key, old=theirs.get("config", {}).get(key), new=value)
        for key, value in ours["config"].items()
        if theirs.get("config", {}).get(key) != value
    ]
    if theirs.get("data") != ours["data"]:
        problems.append(say("the examples have changed."))
    if theirs.get("template") != ours["template"]:
        problems.append(say("the prompt template has changed."))
    if problems:
        head = say("{path} cannot be resumed, because it would be another run:", path=folder.path)
        raise RunError([head, *problems, say("--fresh trains anew; init_from_adapter continues from an adapter with new data.")])
    for path in reversed(folder.checkpoints()):
        try:
            state, position = rundir.load_state(path)
            return path, state, position
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            kept = path.with_name(f"damaged-{path.name}")
            os.replace(path, kept)
            tell(say("{path} is damaged ({error}); it is now {kept}, and the one before it is used.", path=path, error=error, kept=kept))
    tell(say("there is no whole checkpoint in {path}; it begins at the start.", path=folder.path))
    return None


def check_start(folder: RunDir, trainee: Trainee, initial: Mapping[str, Any]) -> None:
    """PiSSA's start is computed from the base again; it must have come out the same.

    Raises:
        RunError: if it has not.
    """
    import torch

    for name, tensor in initial.items():
        if not torch.equal(tensor, trainee.lora.initial[name]):
            raise RunError(say("{path} cannot be resumed: PiSSA starts differently on this machine.", path=folder.path))
