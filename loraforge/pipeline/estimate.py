# SPDX-License-Identifier: Apache-2.0
"""Will it fit? Memory, disk and time of a run, estimated from its configuration, and the settings that would fit. Torch is not imported.

A model family says what its base needs (``ModelFamily.estimate_memory``); here that meets a device, an optimizer and the files of a run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.optimizers.profiles import PROFILES
from ..config.schema import KeySet, RunConfig
from ..data.dataset import Data
from ..messages import speaker
from ..plan import Plan
from ..plugin_api.models import MemoryEstimate
from ..runs.observers import duration
from ..training.batching import Schedule, schedule
from .hardware import GB, available_memory, cpu_rate, free_disk

say = speaker(__name__)

_PROCESS = 540e6  # Python with torch, transformers and peft, and what their first operations allocate for good
_CONTEXT = 0.75e9  # what CUDA and its libraries take of a GPU
_SLACK = {"cpu": 0.06, "cuda": 0.08}  # what the allocator cannot use, as a share of what comes and goes (CPU) or of all (GPU)
_CPU_SHARE = 0.5  # of the speed of a plain multiplication; the rest goes to what is no multiplication
_GPU_RATES = (1e13, 1e14)  # operations a second that training reaches on small and on large cards
_BATCH_SECONDS = {"cpu": (0.01, 0.05), "cuda": (0.03, 0.3)}  # what a batch costs however small it is: the least and the most


@dataclass(frozen=True)
class Estimate:
    """What a run needs and what there is. Bytes and seconds.

    Attributes:
        device: "cpu" or "cuda".
        memory: what is held at the worst moment, by what it is for.
        available: memory that is free; None if that cannot be told.
        disk: what the run's folder and the cache will hold at most, by what it is.
        disk_free: where the run's folder will be; None if that cannot be told.
        seconds: the least and the most that training may take; the answers and pictures of the comparison at its end are left out.
        flops: floating-point operations of the training.
        changes: values of keys with which it would fit, the mildest that were found; nothing if it fits or nothing helps.
        changed: memory with them.
        sums: how the memory of the base comes about, in sentences.
        licence: of the base, as its own folder names it.
        steps: the ``changes`` one after the other, each with the memory it leads to, by what it is for.
    """

    device: str
    memory: Mapping[str, int]
    available: int | None
    disk: Mapping[str, int]
    disk_free: int | None
    seconds: tuple[float, float]
    flops: float
    parameters: int = 0
    trainable: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    changed: int = 0
    sums: Sequence[str] = ()
    steps: Sequence[tuple[Mapping[str, Any], Mapping[str, int]]] = ()
    licence: str = ""

    @property
    def needed(self) -> int:
        """Memory at the worst moment."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the memory suffices, as far as that can be told."""
        return self.available is None or self.needed <= self.available

    def as_json(self) -> dict[str, Any]:
        """For ``--json``. ``proposals`` is empty, or holds the one set of changes that would fit."""
        proposal = {"set": dict(self.changes), "memory_bytes": self.changed, "arguments": arguments(self.changes)}
        found = {"device": self.device, "memory_bytes": self.needed, "memory_parts": dict(self.memory), "available_bytes": self.available}
        found |= {"disk_bytes": sum(self.disk.values()), "disk_parts": dict(self.disk), "disk_free_bytes": self.disk_free}
        found |= {"seconds_least": self.seconds[0], "seconds": self.seconds[1], "flops": self.flops, "parameters": self.parameters}
        found |= {"licence": self.licence or None}
        return {**found, "trainable_parameters": self.trainable, "fits": self.fits, "proposals": [proposal] if self.changes else []}


