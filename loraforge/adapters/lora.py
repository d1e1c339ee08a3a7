# SPDX-License-Identifier: Apache-2.0
"""Puts an adapter on a module to be trained, and takes it off: a LoRA or one of its relatives, see ``kinds``. ``mounting`` loads trained
ones, ``peft_format`` knows their files, ``kernels.lora`` a faster forward pass of a LoRA's layers.

Imports torch and peft when it is imported: load it inside the function that needs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..config.block_ranks import apply_block_ranks
from ..config.schema import RunConfig
from ..errors import ConfigError
from ..kernels import lora as lora_kernels
from ..messages import speaker
from ..plugin_api.adapter import Adapter
from ..terminal import first_few
from . import exact_names
from .exact_names import misread
from .kinds import ADAPTED, adapted_layers, factors, options_of, peft_config, weight_change
from .linear_layers import find_targets, linear_names, shortest_names
from .mounting import load_adapters, merge, set_adapter, unload_adapter
from .peft_format import differs, probe, read_peft, refuse, verify, write_peft

__all__ = [
    "ADAPTED",
    "Lora",
    "adapted_layers",
    "differs",
    "fill",
    "find_targets",
    "inject",
    "linear_names",
    "load_adapters",
    "merge",
    "misread",
    "probe",
    "read_peft",
    "refuse",
    "set_adapter",
    "shortest_names",
    "unload_adapter",
    "verify",
    "write_peft",
]

say = speaker(__name__)


@dataclasses.dataclass
class Lora:
    """A LoRA that sits on ``model`` and can be trained.

    Attributes:
        targets: see ``Adapter.targets``.
        initial: PiSSA's starting A and B, which the base's weights are reduced by; otherwise empty.
        ranks: see ``Adapter.ranks``.
        parameters: see ``Adapter.parameters``.
        rates: learning rates of their own, by the beginning of the modules' names; others have ``learning_rate``.
        replaced: how many layers compute in another way than peft's, see ``kernels.lora``.
    """

    model: nn.Module
    config: RunConfig
    targets: tuple[str, ...]
    initial: dict[str, Tensor]
    ranks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    replaced: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def layers(self) -> Iterator[tuple[str, Any]]:
        """The adapted modules by full name: peft's layers, each with an adapter called ``default``."""
        yield from adapted_layers(self.model, (self.config.adapter_kind,))

    def count(self) -> tuple[int, int]:
        """(trained, all) parameters of the model with the adapter on it. 4-bit weights are packed, two in a byte; layers that store
        their weights in a way of their own say how many those are."""
        trained, total = 0, sum(int(getattr(module, "stored_parameters", 0)) for module in self.model.modules())
        for parameter in self.model.parameters():
            packed = 2 * parameter.element_size() if type(parameter).__name__ == "Params4bit" else 1
            total += parameter.numel() * packed
            trained += parameter.numel() if parameter.requires_grad else 0
        return trained, total

    def rate(self, name: str) -> float:
        """The learning rate of the parameter called ``name``."""
        return next((rate for start, rate in self.rates.items() if name.startswith(start)), self.config.learning_rate)

    def adapter(
        self, base_folder: str | None = None, facts: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
    ) -> Adapter:
        """What has been learned so far, detached: every scale folded, with probes taken from the live layers."""
        rank, alpha, kind = self.config.lora_rank, self.config.alpha, self.config.adapter_kind
        pissa = bool(self.initial)
        tensors: dict[str, Tensor] = {}
        probes: dict[str, Tensor] = {}
        for name, layer in self.layers():
            made, delta = self._pairs(name, layer) if kind == "lora" else _factors(name, layer)
            tensors |= made
            probes[name] = probe(name, delta)
        factor = 2 if pissa else 1  # the starting pair stands beside the trained one
        return Adapter(
            tensors=dict(sorted(tensors.items())),
            rank=factor * rank,
            alpha=factor * alpha,
            targets=self.targets,
            probes=probes,
            base_model=self.config.base_model,
            base_folder=base_folder,
            dora=self.config.lora_variant == "dora",
            ranks={name: factor * own for name, own in self.ranks.items()},
            parameters=self.parameters,
            facts=dict(facts or {}),
            files=dict(files or {}),
            kind=kind,
            options=options_of(self.config),
        )

    def _pairs(self, name: str, layer: LoraLayer) -> tuple[dict[str, Tensor], Tensor]:
        """A LoRA's tensors of one module with every scale but alpha / rank folded in, and what it changes the weight by."""
        a, b = _pair(layer)
        # rsLoRA scales by alpha / sqrt(rank); a reader that knows only alpha / rank must find the difference in B.
        b = b * (float(layer.scaling["default"]) * self.config.lora_rank / self.config.alpha)
        delta = weight_change(layer, "default")
        if self.initial:
            start_a, start_b = self.initial[f"{name}.lora_A.weight"], self.initial[f"{name}.lora_B.weight"]
            a, b = torch.cat([a, start_a], 0), torch.cat([b, -start_b], 1)
            delta = delta - float(layer.scaling["default"]) * start_b @ start_a
        tensors = {f"{name}.lora_A.weight": a.contiguous(), f"{name}.lora_B.weight": b.contiguous()}
        if self.config.lora_variant == "dora":
            magnitude = layer.lora_magnitude_vector["default"].weight
            tensors[f"{name}.lora_magnitude_vector"] = magnitude.detach().float().cpu().flatten().contiguous()
        return tensors, delta


