"""Remarks on values that are allowed and seldom work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ..messages import speaker
from .explanations import plain
from .schema import KeySet
from .yaml_reader import Source

say = speaker(__name__)


def advice(keys: KeySet, source: Source, own: Mapping[str, tuple[float, float]] | None = None) -> list[str]:
    """Remarks on values that are allowed but outside of the range that usually works.

    Args:
        own: the ranges that the base has of its own.
    """
    remarks = []
    for owner in keys:
        for name, info in type(owner).model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            value = getattr(owner, name)
            needed = str(extra.get("needs", ""))
            if needed and name in source.values and value != info.default and not getattr(owner, needed):
                where = source.values[name].where
                remarks.append(say("{where}: {key} does nothing here without {needed}.", where=where, key=name, needed=needed))
            if "usual" not in extra:
                continue
            for_base = (own or {}).get(name)
            low, high = for_base or cast(list[float], extra["usual"])
            if value is None or low <= value <= high:
                continue
            where = source.values[name].where if name in source.values else str(source.path)
            if for_base is not None:
                remarks.append(
                    say(
                        "{where}: {key} is {value}; this base model wants {low} to {high}.",
                        where=where,
                        key=name,
                        value=plain(value),
                        low=plain(low),
                        high=plain(high),
                    )
                )
                continue
            remarks.append(
                say(
                    "{where}: {key} is {value}; usual is {low} to {high} ({why}).",
                    where=where,
                    key=name,
                    value=plain(value),
                    low=plain(low),
                    high=plain(high),
                    why=say(str(extra.get("why", ""))),
                )
            )
    return remarks


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