def estimate(plan: Plan, data: Data, gpu: int | None = None) -> Estimate | None:
    """What a run needs, on this computer's CPU or on a GPU.

    Args:
        gpu: the GPU's memory in bytes.

    Returns:
        None where the model family cannot tell.
    """
    device = "cpu" if gpu is None else "cuda"
    planned = schedule(plan.config, len(data.learned()))
    needs = _estimate_memory(plan, data, plan.config, plan.keys, device)
    if needs is None:
        return None
    memory = _memory(plan.config, needs, device, [exporter.name for exporter in plan.exporters])
    disk = _disk(plan, needs, planned)
    flops = _operations(plan, data, needs, planned)
    rate = cpu_rate() * _CPU_SHARE if gpu is None else 0.0
    rates = (rate / 2, rate) if gpu is None else _GPU_RATES
    batches = planned.steps * min(plan.config.gradient_accumulation, max(1, len(data.learned())))
    made = Estimate(
        device,
        memory,
        available_memory() if gpu is None else gpu,
        disk,
        free_disk(Path(plan.config.output_dir)),
        (flops / rates[1] + batches * _BATCH_SECONDS[device][0], flops / rates[0] + batches * _BATCH_SECONDS[device][1]),
        flops,
        sum(needs.parameters.values()),
        needs.trainable,
        sums=needs.sums,
        licence=needs.licence,
    )
    if made.fits:
        return made
    steps = _proposal(plan, data, needs, device, made.available or 0)
    changes = {key: value for change, _ in steps for key, value in change.items()}
    return replace(made, changes=changes, changed=sum(steps[-1][1].values()) if steps else 0, steps=steps)


def warnings(plan: Plan, data: Data, *, cpu: bool) -> list[str]:
    """Sentences if a run needs more disk than is free, or, on the CPU, more memory.

    Args:
        cpu: whether it computes there.
    """
    found = estimate(plan, data)
    if found is None:
        return []
    lines, most = [], sum(found.disk.values())
    if found.disk_free is not None and found.disk_free < most:
        lines.append(
            say(
                "this run may write up to {needed}, but {there} are free on the disk of {path}. Make room, or keep fewer checkpoints "
                "(save_total_limit).",
                needed=size(most),
                there=size(found.disk_free),
                path=plan.config.output_dir,
            )
        )
    if found.fits or not cpu:
        return lines
    text = say(
        "this run will need about {needed} of memory, but {there} are free; it may become very slow or be stopped by the system.",
        needed=size(found.needed),
        there=size(found.available or 0),
    )
    if not found.changes:
        return [*lines, text + say(" No milder settings were found that fit.")]
    return [*lines, text + say(" This would fit ({needed}): {arguments}", needed=size(found.changed), arguments=arguments(found.changes))]


# --- what is needed -----------------------------------------------------------------------------------------------------------


def _estimate_memory(plan: Plan, data: Data, config: RunConfig, keys: KeySet, device: str) -> MemoryEstimate | None:
    """The family's word for these settings."""
    if config.precision == "auto":
        config = config.model_copy(update={"precision": "fp32" if device == "cpu" else "bf16"})
    facts = {**data.examination.facts, "rows": len(data.records)}
    return plan.family.estimate_memory(config, keys.replaced(config), facts, device)


def _memory(config: RunConfig, needs: MemoryEstimate, device: str, exports: list[str]) -> dict[str, int]:
    """What is held at the worst moment of a run."""
    profile = PROFILES[config.optimizer]
    # Where an average is measured or saved, the trained values wait beside it.
    adapter = needs.trainable * ((16 if config.ema_decay else 12 if profile.averages else 8) + profile.state_bytes(config.lora_rank))
    fixed = _PROCESS if device == "cpu" else _CONTEXT
    training = {"base model": needs.weights, "adapter and optimizer": adapter, "activations": needs.activations + needs.transient}
    merges = {"export": needs.phases.get("export", 0)} if device == "cpu" and any(name in needs.files for name in exports) else {}
    apart = ("encoding",) if device == "cuda" else ()  # what learns comes to the card after it
    others = {name: round(peak + (0 if name in apart else adapter)) for name, peak in needs.phases.items() if name != "export"} | merges
    name, peak = max(others.items(), key=lambda pair: pair[1], default=("", 0))
    if peak > sum(training.values()):
        training = {name: peak}
    moving = sum(training.values()) if device == "cuda" else training.get("activations", peak)
    return {name: round(value) for name, value in {"programs": fixed, **training, "unusable": moving * _SLACK[device]}.items()}


