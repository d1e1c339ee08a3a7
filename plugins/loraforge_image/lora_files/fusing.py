# SPDX-License-Identifier: Apache-2.0
"""One LoRA for several layers that the original model keeps as one, and back: exact in both directions, whatever the file.

Apart: every part gets the whole of ``down`` and its own rows of ``up``. Together: ``down`` is the parts' one below the other, ``up`` has
each part's rows in its own columns and zeros elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from loraforge import RunError, first_few, speaker

from .factors import Factors, Opened
from .names import canonical
from .prefixes import place_of
from .webui_format import Layer, WebuiTable

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)


def split(one: Factors, rows: Sequence[int]) -> list[Factors | None]:
    """The factors of each part; None for one that is left alone. Columns that are zero in a part's rows are left out: in a file that was
    fused they belong to another part. Where all are zero, every part keeps one of them.

    Args:
        rows: how many rows each part has.

    Raises:
        ValueError: if they are not as many as the layer's.
    """
    if sum(rows) != one.up.shape[0]:
        raise ValueError(one.name)
    if len(rows) == 1:
        return [one]
    if not bool(one.up.any()):  # untrained: nothing says which parts it has
        return [
            replace(one, down=one.down[:1], up=one.up[end - count : end, :1])
            for count, end in zip(rows, itertools.accumulate(rows), strict=True)
        ]
    found: list[Factors | None] = []
    for count, end in zip(rows, itertools.accumulate(rows), strict=True):
        up = one.up[end - count : end]
        used = up.any(0)
        found.append(replace(one, down=one.down[used], up=up[:, used]) if bool(used.any()) else None)
    return found


def rows_of(layer: Layer, total: int) -> list[int]:
    """How many rows each part of a layer has.

    Raises:
        ValueError: if ``total`` rows cannot be shared out.
    """
    share, rest = divmod(total, sum(layer.shares))
    if rest or not share:
        raise ValueError(layer.original)
    return [share * one for one in layer.shares]


def join(layer: Layer, pairs: Mapping[int, Factors]) -> Factors:
    """The factors of a layer from those of its parts, by their number. Where all have one scale it stays the scale; otherwise it goes into
    ``up``.

    Raises:
        ValueError: if the parts are not as wide as the layer wants them.
    """
    import torch

    some = next(iter(pairs.values()))
    shares = {one.up.shape[0] / layer.shares[number] for number, one in pairs.items()}
    inputs = {one.down.shape[1] for one in pairs.values()}
    if len(shares) != 1 or len(inputs) != 1 or not (share := shares.pop()).is_integer():
        raise ValueError(layer.original)
    scales = {one.scale for one in pairs.values()}
    scale = scales.pop() if len(scales) == 1 else 1.0
    whole = sum(one.rank for one in pairs.values())
    blocks: list[Tensor] = []
    before = 0
    for number, weight in enumerate(layer.shares):
        if number not in pairs:
            blocks.append(torch.zeros(int(share) * weight, whole, dtype=torch.float64))
            continue
        up = pairs[number].up.double() * (pairs[number].scale / scale if scale else 1.0)
        blocks.append(torch.nn.functional.pad(up, (before, whole - before - up.shape[1])))
        before += up.shape[1]
    down = torch.cat([one.down for _, one in sorted(pairs.items())])
    return Factors(some.name, some.called, down, torch.cat(blocks), scale)


def turned(one: Factors) -> Factors:
    """The same with both halves of its rows exchanged."""
    import torch

    return replace(one, up=torch.cat(one.up.chunk(2)[::-1]))


@dataclass
class Apart:
    """A transformer's LoRA by diffusers' layers.

    Attributes:
        parts: by diffusers' dotted path; layers: where each of them belongs.
        text: factors of text encoders, as they were.
        strange: those that are no layer of the model, or not as wide.
        twice: the names of those that change a layer which another one changes already.
    """

    parts: dict[str, Factors] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    text: list[Factors] = field(default_factory=list)
    strange: list[Factors] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def apart(factors: Iterable[Factors], table: WebuiTable) -> Apart:
    """Takes fused layers apart and turns exchanged halves, whatever the naming of each module."""
    found = Apart()
    for one in factors:
        place = place_of(one.name, table)
        if place is None:
            (found.text if one.called.startswith("te") else found.strange).append(one)
            continue
        layer = place.layer
        flipped = place.original and layer.halves and one.up.shape[0] == 2 * one.down.shape[1]
        given = turned(one) if flipped else one
        try:
            pieces = [given] if layer.part is not None else split(given, rows_of(layer, one.up.shape[0]))
        except ValueError:
            found.strange.append(one)
            continue
        names = [layer.parts[layer.part]] if layer.part is not None else layer.parts
        for name, piece in zip(names, pieces, strict=True):
            if piece is not None:
                found.twice += [one.name] if name in found.parts else []
                found.parts[name], found.layers[name] = piece, layer
    return found


def of_one_naming(files: Sequence[Opened], table: WebuiTable) -> list[Opened]:
    """Files whose modules can be added to a base, layer by layer: all by diffusers' names.

    Raises:
        RunError: if a module is no layer of the model, or a layer is there twice.
    """
    made = []
    for opened in files:
        found = apart(opened.factors, table)
        wrong = [*(one.name for one in found.strange), *found.twice]
        if wrong:
            raise RunError(
                say(
                    "{path}: {n} modules are no layers of that model, or are there twice: {names}.",
                    path=opened.path,
                    n=len(wrong),
                    names=first_few(wrong, 3),
                )
            )
        named = [replace(one, name=f"transformer.{path}", called=canonical(f"unet.{path}")) for path, one in found.parts.items()]
        made.append(replace(opened, factors=[*named, *found.text]))
    return made