def _pair(layer: LoraLayer) -> tuple[Tensor, Tensor]:
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return a.detach().float().cpu().clone(), b.detach().float().cpu().clone()


def _factors(name: str, layer: Any) -> tuple[dict[str, Tensor], Tensor]:
    """LoKr's or LoHa's tensors of one module, and what they change the weight by; their scale is alpha / rank as it is."""
    found = {f"{name}.{part}": value.detach().float().cpu().clone() for part, value in factors(layer, "default").items()}
    return found, weight_change(layer, "default")


def inject(
    model: nn.Module,
    config: RunConfig,
    given: Adapter | None = None,
    *,
    modules: Mapping[str, int] | None = None,
    among: Collection[str] | None = None,
    rates: Mapping[str, float] | None = None,
) -> Lora:
    """Freezes ``model`` and puts a fresh adapter on it, or ``given``. Its weights are float32 whatever the base's precision is.

    Args:
        modules: the modules and their ranks, from a family that chooses them itself; convolutions too. By default ``lora_target`` decides.
            ``block_ranks`` changes both.
        among: what ``lora_target`` chooses from; by default every linear layer.
        rates: see ``Lora.rates``.

    Raises:
        ConfigError: if no module matches, or ``given`` does not fit the config.
    """
    found = dict.fromkeys(find_targets(model, config.lora_target, among), config.lora_rank) if modules is None else dict(modules)
    found = apply_block_ranks(found, config.block_ranks)
    chosen = list(found)
    ranks = {name: rank for name, rank in found.items() if rank != config.lora_rank}
    variant, kind = config.lora_variant, config.adapter_kind
    _require_layers(model, chosen, config)
    # peft renames experts for LoRA alone.
    parameters = exact_names.taken_for_experts(model, chosen) if kind == "lora" else ()
    # A reader compares a short name with every module's, linear or not.
    targets = tuple(sorted(chosen)) if parameters else shortest_names(chosen, [name for name, _ in model.named_modules()])
    if given is not None:
        _check_fit(given, config, chosen, ranks)
    if parameters and variant == "dora":
        raise ConfigError(
            say(
                "lora_variant: dora cannot be read again on {names} of such a base, whose experts are fused. Set lora_variant: lora, or "
                "lora_target: attention.",
                names=", ".join(dict.fromkeys(name.rpartition(".")[2] for name in parameters)),
            )
        )
    adapter_config = peft_config(
        kind, (config.lora_rank, config.alpha), chosen, ranks, options_of(config), config.lora_dropout, **_lora_settings(model, config)
    )
    exact_names.inject(adapter_config, model, "default")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    replaced = {say("LoRA layers"): lora_kernels.replace(model)} if config.kernels == "auto" else {}
    lora = Lora(model, config, targets, {}, ranks, parameters, rates or {}, replaced)
    if variant == "pissa":
        for name, layer in lora.layers():
            lora.initial[f"{name}.lora_A.weight"], lora.initial[f"{name}.lora_B.weight"] = _pair(layer)
    if given is not None:
        fill(lora, given)
    return lora