def _disk(plan: Plan, needs: MemoryEstimate, planned: Schedule) -> dict[str, int]:
    """The files of a run: a checkpoint holds the adapter, its parameters, and the optimizer's figures."""
    config, adapter = plan.config, 4 * needs.trainable
    saves = planned.saved
    kept = min(saves, config.save_total_limit + 1)
    state = PROFILES[config.optimizer].state_bytes(config.lora_rank)
    each = 2 * adapter + round(needs.trainable * state) + (adapter if config.ema_decay else 0)
    found = {
        "checkpoints": kept * each,
        "adapter": adapter * (2 if config.lora_variant == "pissa" else 1),
        "exports": sum(needs.files.get(exporter.name, adapter) for exporter in plan.exporters),
        "saves": saves * adapter * sum(one.at_saves for one in plan.exporters) if config.export_at_saves else 0,
        "samples": needs.files.get("samples", 0) * (saves + 1),
        "cache": needs.files.get("cache", 0),
    }
    return {name: value for name, value in found.items() if value}


def _operations(plan: Plan, data: Data, needs: MemoryEstimate, planned: Schedule) -> float:
    """Of the training, with the held-out losses and the two passes that measure the speed beforehand."""
    config = plan.config
    per_step = min(config.batch_size * config.gradient_accumulation, max(1, len(data.learned())))
    looks = 1 + planned.saved
    forward = needs.flops / (3 if config.gradient_checkpointing else 2)
    return (planned.steps + 2) * per_step * needs.flops + looks * len(data.pick(True)) * forward


# --- what would fit -----------------------------------------------------------------------------------------------------------


def _proposal(plan: Plan, data: Data, needs: MemoryEstimate, device: str, available: int) -> list[tuple[dict[str, Any], Mapping[str, int]]]:
    """The changes that make it fit, the most harmless first, without those that are not needed, each with the memory it leads to; nothing
    if none do."""
    exports = [exporter.name for exporter in plan.exporters]

    def memory(changes: list[dict[str, Any]]) -> Mapping[str, int]:
        config, keys = with_changes(plan, _joined(changes))
        found = _estimate_memory(plan, data, config, keys, device)
        return _memory(config, found, device, exports) if found else {"": sys.maxsize}

    def needed(changes: list[dict[str, Any]]) -> int:
        return sum(memory(changes).values())

    taken: list[dict[str, Any]] = []
    least = needed([])
    waiting = list(_candidates(plan.config, needs, device))
    while least > available:
        # From the front each time: what saved nothing may do so by now, where another moment of the run is the worst one.
        for change in waiting:
            if (amount := needed([*taken, change])) <= 0.995 * least:
                taken, least = [*taken, change], amount
                waiting.remove(change)
                break
        else:
            return []
    for change in reversed(taken[:-1]):
        fewer = [other for other in taken if other is not change]
        if set(change) <= set(_joined(fewer)):
            continue  # a later step of the same kind stands for it
        if needed(fewer) <= available:
            taken = fewer
    last = {key: number for number, change in enumerate(taken) for key in change}  # where a key has its last word
    shown = [{key: value for key, value in change.items() if last[key] == number} for number, change in enumerate(taken)]
    shown = [change for change in shown if change]
    return [(change, memory(shown[: number + 1])) for number, change in enumerate(shown)]


def _joined(changes: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for change in changes for key, value in change.items()}


