# SPDX-License-Identifier: Apache-2.0
"""Remarks on values that are allowed and seldom work."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import cast

from ..errors import ConfigError
from ..messages import speaker
from .explanations import plain
from .optimizers.profiles import PROFILES, usual_rates
from .optimizers.rules import remarks as optimizer_remarks
from .schema import KeySet, RunConfig
from .yaml_reader import Source

say = speaker(__name__)


def advice(
    keys: KeySet,
    source: Source,
    own: Mapping[str, tuple[float, float]] | None = None,
    task: Mapping[str, tuple[float, float, str]] | None = None,
) -> list[str]:
    """Remarks on values that are allowed but outside of the range that usually works.

    Args:
        own: the ranges that the base has of its own.
        task: those of the task, each with the reason.
    """
    remarks = []
    for owner in keys:
        for name, info in type(owner).model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            value = getattr(owner, name)
            switches = extra.get("needs", [])
            needed = [str(one) for one in (switches if isinstance(switches, list) else [switches])]
            idle = all(getattr(owner, one) == type(owner).model_fields[one].default for one in needed)
            if needed and name in source.values and value and value != info.default and idle:  # 0 asks for nothing
                where, keys_needed = source.values[name].where, say(" or ").join(needed)
                remarks.append(say("{where}: {key} does nothing here without {needed}.", where=where, key=name, needed=keys_needed))
            if "usual" not in extra:
                continue
            for_base = (own or {}).get(name)
            for_task = (task or {}).get(name)
            low, high = for_base or (for_task or cast(list[float], extra["usual"]))[:2]
            if isinstance(owner, RunConfig) and name == "learning_rate":
                if PROFILES[owner.optimizer].finds_rate:
                    continue  # see the optimizer's remarks
                low, high = usual_rates(owner.optimizer, (low, high))
            if value is None or low <= value <= high:
                continue
            told = {
                "where": source.values[name].where if name in source.values else str(source.path),
                "key": name,
                "value": plain(value),
                "low": plain(low),
                "high": plain(high),
            }
            if for_base is not None:
                remarks.append(say("{where}: {key} is {value}; this base model wants {low} to {high}.", **told) + _of(owner, name))
            else:
                why = say(for_task[2] if for_task else str(extra.get("why", "")))
                usual = say("{where}: {key} is {value}; usual is {low} to {high} ({why}).", **told, why=why)
                remarks.append(usual + _of(owner, name))
    for remark in optimizer_remarks(keys[RunConfig], set(source.values)):
        begins = re.match(r"\w+", remark)
        written = source.values.get(begins[0]) if begins is not None else None
        remarks.append(f"{written.where if written else source.path}: {remark}")
    return remarks + _constant_advice(keys[RunConfig], source)


def _of(owner: object, name: str) -> str:
    """Whose range it is, where an optimizer has another one than AdamW, with a leading space; or nothing."""
    if not isinstance(owner, RunConfig) or name != "learning_rate" or PROFILES[owner.optimizer].rates == (1.0, 1.0):
        return ""
    return say(" That is for {optimizer}: AdamW's rates do not suit it.", optimizer=owner.optimizer)


def _constant_advice(config: RunConfig, source: Source) -> list[str]:
    """A remark on a warm-up beside ``constant``, which has none in transformers, sd-scripts and those built on them."""
    written = source.values.get("lr_scheduler")
    if written is None or config.lr_scheduler != "constant" or not config.warmup:
        return []
    if "warmup" not in source.values and not written.written:
        return []
    return [
        say(
            "{where}: lr_scheduler is constant, and the rate still rises first here (warmup: {warmup}); other programs leave the warm-up "
            "out with constant. To train as there, write warmup: 0.",
            where=written.where,
            warmup=plain(config.warmup),
        )
    ]


def steps_advice(config: RunConfig, places: Mapping[str, str], names: Mapping[str, str], steps: int, per_epoch: int) -> list[str]:
    """A remark on ``max_steps`` that the epochs do not reach.

    Args:
        places: where keys are written.
        names: what another program calls them, where they were written so.
        steps: how many the run has.
        per_epoch: how many one pass has.

    Raises:
        ConfigError: where the name that was written means exactly so many steps in its own program, and nothing was said of epochs.
    """
    wanted = config.max_steps
    if wanted is None or steps >= wanted:
        return []
    needed = math.ceil(wanted / per_epoch)
    where = places.get("max_steps", "max_steps")
    if names.get("max_steps") and "epochs" not in places:
        raise ConfigError(
            say(
                "{where}: {name}: {wanted} makes exactly {wanted} steps in its own program; here the run would end after {steps}, "
                "the steps of {epochs} epochs. Write epochs: {needed} beside max_steps: {wanted}.",
                where=where,
                name=names["max_steps"],
                wanted=wanted,
                steps=steps,
                epochs=plain(config.epochs),
                needed=needed,
            )
        )
    return [
        say(
            "{where}: max_steps is {wanted}, and the run ends after {steps} steps: epochs is {epochs}. For {wanted} steps write "
            "epochs: {needed}.",
            where=where,
            wanted=wanted,
            steps=steps,
            epochs=plain(config.epochs),
            needed=needed,
        )
    ]


def warmup_advice(warmup: float, where: str, steps: int) -> list[str]:
    """A remark on a warm-up that leaves less than half of the run at the full rate.

    Args:
        where: where ``warmup`` is written.
        steps: how many the run has.
    """
    warming = warmup if warmup >= 1 else warmup * steps
    if warming * 2 <= steps:
        return []
    return [
        say(
            "{where}: warmup is {value}, and the run has {steps} steps: the full learning_rate comes late or never. Usual is 0.03.",
            where=where,
            value=plain(warmup),
            steps=steps,
        )
    ]