def _lora_settings(model: nn.Module, config: RunConfig) -> dict[str, Any]:
    """What the variants of a plain LoRA need of peft."""
    variant = config.lora_variant
    if config.adapter_kind != "lora":
        return {}
    # 16 iterations of the fast decomposition are as good as the exact one for training and take seconds, not minutes, on a 7B base.
    start: bool | str = (
        ("pissa" if max(p.numel() for p in model.parameters()) < 2**22 else "pissa_niter_16") if variant == "pissa" else True
    )
    return {"bias": "none", "use_rslora": variant == "rslora", "use_dora": variant == "dora", "init_lora_weights": start}


def _require_layers(model: nn.Module, chosen: Sequence[str], config: RunConfig) -> None:
    """LoKr and LoHa need the weight itself, (out, in), in numbers.

    Raises:
        ConfigError: naming the layers that hold it in another way.
    """
    if config.adapter_kind == "lora":
        return
    other = [name for name in chosen if not _is_plain(model.get_submodule(name))]
    if other:
        raise ConfigError(
            say(
                "lora_variant: {variant} works on plain linear layers and convolutions; this base has others: {names}. Use "
                "lora_variant: lora.",
                variant=config.lora_variant,
                names=first_few(other, 3),
            )
        )


def _is_plain(module: nn.Module) -> bool:
    weight: Any = getattr(module, "weight", None)
    return isinstance(module, nn.Linear | nn.Conv2d) and isinstance(weight, Tensor) and weight.is_floating_point()


def _check_fit(given: Adapter, config: RunConfig, chosen: Sequence[str], ranks: Mapping[str, int]) -> None:
    problems = []
    if given.dora or config.lora_variant not in ("lora", "rslora") or given.kind != "lora":
        problems.append(say("init_from_adapter: continuing works with lora_variant lora and rslora only."))
    if given.rank != config.lora_rank:
        problems.append(
            say(
                "init_from_adapter: that adapter has rank {theirs}; this config says {ours}. Set lora_rank: {theirs}.",
                theirs=given.rank,
                ours=config.lora_rank,
            )
        )
    if given.kind == "lora" and set(given.modules) == set(chosen) and dict(given.ranks) != dict(ranks):
        other = sorted(name for name in chosen if given.ranks.get(name) != ranks.get(name))
        problems.append(
            say(
                "init_from_adapter: that adapter has other ranks on {n} layers: {names}. Set block_ranks as in its run.",
                n=len(other),
                names=first_few([f"{name} ({given.ranks.get(name, given.rank)})" for name in other], 3),
            )
        )
    elif set(given.modules) != set(chosen):
        problems.append(
            say("init_from_adapter: that adapter sits on other layers. Set lora_target: [{theirs}].", theirs=", ".join(given.targets))
        )
    if problems:
        raise ConfigError(problems)


def fill(lora: Lora, given: Adapter) -> None:
    """Puts the weights of ``given`` in place of the fresh ones; a layer that it has nothing for stays fresh.

    Raises:
        ConfigError: if they belong to a base of other widths.
    """
    parts = [
        (f"{name}.{part}.weight", getattr(layer, part)["default"].weight) for name, layer in lora.layers() for part in ("lora_A", "lora_B")
    ]
    other = [name for name, weight in parts if name in given.tensors and given.tensors[name].shape != weight.shape]
    if other:
        raise ConfigError(
            say(
                "init_from_adapter: that adapter was made for another base model; its layers have other widths: {names}",
                names=first_few(other, 3),
            )
        )
    for name, layer in lora.layers():
        if f"{name}.lora_A.weight" not in given.tensors:
            continue
        a, b = given.tensors[f"{name}.lora_A.weight"], given.tensors[f"{name}.lora_B.weight"]
        scale = given.alpha / given.rank / float(layer.scaling["default"])
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.copy_(b * scale)