def _candidates(config: RunConfig, needs: MemoryEstimate, device: str) -> Iterator[dict[str, Any]]:
    """Changes that save memory, the most harmless first: the same result more slowly, less exact numbers, a smaller adapter, and what
    the plugin knows."""
    batch, accumulation = config.batch_size, config.gradient_accumulation
    while batch > 1:
        smaller = max(n for n in range(1, batch) if batch % n == 0)
        accumulation, batch = accumulation * batch // smaller, smaller
        yield {"batch_size": batch, "gradient_accumulation": accumulation}
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    present = config.precision if config.precision != "auto" else "fp32" if device == "cpu" else "bf16"
    for saving in needs.savings:
        yield dict(saving)
    if present in needs.precisions and not needs.savings:
        for precision in needs.precisions[list(needs.precisions).index(present) + 1 :]:
            yield {"precision": precision}
    if device == "cuda" and config.optimizer == "adamw":
        yield {"optimizer": "adamw_8bit"}
    rank, alpha = config.lora_rank, config.lora_alpha
    while rank >= 8 and config.init_from_adapter is None:
        rank //= 2
        if alpha is not None:
            alpha = max(1, alpha // 2)
        yield {"lora_rank": rank, **({"lora_alpha": alpha} if alpha is not None else {})}
    for key, value in needs.smaller:
        yield {key: value}


def with_changes(plan: Plan, changes: Mapping[str, Any]) -> tuple[RunConfig, KeySet]:
    """The plan's values with some of them exchanged, validated as a YAML's are."""
    keys = plan.keys
    for owner in list(keys):
        mine = {key: value for key, value in changes.items() if key in type(owner).model_fields}
        if mine:
            keys = keys.replaced(type(owner)(**{**owner.model_dump(), **mine}))
    return keys[RunConfig], keys


# --- in words -----------------------------------------------------------------------------------------------------------------


def size(amount: float) -> str:
    """``350 MB``, ``12.3 GB``."""
    return f"{amount / GB:.1f} GB" if amount >= 0.95 * GB else f"{amount / 2**20:.0f} MB"


def yaml_value(value: Any) -> str:
    """A value as it stands in a YAML file and after ``--set KEY=``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def arguments(changes: Mapping[str, Any]) -> str:
    """``--set batch_size=2 --set gradient_accumulation=2``."""
    return " ".join(f"--set {key}={yaml_value(value)}" for key, value in changes.items())


def _called(part: str) -> str:
    """A part of the memory, for people; a family's own phases have their own names."""
    known = {
        "programs": say("programs"),
        "base model": say("base model"),
        "adapter and optimizer": say("adapter and optimizer"),
        "activations": say("activations"),
        "unusable": say("unusable"),
        "encoding": say("encoding"),
        "drawing": say("drawing"),
        "export": say("export"),
    }
    return known.get(part, part)


def lines(fit: Estimate | None) -> list[str]:
    """The estimate for people."""
    if fit is None:
        return [say("  Memory:     cannot be estimated for this base model")]
    where = say("on this computer's CPU") if fit.device == "cpu" else say("on the GPU")
    parts = ", ".join(f"{_called(name)} {size(value)}" for name, value in fit.memory.items())
    there = say("unknown") if fit.available is None else size(fit.available)
    found = [
        say(
            "  Memory:     about {needed} {where} ({parts}); there are {there}",
            needed=size(fit.needed),
            where=where,
            parts=parts,
            there=there,
        )
    ]
    most = sum(fit.disk.values())
    disk = say("  Disk:       at most {needed}", needed=size(most))
    if fit.disk_free is not None:
        disk += say("; {free} are free", free=size(fit.disk_free)) + (say(", which is too little") if fit.disk_free < most else "")
    found.append(disk)
    found.append(
        say(
            "  Time:       very roughly {least} to {most} for {amount}, without the comparison at the end",
            least=duration(fit.seconds[0]),
            most=duration(fit.seconds[1]),
            amount=f"{fit.flops / 1e15:,.1f} PFLOP" if fit.flops >= 1e15 else f"{fit.flops / 1e12:.3g} TFLOP",
        )
    )
    found[1:1] = [f"    {sentence}" for sentence in fit.sums] if fit.device != "cpu" else []
    if fit.fits:
        return [*found, say("  It fits.")] if fit.available is not None else found
    if not fit.changes:
        return [*found, say("  It does not fit, and no milder settings were found that do. A smaller base model would.")]
    found.append(say("  It does not fit. This would ({needed}):", needed=size(fit.changed)))
    found += [*(f"    {key}: {yaml_value(value)}" for key, value in fit.changes.items()), f"    {arguments(fit.changes)}"]
    found.append(say("  One change after the other, those that cost least first:"))
    for change, memory in [({}, fit.memory), *fit.steps]:
        text = ", ".join(f"{key}: {yaml_value(value)}" for key, value in change.items()) or say("as it is")
        summed = " + ".join(f"{_called(name)} {size(value)}" for name, value in memory.items())
        found.append(f"    {text}: {summed} = {size(sum(memory.values()))}")
    return found
