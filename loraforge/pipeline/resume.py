# SPDX-License-Identifier: Apache-2.0
"""Whether a stopped run may go on, and from where."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.dataset import Data
from ..errors import RunError
from ..messages import speaker
from ..plan import Plan
from ..runs.folder import FINISHED, FORMAT, RunFolder, load_state
from ..runs.provenance import digest
from ..runs.records import FOLDER
from ..runs.seal import SEAL, complete_seal

if TYPE_CHECKING:
    from ..plugin_api.models import TrainableModel
    from ..runs.signing import Signer

say = speaker(__name__)

# These may change between the two halves of a run: they do not change what is trained.
_FREE = (
    *("output_dir", "save_steps", "save_epochs", "save_total_limit", "export", "export_at_saves"),
    *("checks", "stop_on", "waivers", "adapter_from", "eval_answers", "eval_minutes", "lr_advice"),
)


def identity(plan: Plan, data: Data) -> dict[str, Any]:
    """What must be equal for a run to go on as if it had never stopped."""
    exporting = {key for exporter in plan.exporters for key in exporter.keys.model_fields}
    config = {k: v for k, v in plan.keys.flat().items() if k not in _FREE and k not in exporting}
    return {"config": config, "data": data.digest(), "template": digest(data.template.describe())}


def occupied(folder: RunFolder) -> str:
    """What can be done about a run that is already in output_dir."""
    with contextlib.suppress(RunError):
        if folder.manifest().get("status") == FINISHED:
            return say(
                "{path} already holds a finished run. --fresh renames it and trains anew, --set output_dir=... trains beside it.",
                path=folder.path,
            )
    return say(
        "{path} already holds a run. --resume continues it, --fresh renames it and trains anew, --set output_dir=... trains beside it.",
        path=folder.path,
    )


def finish_seal(folder: RunFolder, signer: Signer | None = None) -> None:
    """A run that was killed between its last manifest and the seal is finished: only the seal is set, if all files are as the manifest
    names them.

    Raises:
        RunError: saying so.
    """
    if not folder.manifest_file.exists():
        return
    manifest = folder.manifest()
    if manifest.get("status") != FINISHED and os.path.lexists(folder.path / FOLDER):
        problem = say(
            "{path} is not the file that was sealed; it was left as it is. `loraforge verify` says more.", path=folder.manifest_file
        )
        raise RunError(problem)
    if os.path.lexists(folder.path / SEAL):
        return
    if manifest.get("status") != FINISHED or not isinstance(manifest.get("files"), dict):
        return
    folder.tidy()  # the seal itself may have been cut off
    seal = complete_seal(folder, signer)
    text = say("{path}: this run is finished; only its seal was missing, and is set now. --fresh trains anew.", path=folder.path)
    raise RunError([text, say("Seal: {seal}", seal=seal)])


def newest_checkpoint(
    folder: RunFolder, ours: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], tell: Callable[[str], None]
) -> tuple[Path, dict[str, Any], dict[str, Any]] | None:
    """(path, state, position) of the checkpoint to go on from, or None to begin at the start. A damaged one is set aside and named.

    Args:
        ours: the ``identity`` of the run that wants to go on.
        rows: its rows, as the manifest lists them.
        tell: told what the user should know.

    Raises:
        RunError: if the run in the folder was another one; it shows the difference.
    """
    if not folder.manifest_file.exists():
        tell(say("there is no run in {path} yet; it begins at the start.", path=folder.path))
        return None
    from safetensors import SafetensorError

    before = folder.manifest()
    if before.get("status") == FINISHED:
        raise RunError(say("{path}: this run is finished; there is nothing to resume. --fresh trains anew.", path=folder.path))
    if before.get("format") != FORMAT:
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
        problems.append(_other_rows(before.get("data"), rows))
    if theirs.get("template") != ours["template"]:
        problems.append(say("the prompt template has changed."))
    if problems:
        head = say("{path} cannot be resumed, because it would be another run:", path=folder.path)
        raise RunError([head, *problems, say("--fresh trains anew; init_from_adapter continues from an adapter with new data.")])
    from ..adapters.peft_format import read_peft

    for path in reversed(folder.checkpoints(whole=False)):
        try:
            state, position = load_state(path)
            read_peft(path / "adapter")  # it may be the one that is handed on
            return path, {"loop": state["loop"], "initial": state["initial"]}, {"step": position["step"], "metrics": position["metrics"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RunError, SafetensorError) as error:
            kept = _free(path.with_name(f"damaged-{path.name}"))
            os.replace(path, kept)
            tell(say("{path} is damaged ({error}); it is now {kept}, and the one before it is used.", path=path, error=error, kept=kept))
    tell(say("there is no whole checkpoint in {path}; it begins at the start.", path=folder.path))
    return None


def _other_rows(before: Any, rows: Sequence[Mapping[str, Any]]) -> str:
    """Which examples are new or altered, and which are gone."""
    listed = before.get("rows") if isinstance(before, Mapping) else None
    old = [row for row in listed if isinstance(row, Mapping)] if isinstance(listed, list) else []
    theirs, ours = {row.get("sha256") for row in old}, {row["sha256"] for row in rows}
    new = [str(row["where"]) for row in rows if row["sha256"] not in theirs]
    gone = [str(row.get("where")) for row in old if row.get("sha256") not in ours]
    if not new and not gone:
        return say("the examples have changed: the same rows stand in another order or on other sides.")
    return say("the examples have changed. New or altered: {new}. Gone or altered: {gone}.", new=_few(new), gone=_few(gone))


def _few(where: Sequence[str]) -> str:
    shown = "; ".join(where[:5]) or say("none")
    return shown if len(where) <= 5 else say("{shown} and {n} more", shown=shown, n=len(where) - 5)


def _free(path: Path) -> Path:
    """The path, or one like it that nothing has taken."""
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(place for place in itertools.chain([path], others) if not os.path.lexists(place))


def check_start(folder: RunFolder, trainable: TrainableModel, initial: Mapping[str, Any]) -> None:
    """PiSSA's start is computed from the base again; it must have come out the same.

    Raises:
        RunError: if it has not.
    """
    import torch

    for name, tensor in initial.items():
        if not torch.equal(tensor, trainable.lora.initial[name]):
            raise RunError(say("{path} cannot be resumed: PiSSA starts differently on this machine.", path=folder.path))
