# SPDX-License-Identifier: Apache-2.0
"""The optimizer that a config names, over groups of parameters with learning rates of their own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..config.optimizers import arguments
from ..config.optimizers.profiles import PROFILES, missing
from ..errors import ConfigError
from ..messages import speaker, why

if TYPE_CHECKING:
    import torch

    from ..config.schema import RunConfig

say = speaker(__name__)


def parameter_groups(config: RunConfig, parameters: Mapping[str, Any], lora: Any) -> list[dict[str, Any]]:
    """The parameters by learning rate, in their order; a rate that is not ``learning_rate`` is named.

    LoRA+ (Hayou, Ghosh and Yu 2024): B, which starts at zero, learns at a multiple of A's rate.

    Args:
        parameters: by full name, as peft names them.
        lora: says the rate of each, see ``Lora.rate``.

    Raises:
        ConfigError: if there are two rates, and the optimizer finds one for all.
    """
    groups: dict[float, dict[str, Any]] = {}
    for name, parameter in parameters.items():
        rate = lora.rate(name)
        plus = config.lora_plus_ratio if ".lora_B." in name or ".lora_embedding_B" in name else 1.0
        label = " ".join(([] if rate == config.learning_rate else [name.partition(".")[0]]) + (["lora_B"] if plus != 1 else []))
        groups.setdefault(rate * plus, {"params": [], "lr": rate * plus, "label": label})["params"].append(parameter)
    if len(groups) > 1 and PROFILES[config.optimizer].finds_rate:
        rates = ", ".join(f"{rate:g}" for rate in groups)
        raise ConfigError(
            say(
                "optimizer: {optimizer} finds one learning rate for all parameters; several are set: {rates}.",
                optimizer=config.optimizer,
                rates=rates,
            )
        )
    return list(groups.values())


def make_optimizer(config: RunConfig, parameters: Sequence[Any]) -> torch.optim.Optimizer:
    """The optimizer that the config names, over the adapter's parameters, or over groups of them with learning rates of their own.

    Raises:
        ConfigError: if its package is missing, or it does not take ``optimizer_args``.
    """
    profile = PROFILES[config.optimizer]
    problems = arguments.problems(config.optimizer, config.optimizer_args, config.weight_decay)
    if problems:
        raise ConfigError(problems)
    given = {"weight_decay": config.weight_decay, **profile.fixed, **arguments.read(config.optimizer_args)[0]}
    if config.optimizer == "adamw" and not {"fused", "foreach"} & set(given):
        inside = [p for group in parameters for p in (group["params"] if isinstance(group, dict) else [group])]
        given["fused"] = {p.device.type for p in inside} <= {"cpu", "cuda"}  # one pass over the weights instead of ten
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Prodigy prints
            return _kind(config.optimizer)(parameters, lr=config.learning_rate, **given)  # type: ignore[no-any-return]
    except ImportError as error:
        raise ConfigError(missing(config.optimizer) or f"optimizer: {config.optimizer}: {error}") from None
    except (ValueError, TypeError, AssertionError) as error:
        written = ", ".join(config.optimizer_args) or config.optimizer
        reason = why(error)
        raise ConfigError(
            say("optimizer_args: {optimizer} does not take {args}: {error}", optimizer=config.optimizer, args=written, error=reason)
        ) from None


def _kind(optimizer: str) -> Any:
    """The class, or a function that is called like one."""
    import torch

    if optimizer == "adamw_8bit":
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit
    if optimizer == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor
    if optimizer == "prodigy":
        from prodigyopt import Prodigy

        return Prodigy
    if optimizer == "schedule_free":
        from schedulefree import AdamWScheduleFree

        return AdamWScheduleFree
    if optimizer == "lion":
        from lion_pytorch import Lion

        return Lion
    if optimizer == "came":
        from came_pytorch import CAME

        return CAME
    if optimizer == "muon":
        from .muon import make_muon

        return make_muon
    return torch.optim.AdamW


def averages(config: RunConfig) -> bool:
    """Whether the optimizer measures and saves at another point than the one that it trains at; its ``eval`` and ``train`` move there."""
    return PROFILES[config.optimizer].averages


def step_rate(optimizer: Any) -> float:
    """The rate that the next step is made with: ``learning_rate`` by the schedule, times what Prodigy has found by now (its d)."""
    groups = optimizer.param_groups
    group = next((one for one in groups if not one.get("label")), groups[0])
    return float(group["lr"]) * float(group.get("d", 1.0))


def named_rates(optimizer: Any) -> dict[str, float]:
    """The rates that are not ``learning_rate``'s, by what their parameters are."""
    return {str(group["label"]): float(group["lr"]) for group in optimizer.param_groups if group.get("label")}
