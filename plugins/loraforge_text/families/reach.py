# SPDX-License-Identifier: Apache-2.0
"""Which linear layers text passes through on its way to the next token.

A base may hold more than that: the tower that sees pictures, the attention to an encoder that is not there, an indexer that only chooses,
projections whose weights a scan reads past the layer. A LoRA there gets no gradient, stays zero, and would stand in every export. What is
reached is read from the graph that torch keeps of one short text, whatever the layers are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, ModelError, speaker

from . import limits

if TYPE_CHECKING:
    import torch

say = speaker(__name__)

_TOKENS = 8


@dataclass(frozen=True)
class Places:
    """Where a LoRA may sit.

    Attributes:
        reached: the full names of the linear layers that text passes through.
        notes: what of the base stays as it is though one might expect otherwise, one sentence each.
    """

    reached: tuple[str, ...]
    notes: tuple[str, ...]


def choose(model: Any, target: str | Sequence[str]) -> Places:
    """What ``lora_target`` may choose from in ``model``.

    Raises:
        ConfigError: if it means layers that text does not pass through, and nothing else.
        ModelError: see ``reached_layers``.
    """
    from loraforge.adapters import lora

    reached = reached_layers(model)
    odd = lora.misread(model, reached)
    reached = [name for name in reached if name not in odd]
    wanted = named_layers(model, target)
    left = [name for name in wanted if name not in {*reached, *odd}]
    if not set(wanted) & {*reached, *odd}:
        raise ConfigError(
            say("lora_target: text does not pass through {names} in this base; a LoRA there would learn nothing.", names=_blocks(left))
        )
    notes = []
    if lost := [name for name in wanted if name in odd]:
        if len(lost) == len(wanted):
            raise ConfigError(say("lora_target: peft cannot read a LoRA on {names} of this base again.", names=_blocks(lost)))
        notes.append(
            say("{n} linear layers stay as they are, as peft cannot read a LoRA on them again: {names}", n=len(lost), names=_blocks(lost))
        )
    if left:
        notes.append(
            say(
                "{n} linear layers that text does not pass through stay as they are, as a LoRA there would learn nothing: {names}",
                n=len(left),
                names=_blocks(left),
            )
        )
    if target == "all-linear" and (fused := fused_experts(model)):
        share = sum(p.numel() for _, p in fused) / sum(p.numel() for p in model.parameters())
        notes.append(
            say(
                "the routed experts of this base are fused weights, no layers that a LoRA could sit on; they stay as they are "
                "({share:.0%} of the base). The LoRA is on the layers beside them.",
                share=share,
            )
        )
    return Places(tuple(reached), tuple(notes))


def named_layers(model: Any, target: str | Sequence[str]) -> list[str]:
    """The full names of the linear layers that ``lora_target`` names, whether or not text passes through them. Needs no numbers.

    Raises:
        ConfigError: if there is none, or if fused experts are named.
    """
    from loraforge.adapters import lora

    try:
        return lora.find_targets(model, target)
    except ConfigError as error:
        raise ConfigError([*error.problems, *_fused_among(model, target)]) from None


def fused_experts(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """The weights of ``model`` that hold several matrices: one for each expert."""
    return [
        (f"{name}.{own}" if name else own, parameter)
        for name, module in model.named_modules()
        if not type(module).__module__.startswith("torch.")
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3
    ]


def _fused_among(model: Any, target: str | Sequence[str]) -> Iterator[str]:
    """Says of a ``lora_target`` that it names fused experts, if it does."""
    fused = {name.rpartition(".")[2] for name, _ in fused_experts(model)}
    named = [part.strip().rpartition(".")[2] for part in (target.split(",") if isinstance(target, str) else target)]
    if found := [name for name in dict.fromkeys(named) if name in {*fused, "experts"}] if fused else []:
        yield say(
            "lora_target: '{names}' are the routed experts of this base, fused weights and no layers that a LoRA could sit on. Leave them "
            "out.",
            names="', '".join(found),
        )


def _blocks(names: Sequence[str]) -> str:
    """The names with a star for every number, each once."""
    kinds = list(dict.fromkeys(re.sub(r"\b\d+\b", "*", name) for name in names))
    return ", ".join(kinds[:6]) + (" ..." if len(kinds) > 6 else "")


def reached_layers(model: Any) -> list[str]:
    """The full names of the linear layers of ``model`` that a gradient of its logits reaches, in its order.

    An expert that these few tokens were not sent to counts as reached where another of the same kind is.

    Raises:
        ModelError: if the model cannot read a short text.
    """
    import torch

    from loraforge.adapters import lora

    names = lora.linear_names(model)
    tags: dict[str, torch.Tensor] = {}
    table = model.get_input_embeddings()
    hooks = [model.get_submodule(name).register_forward_hook(_tagging(tags, name)) for name in names]
    hooks.append(table.register_forward_hook(_tagging(tags, "", whole=True)))
    ids = torch.arange(3, 3 + _TOKENS, device=table.weight.device)[None] % len(table.weight)
    training = model.training
    try:
        with torch.enable_grad():
            logits = model.eval()(input_ids=ids, use_cache=False).logits
    except Exception as error:  # each architecture has its own way
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(say("transformers cannot compute a short text with this base: {error}", error=reason)) from None
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if _sees_ahead(logits, tags.get("")):
        raise ModelError(limits.both_ways(model.config.model_type))
    leaves = {id(leaf) for leaf in _leaves(logits)}
    kinds = {_kind(name) for name in names if id(tags.get(name)) in leaves}
    return [name for name in names if _kind(name) in kinds]


def _sees_ahead(logits: torch.Tensor, embedded: torch.Tensor | None) -> bool:
    """Whether what is said before the last token depends on it. Exact: what a mask hides has no gradient at all."""
    if embedded is None or embedded.ndim < 2 or embedded.shape[1] != _TOKENS or logits.shape[1] != _TOKENS:
        return False
    import torch

    weights = torch.linspace(-1, 1, logits[:, :-1].numel(), device=logits.device).view_as(logits[:, :-1])
    (gradient,) = torch.autograd.grad((logits[:, :-1].float() * weights).sum(), embedded, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient[:, -1].abs().max() > 0)


def _tagging(tags: dict[str, torch.Tensor], name: str, whole: bool = False) -> Any:
    """A hook that adds a zero, which can be found in the graph, to what a layer gives; ``whole``: one for each of its numbers."""

    import torch

    def hook(module: Any, given: Any, made: torch.Tensor) -> torch.Tensor:
        shape = made.shape if whole else ()
        tag = tags.setdefault(name, torch.zeros(shape, dtype=made.dtype, device=made.device, requires_grad=True))
        return made + tag

    return hook


def _leaves(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a gradient of ``tensor`` reaches in the end."""
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


def _kind(name: str) -> str:
    """The name without the number of the expert."""
    return re.sub(r"(expert\w*\.)\d+\b", r"\1*", name)
