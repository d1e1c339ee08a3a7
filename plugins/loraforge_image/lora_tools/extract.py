# SPDX-License-Identifier: Apache-2.0
"""``loraforge lora extract``: the difference between a base and one that was fine-tuned from it, as a LoRA file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loraforge import ExportError, ModelError, first_few, speaker

from ..families.stable_diffusion.kohya_names import known_modules, of_canonical
from ..lora_files.factors import Factors
from .merge import layers_of, load_whole
from .svd import of_dense

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

_TEXT = re.compile(r"te\d_encoder_layers_\d+_(self_attn_(q|k|v|out)_proj|mlp_fc[12])$")


@dataclass(frozen=True)
class Extracted:
    """What came out.

    Attributes:
        factors: of the layers that differ.
        share: of the Frobenius norm of the whole difference between the two bases that the file holds, 0 to 1.
        on_layers: the share that lies on the layers that got a LoRA, at any rank.
        strange: layers that differ, but that no WebUI knows.
    """

    factors: Sequence[Factors]
    share: float
    on_layers: float
    strange: Sequence[str]


def extract(
    base: str, tuned: str, family: str, rank: int, conv_rank: int, progress: Callable[[int], Callable[[], None]], **loading: Any
) -> Extracted:
    """Loads both and decomposes the difference of every layer that a LoRA can sit on.

    Args:
        conv_rank: for convolutions of more than one pixel; 0: they get none.
        progress: called with the number of layers; returns what is called after each.
        loading: see ``load_whole``.

    Raises:
        ModelError: if one cannot be loaded.
        ExportError: if they are no two of a kind, or do not differ.
    """
    first, second = load_whole(base, **loading), load_whole(tuned, **loading)
    before, after = layers_of(first), layers_of(second)
    chosen = [name for name in before if _sits(name, before[name], conv_rank)]
    missing = [name for name in before if name not in after or before[name].weight.shape != after[name].weight.shape]
    if missing:
        raise ExportError(
            say("the two bases are not built alike: {n} layers differ in shape: {names}", n=len(missing), names=first_few(missing, 3))
        )
    tick = progress(len(chosen))
    known = known_modules(family)
    factors, strange, held, carried = [], [], 0.0, 0.0
    for name in chosen:
        change = _difference(before[name], after[name])
        tick()
        if not bool(change.any()):
            continue
        if not _known(name, family, known):
            strange.append(name)
            continue
        wide = change.ndim == 4 and tuple(change.shape[2:]) != (1, 1)
        wanted = min(conv_rank if wide else rank, *change.flatten(1).shape)
        spectrum = of_dense(change, wanted)
        factors.append(spectrum.factors(name, name, wanted))
        held += (spectrum.kept(wanted) * spectrum.whole) ** 2
        carried += spectrum.whole**2
    if not factors:
        raise ExportError(say("{base} and {tuned} do not differ in any layer that a LoRA could sit on.", base=base, tuned=tuned))
    whole = _whole(first, second)
    return Extracted(factors, math.sqrt(min(1.0, held / whole)), math.sqrt(min(1.0, carried / whole)), strange)


def _known(name: str, family: str, known: Collection[str]) -> bool:
    """Whether the WebUIs have a name for a layer."""
    try:
        return of_canonical(name, family) in known
    except ValueError:
        return False


def _sits(name: str, module: Any, conv_rank: int) -> bool:
    """Whether a LoRA may sit there, as the trainer chooses: text encoders' layers, transformers, with ``conv_rank`` the residual blocks."""
    if name.startswith("te"):
        return bool(_TEXT.match(name))
    if "_attentions_" in name:
        return True
    return bool(conv_rank) and re.search(r"_(resnets|downsamplers|upsamplers)_", name) is not None


def _difference(before: Any, after: Any) -> Tensor:
    change: Tensor = after.weight.detach().double() - before.weight.detach().double()
    return change


def _whole(first: Any, second: Any) -> float:
    """The square of the Frobenius norm of all differences of the denoiser and the text encoders."""
    total = 0.0
    for name, part in first.components.items():
        if name == "unet" or (name.startswith("text_encoder") and part is not None):
            others: Mapping[str, Any] = dict(second.components[name].named_parameters())
            for key, value in part.named_parameters():
                if key in others and others[key].shape == value.shape:
                    total += float((others[key].detach().double() - value.detach().double()).square().sum())
    if not math.isfinite(total):
        raise ModelError(say("one of the two bases holds NaN or infinity."))
    return total
