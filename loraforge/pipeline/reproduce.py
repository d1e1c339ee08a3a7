# SPDX-License-Identifier: Apache-2.0
"""Trains a finished run again and compares the two adapters. Torch is imported by ``reproduce``, not before."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audit.verdicts import BAD, UNCHANGED, UNRECORDED
from ..audit.verify import ancestor, verify
from ..config import yaml_reader
from ..errors import LoraForgeError, RunError
from ..messages import speaker
from ..plan import Plan, make_plan
from ..runs import provenance
from ..runs.folder import FINISHED, RunFolder
from ..runs.provenance import hash_file
from ..runs.seal import read_manifest

if TYPE_CHECKING:
    from torch import Tensor

    from ..plugin_api.host import PluginHost
    from ..plugin_api.types import Adapter

say = speaker(__name__)

IDENTICAL, CLOSE, NOT_REPRODUCED = "identical", "close", "not reproduced"
# Two trainings that differ in rounding only stay nearly parallel; another seed or other rows give weight changes that hardly are.
_NEARLY_PARALLEL = 0.99
_WEIGHTS = "adapter_model.safetensors"


def reproduce(host: PluginHost, folder: Path, out: Path | None, tell: Callable[[str], None]) -> dict[str, Any]:
    """Trains the run in ``folder`` again from its config.yaml and compares. The run itself is only read.

    Args:
        out: where the new run goes; by default RUN/reproduced.
        tell: is told what is done.

    Returns:
        ``verdict`` (identical, close, not reproduced) with a ``sentence``; ``modules`` with their differences unless it is identical;
        ``losses`` on the held-out examples; ``differences`` of versions, code and machine; ``reproduced``, the new run's folder.

    Raises:
        RunError: if the run is not finished, or if what it was made from has changed: everything that has is named.
    """
    run = RunFolder(folder)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError(say("`loraforge reproduce` trains in one process, also what several have made; start it without torchrun."))
    manifest, _ = read_manifest(run)
    if manifest.get("status") != FINISHED:
        raise RunError(
            say("{path}: only a finished run can be reproduced; this one is: {status}.", path=folder, status=manifest.get("status"))
        )
    tell(say("Comparing data, base and config with the manifest."))
    _refuse(host, run, manifest)
    target = out or _free(run.path / "reproduced")
    chosen = _step(manifest)
    # config.yaml has the learning rate that the adapter was made with, whatever advice led to it.
    overrides: dict[str, Any] = {"output_dir": str(target), "eval_answers": False, "lr_advice": "show"}
    if chosen is not None and chosen != _part(manifest, "facts").get("steps"):
        overrides["save_total_limit"] = 10**6  # the checkpoint that is compared must not be pruned
    overrides |= _start(manifest) | _cut(manifest, tell)
    given = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    plan = make_plan(host, str(manifest.get("task")), run.config_file, given, exporting=False)
    _refuse_other_base(run, manifest, plan)
    made = _train(dataclasses.replace(plan, exporters=()), host, manifest, tell)
    return _compare(run, manifest, made, chosen)


def _refuse(host: PluginHost, run: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Raises RunError if what the run was made from is not there as it was."""
    problems = _config_changes(run, manifest)
    for part in verify(host, run.path).parts:
        source = part.kind in ("data", "base") and part.state not in (UNCHANGED, UNRECORDED)  # another order of the rows counts too
        own = part.name == run.config_file.name or part.name.startswith("adapter/")
        if source or (part.state in BAD and (part.kind == "manifest" or (part.kind == "file" and own))):
            problems.append(f"{part.name}: {part.sentence}")
    lineage = manifest.get("lineage")
    if isinstance(lineage, list) and lineage and (not isinstance(lineage[0], dict) or ancestor(lineage[0]) is None):
        problems.append(say("init_from_adapter: the adapter that this run continued from is gone, or was altered."))
    if problems:
        raise RunError([say("{path} cannot be reproduced, because what it was made from has changed:", path=run.path), *problems])


