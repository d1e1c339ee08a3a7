# SPDX-License-Identifier: Apache-2.0
"""What does not go together in an optimizer's keys: refused, or remarked on, with what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...messages import speaker
from ..explanations import plain
from . import arguments
from .profiles import PROFILES, missing

if TYPE_CHECKING:
    from ..keys import KeySet
    from ..schema import RunConfig

say = speaker(__name__)

_PAIRED = ("lora", "rslora", "dora", "pissa")  # the variants of an A and a B
_SHAPES = {
    "lr_scheduler_cycles": "cosine_with_restarts",
    "lr_scheduler_power": "polynomial",
    "lr_scheduler_decay": "warmup_stable_decay",
}


def refusals(config: RunConfig, keys: KeySet | None = None, training: bool = True) -> list[str]:
    """Everything for which a run cannot begin; every sentence begins with its key.

    Args:
        keys: of all owners; a field that is declared with ``json_schema_extra={"rate": True}`` is a learning rate of its own.
        training: whether something is to be trained, so that the optimizer's package must be there.
    """
    profile = PROFILES[config.optimizer]
    absent = missing(config.optimizer) if training else ""
    found = [absent] if absent else []
    found += arguments.problems(config.optimizer, config.optimizer_args, config.weight_decay)
    if config.optimizer == "schedule_free":
        if config.lr_scheduler not in ("constant", "constant_with_warmup"):
            found.append(
                say(
                    "lr_scheduler: optimizer: schedule_free averages its steps instead of letting the rate fall, and {name} lets it fall. "
                    "Write lr_scheduler: constant, or leave the line out.",
                    name=config.lr_scheduler,
                )
            )
        if config.ema_decay:
            found.append(
                say("ema_decay: optimizer: schedule_free keeps an average already, and saves that. Leave the line out, or write 0.")
            )
    if profile.finds_rate:
        found += _one_rate(config, keys)
    if config.lora_plus_ratio != 1 and config.lora_variant not in _PAIRED:
        found.append(
            say(
                "lora_plus_ratio: lora_variant: {variant} has no A and B that could differ. Leave the line out.",
                variant=config.lora_variant,
            )
        )
    return found


def _one_rate(config: RunConfig, keys: KeySet | None) -> list[str]:
    """What asks for a second rate of an optimizer that finds one for all."""
    found = []
    if config.lora_plus_ratio != 1:
        found.append(
            say(
                "lora_plus_ratio: optimizer: {optimizer} finds one rate for all parameters, so that B cannot have another one than A. "
                "Leave the line out, or choose adamw.",
                optimizer=config.optimizer,
            )
        )
    if config.lr_advice == "apply":
        found.append(
            say(
                "lr_advice: optimizer: {optimizer} finds the rate by itself: there is none to try next. Leave the line out.",
                optimizer=config.optimizer,
            )
        )
    for name, value in _own_rates(keys):
        if any(one not in (None, 0, config.learning_rate) for one in (value if isinstance(value, list) else [value])):
            found.append(
                say(
                    "{key}: optimizer: {optimizer} finds one rate for all parameters, and {key} is another one than learning_rate "
                    "({rate}). Write {key}: {rate}, or leave the line out.",
                    key=name,
                    optimizer=config.optimizer,
                    rate=plain(config.learning_rate),
                )
            )
    return found


def _own_rates(keys: KeySet | None) -> list[tuple[str, Any]]:
    return [
        (name, getattr(owner, name))
        for owner in keys or ()
        for name, info in type(owner).model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("rate")
    ]


def remarks(config: RunConfig, written: set[str]) -> list[str]:
    """What is allowed and seldom meant; every sentence begins with its key.

    Args:
        written: the keys that the config names.
    """
    found = []
    if PROFILES[config.optimizer].finds_rate:
        given = arguments.read(config.optimizer_args)[0]
        if config.learning_rate != 1:
            found.append(
                say(
                    "learning_rate: {optimizer} finds the rate by itself and multiplies it by this: 1 is meant, and this is {rate}. For "
                    "smaller or larger steps write optimizer_args: [d_coef=0.5] or [d_coef=2].",
                    optimizer=config.optimizer,
                    rate=plain(config.learning_rate),
                )
            )
        if config.warmup and not given.get("safeguard_warmup"):
            found.append(
                say(
                    "warmup: {optimizer} estimates its rate wrongly while learning_rate rises. Write warmup: 0, or "
                    "optimizer_args: [safeguard_warmup=True].",
                    optimizer=config.optimizer,
                )
            )
    for key, name in _SHAPES.items():
        if key in written and config.lr_scheduler != name and getattr(config, key) != type(config).model_fields[key].default:
            found.append(say("{key}: does nothing without lr_scheduler: {name}.", key=key, name=name))
    if config.lr_scheduler == "cosine_with_restarts" and config.lr_scheduler_cycles == 1:
        found.append(say("lr_scheduler: cosine_with_restarts with lr_scheduler_cycles: 1 has no restart: it is cosine."))
    return found
