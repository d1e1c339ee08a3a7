"""Puts a LoRA on a module, takes it off, merges it. ``peft_format`` knows its files, ``kernels.lora`` a faster forward pass of its layers.

Imports torch and peft when it is imported: load it inside the function that needs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..config.schema import RunConfig
from ..errors import ConfigError, RunError
from ..kernels import lora as lora_kernels
from ..kernels import program
from ..messages import speaker
from ..plugin_api.types import Adapter
from ..terminal import first_few
from . import exact_names
from .exact_names import misread
from .peft_format import differs, probe, read_peft, refuse, verify, write_peft
from .targets import match_layers, scanned_layers

__all__ = [
    "Lora",
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

# --- choosing the modules ----------------------------------------------------------------------------------------------------


def linear_names(model: nn.Module) -> list[str]:
    """The full names of the modules that a LoRA can sit on, without the output head.

    A layer that computes something of its own is none (a router that also returns its choice), nor one whose weights are read past its
    forward pass (Mamba's projection out, which peft refuses).
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    scanned = scanned_layers(getattr(getattr(model, "config", None), "model_type", None))
    return [
        name
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head and name.rpartition(".")[2] not in scanned
    ]


# x @ weight.T (+ bias) in other words, by the digest of its statements: Falcon's.
_AS_LINEAR = frozenset({"fe6484dafa540896"})


def _is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies by its weights and does nothing else."""
    kind = type(module)
    if kind in _conv1d():
        return True
    if not isinstance(module, nn.Linear):
        return False
    plain = kind.forward is nn.Linear.forward or kind.__module__.startswith("bitsandbytes.")
    return plain or program.digest(kind.forward) in _AS_LINEAR


def _conv1d() -> tuple[type[nn.Module], ...]:
    """GPT-2's transposed linear layer."""
    from transformers.pytorch_utils import Conv1D

    return (Conv1D,)


def find_targets(model: nn.Module, wanted: str | Sequence[str], among: Collection[str] | None = None) -> list[str]:
    """The full names of the modules that ``lora_target`` means, in the model's order; see ``match_layers``.

    Args:
        among: those that may be chosen; by default every linear layer.
    """
    return match_layers(wanted, [name for name in linear_names(model) if among is None or name in among])


def shortest_names(chosen: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The last parts of the names if those select exactly ``chosen`` among ``names``, all that could be meant; otherwise the full names.
    Sorted."""
    lasts = {name.rpartition(".")[2] for name in chosen}
    selected = [name for name in names if name.rpartition(".")[2] in lasts]
    return tuple(sorted(lasts)) if set(selected) == set(chosen) else tuple(sorted(chosen))


# --- putting on --------------------------------------------------------------------------------------------------------------


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

    def layers(self) -> Iterator[tuple[str, LoraLayer]]:
        """The adapted modules by full name."""
        for name, module in self.model.named_modules():
            if isinstance(module, LoraLayer):
                yield name, module

    def count(self) -> tuple[int, int]:
        """(trained, all) parameters of the model with the adapter on it. 4-bit weights are packed, two in a byte."""
        trained = total = 0
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
        rank, alpha = self.config.lora_rank, self.config.alpha
        pissa = bool(self.initial)
        tensors: dict[str, Tensor] = {}
        probes: dict[str, Tensor] = {}
        for name, layer in self.layers():
            a, b = _pair(layer)
            # rsLoRA scales by alpha / sqrt(rank); a reader that knows only alpha / rank must find the difference in B.
            b = b * (float(layer.scaling["default"]) * rank / alpha)
            delta = _delta(layer)
            if pissa:
                start_a, start_b = self.initial[f"{name}.lora_A.weight"], self.initial[f"{name}.lora_B.weight"]
                a, b = torch.cat([a, start_a], 0), torch.cat([b, -start_b], 1)
                delta = delta - float(layer.scaling["default"]) * start_b @ start_a
            tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = a.contiguous(), b.contiguous()
            if self.config.lora_variant == "dora":
                magnitude = layer.lora_magnitude_vector["default"].weight
                tensors[f"{name}.lora_magnitude_vector"] = magnitude.detach().float().cpu().flatten().contiguous()
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
            ranks=dict(self.ranks),
            parameters=self.parameters,
            facts=dict(facts or {}),
            files=dict(files or {}),
        )


def _pair(layer: LoraLayer) -> tuple[Tensor, Tensor]:
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return a.detach().float().cpu().clone(), b.detach().float().cpu().clone()


def _delta(layer: LoraLayer) -> Tensor:
    """The weight change as peft itself computes it: (out, in), float32, CPU."""
    delta: Tensor = layer.get_delta_weight("default").detach().float().cpu()
    return delta.T if getattr(layer, "fan_in_fan_out", False) else delta.flatten(1)


def inject(
    model: nn.Module,
    config: RunConfig,
    given: Adapter | None = None,
    *,
    modules: Mapping[str, int] | None = None,
    among: Collection[str] | None = None,
    rates: Mapping[str, float] | None = None,
) -> Lora:
    """Freezes ``model`` and puts a fresh LoRA on it, or ``given``. Its weights are float32 whatever the base's precision is.

    Args:
        modules: the modules and their ranks, from a family that chooses them itself; convolutions too. By default ``lora_target`` decides.
        among: what ``lora_target`` chooses from; by default every linear layer.
        rates: see ``Lora.rates``.

    Raises:
        ConfigError: if no module matches, or ``given`` does not fit the config.
    """
    chosen = find_targets(model, config.lora_target, among) if modules is None else list(modules)
    ranks = {name: rank for name, rank in (modules or {}).items() if rank != config.lora_rank}
    parameters = exact_names.taken_for_experts(model, chosen)
    # A reader compares a short name with every module's, linear or not.
    targets = tuple(sorted(chosen)) if parameters else shortest_names(chosen, [name for name, _ in model.named_modules()])
    if given is not None:
        _check_fit(given, config, chosen, ranks)
    variant = config.lora_variant
    if parameters and variant == "dora":
        raise ConfigError(
            say(
                "lora_variant: dora cannot be read again on {names} of such a base, whose experts are fused. Set lora_variant: lora, or "
                "lora_target: attention.",
                names=", ".join(dict.fromkeys(name.rpartition(".")[2] for name in parameters)),
            )
        )
    # 16 iterations of the fast decomposition are as good as the exact one for training and take seconds, not minutes, on a 7B base.
    start: bool | str = (
        ("pissa" if max(p.numel() for p in model.parameters()) < 2**22 else "pissa_niter_16") if variant == "pissa" else True
    )
    lora_config = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.alpha,
        lora_dropout=config.lora_dropout,
        target_modules=chosen,
        **_patterns(ranks, config.lora_rank, config.alpha),
        bias="none",
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
        init_lora_weights=start,
    )
    exact_names.inject(lora_config, model, "default")
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


def _patterns(ranks: Mapping[str, int], rank: int, alpha: float) -> dict[str, Any]:
    """peft's own way of saying ``Adapter.ranks``: the scale stays alpha / rank."""
    return {
        "rank_pattern": {f"^{re.escape(name)}": own for name, own in ranks.items()},
        "alpha_pattern": {f"^{re.escape(name)}": own * alpha / rank for name, own in ranks.items()},
    }


def _check_fit(given: Adapter, config: RunConfig, chosen: Sequence[str], ranks: Mapping[str, int]) -> None:
    problems = []
    if given.dora or config.lora_variant in ("dora", "pissa"):
        problems.append(say("init_from_adapter: continuing works with lora_variant lora and rslora only."))
    if given.rank != config.lora_rank:
        problems.append(
            say(
                "init_from_adapter: that adapter has rank {theirs}; this config says {ours}. Set lora_rank: {theirs}.",
                theirs=given.rank,
                ours=config.lora_rank,
            )
        )
    if set(given.modules) != set(chosen) or dict(given.ranks) != dict(ranks):
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


# --- using several -----------------------------------------------------------------------------------------------------------


def load_adapters(model: nn.Module, adapters: Mapping[str, Adapter]) -> None:
    """Loads trained adapters beside each other on ``model``; ``set_adapter`` switches between them."""
    for name, adapter in adapters.items():
        config = peft.LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            target_modules=list(adapter.modules),
            **_patterns(adapter.ranks, adapter.rank, adapter.alpha),
            use_dora=adapter.dora,
            inference_mode=True,
        )
        try:
            exact_names.inject(config, model, name)
            exact_names.fill(model, adapter.tensors, name)
        except (RuntimeError, ValueError) as error:  # another width, or layers that the base has not
            raise RunError(say("the adapter does not fit the base model: {names}", names=" ".join(str(error).split("\n")[:2]))) from None


def set_adapter(model: nn.Module, adapter: str | Mapping[str, float] | None) -> None:
    """Makes loaded adapters the active ones.

    Args:
        adapter: its name; or several names, each with the strength that multiplies what it does; None: the base alone.
    """
    # DoRA's magnitudes have no strength that peft could set: with 0 the layer would still not be the base's.
    wanted = {adapter: 1.0} if isinstance(adapter, str) else {name: strength for name, strength in (adapter or {}).items() if strength}
    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        mine = [name for name in wanted if name in module.scaling]
        module.enable_adapters(bool(mine))
        if mine:
            module.set_adapter(mine, inference_mode=True)
            for name in mine:
                module.set_scale(name, wanted[name])


def unload_adapter(model: nn.Module, name: str) -> None:
    """Takes a loaded adapter off ``model`` and out of memory; the others stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft says which adapter it makes active instead
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.delete_adapter(name)
    configs: Any = getattr(model, "peft_config", None) or {}
    configs.pop(name, None)


def merge(model: nn.Module, adapter: Adapter) -> None:
    """Adds the adapter to the weights of ``model`` (in place) and checks the change of every module against the probes.

    Raises:
        ExportError: if a merged weight is not what was trained.
    """
    load_adapters(model, {"merged": adapter})
    wrong = []
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, LoraLayer):
            continue
        delta = layer.get_delta_weight("merged").detach().float().cpu()
        delta = delta.T if getattr(layer, "fan_in_fan_out", False) else delta.flatten(1)
        if differs(adapter, name, delta):
            wrong.append(name)
        layer.merge(safe_merge=True, adapter_names=["merged"])
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
    refuse(wrong)
    with contextlib.suppress(AttributeError):  # a merged model is a plain one again
        del model.peft_config