def _refuse_other_base(run: RunFolder, manifest: Mapping[str, Any], plan: Plan) -> None:
    """Raises RunError if the base's name leads to another folder today, with other files in it than those that were checked."""
    then = _part(manifest, "base")
    if not then.get("files"):
        return
    now = provenance.base(plan.config.base_model, plan.config.revision, plan.family.base_files(plan.config))
    if now["folder"] == then.get("folder") or now["files"] == then["files"]:
        return
    raise RunError(
        say(
            "{path} cannot be reproduced: base_model {base} is another one today than it was in training. It leads to {now}, and led to "
            "{then}.",
            path=run.path,
            base=plan.config.base_model,
            now=now["folder"],
            then=then.get("folder"),
        )
    )


def _config_changes(run: RunFolder, manifest: Mapping[str, Any]) -> list[str]:
    """The keys of config.yaml that are not what the manifest says."""
    before = _part(manifest, "config")
    try:
        now = {key: value.value for key, value in yaml_reader.read(run.config_file).values.items()}
    except LoraForgeError as error:
        return list(error.problems)
    keys = [key for key in before if key in now and before[key] != now[key]]
    return [f"{run.config_file.name}: " + say("{key}: was {old}, is now {new}.", key=key, old=before[key], new=now[key]) for key in keys]


def _start(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Where the run that continues another finds that adapter today."""
    lineage = manifest.get("lineage")
    found = ancestor(lineage[0]) if isinstance(lineage, list) and lineage else None
    return {"init_from_adapter": str(found)} if found else {}


def _cut(manifest: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """One process takes as many batches for a step as the run's processes took together: the same examples, in the same batches.

    Raises:
        RunError: if each process drew dropout of its own, which one process cannot repeat: that would look like another adapter.
    """
    config, count = _part(manifest, "config"), _processes(manifest)
    each, dropout = config.get("gradient_accumulation", 1), config.get("lora_dropout")
    if count < 2:
        return {}
    if dropout:
        raise RunError(
            say(
                "The run was made by {n} processes with lora_dropout: {dropout}. One process draws other dropout than several do, so "
                "training again would show nothing. Runs of one process, and those with lora_dropout: 0, can be reproduced.",
                n=count,
                dropout=dropout,
            )
        )
    if not isinstance(each, int):
        raise RunError(say("config: the manifest's entry is not of the form that LoRAForge writes."))
    tell(
        say(
            "The run was made by {n} processes; one now takes all batches of a step. Sums are rounded otherwise then, so the adapters "
            "may be close and not identical.",
            n=count,
        )
    )
    return {"gradient_accumulation": each * count}


def _processes(manifest: Mapping[str, Any]) -> int:
    """How many processes made the run; an earlier LoRAForge said so in the name of the device only."""
    count = _part(manifest, "machine").get("processes")
    if count is None:
        several = re.search(r" x ([1-9][0-9]{0,4})$", str(_part(manifest, "facts").get("device", "")))
        return int(several[1]) if several else 1
    return count if isinstance(count, int) else 1


def _free(folder: Path) -> Path:
    """``reproduced``, or ``reproduced-2`` and so on."""
    number, path = 1, folder
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}-{number}")
    return path


def _train(plan: Plan, host: PluginHost, manifest: Mapping[str, Any], tell: Callable[[str], None]) -> RunFolder:
    """The new run, with as many threads as the first had: sums are rounded differently when they are shared out differently."""
    import torch

    from .run import run_training

    before, wanted = torch.get_num_threads(), _part(manifest, "machine").get("threads")
    try:
        if isinstance(wanted, int) and 0 < wanted != before:
            tell(say("Training with {n} threads, as the run did.", n=wanted))
            torch.set_num_threads(wanted)
        return run_training(plan, host).run
    finally:
        torch.set_num_threads(before)


# --- comparing ----------------------------------------------------------------------------------------------------------------


def _compare(run: RunFolder, manifest: Mapping[str, Any], made: RunFolder, chosen: int | None) -> dict[str, Any]:
    theirs = made.manifest()
    mine = _step(theirs)
    adapter = made.adapter if chosen in (None, mine if mine is not None else _part(theirs, "facts").get("steps")) else None
    if adapter is None:
        adapter = made.checkpoint(int(chosen or 0)) / "adapter"
    result: dict[str, Any] = {
        "run": str(run.path),
        "reproduced": str(made.path),
        "step": chosen,
        "losses": {"run": _losses(manifest), "reproduced": _losses(theirs)},
        "differences": _differences(manifest, theirs),
        "modules": [],
    }
    if not (adapter / _WEIGHTS).is_file():
        said = say("Not reproduced: the new run has no checkpoint of step {step}, which the adapter is from.", step=chosen)
        return {**result, "verdict": NOT_REPRODUCED, "sentence": said}
    if hash_file(adapter / _WEIGHTS) == hash_file(run.adapter / _WEIGHTS):
        return {**result, "verdict": IDENTICAL, "sentence": say("Reproduced: the adapter is identical to the bit.")}
    modules = compare(run.adapter, adapter)
    if not any(row["absolute"] or row["relative"] for row in modules):  # another file with the same numbers
        return {**result, "verdict": IDENTICAL, "sentence": say("Reproduced: all numbers of the adapter are identical to the bit.")}
    on_cpu = all(str(_part(m, "facts").get("device", "")).upper().startswith("CPU") for m in (manifest, theirs))
    exact = on_cpu and _processes(manifest) == _processes(theirs) and not _differences(manifest, theirs, ("versions", "code"))
    cosine = min(row["cosine"] for row in modules)
    worst = max(modules, key=lambda row: float(row["relative"]))
    close = not exact and cosine >= _NEARLY_PARALLEL
    sentence = say(
        "{verdict}: the two weight changes differ by up to {share:.2g} of their size (in {module}); their smallest cosine is {cosine:.6f}.",
        verdict=say("Close, but not identical") if close else say("Not reproduced"),
        share=worst["relative"],
        module=worst["module"],
        cosine=cosine,
    )
    return {**result, "modules": modules, "verdict": CLOSE if close else NOT_REPRODUCED, "sentence": sentence}


def compare(one: Path, other: Path) -> list[dict[str, Any]]:
    """Two adapters, module by module.

    Returns:
        for each: ``absolute``, the largest difference of one entry of the weight change (or of a DoRA magnitude); ``relative``, the
        difference's norm as a share of the first's norm; ``cosine`` between the two weight changes. A module that only one has counts as
        wholly different.
    """
    from ..adapters.peft_format import read_peft

    first, second = read_peft(one), read_peft(other)
    rows = []
    for name in sorted({*first.modules, *second.modules}):
        if name not in first.modules or name not in second.modules:
            rows.append({"module": name, "absolute": None, "relative": 1.0, "cosine": 0.0})
            continue
        a, b = (_change(adapter, name) for adapter in (first, second))
        norm, both = float(a.norm()), float(a.norm() * b.norm())
        apart = float((a - b).norm())
        magnitudes = [adapter.tensors.get(f"{name}.lora_magnitude_vector") for adapter in (first, second)]
        scale = float((magnitudes[0] - magnitudes[1]).abs().max()) if magnitudes[0] is not None and magnitudes[1] is not None else 0.0
        rows.append({
            "module": name,
            "absolute": max(float((a - b).abs().max()), scale),
            "relative": apart / norm if norm else float(apart > 0),
            "cosine": float((a * b).sum()) / both if both else float(apart == 0),
        })  # fmt: skip
    return rows


def _change(adapter: Adapter, name: str) -> Tensor:
    """The change of a module's weight, (out, in), in float64: rounding of the comparison must not look like a difference."""
    tensors = {full: tensor.double() for full, tensor in adapter.tensors.items() if full.startswith(f"{name}.")}
    return dataclasses.replace(adapter, tensors=tensors).delta(name)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], kinds: Sequence[str] = ("versions", "code", "machine")) -> list[str]:
    """What was not the same in the two trainings, for people."""
    lines = []
    for kind in kinds:
        before, after = _part(one, kind), _part(other, kind)
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                lines.append(say("{key}: was {old}, is now {new}.", key=key, old=before.get(key), new=after.get(key)))
    return lines


def _losses(manifest: Mapping[str, Any]) -> dict[str, Any]:
    metrics = _part(manifest, "metrics")
    return {"base": metrics.get("held_out_loss_base"), "adapter": metrics.get("held_out_loss")}


def _step(manifest: Mapping[str, Any]) -> int | None:
    """The step that the adapter is from; None if the manifest does not say."""
    step = _part(manifest, "chosen").get("step")
    return step if isinstance(step, int) else None


def _part(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, Mapping) else {}
