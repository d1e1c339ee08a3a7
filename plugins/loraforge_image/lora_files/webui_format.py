# SPDX-License-Identifier: Apache-2.0
"""How the WebUIs call the layers of a family, and what they want to read about it in a file's header. Without torch."""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any


class WebuiFormat(ABC):
    """The WebUI's file of one family.

    Attributes:
        card: what A1111's card calls the base.
        rows: how many rows a layer has that gets no LoRA but is part of one that does, by module.
    """

    card: str = "Unknown"
    rows: Mapping[str, int]

    @abstractmethod
    def layers(self, modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The file's name of every layer that one of ``modules`` belongs to, with all modules that are in it, adapted or not, in the order
        of their rows.

        Raises:
            ValueError: whose arguments are the modules that have no name.
        """

    @abstractmethod
    def header(self, prediction: str) -> Mapping[str, str]:
        """What the file's header says of a base that predicts epsilon, v_prediction or a flow."""

    def describe(self, network: Any, modules: Iterable[str]) -> Mapping[str, Any] | None:
        """All that makes this format again, as plain JSON values; None if its family's name is enough."""
        return None

    def strange(self, modules: Iterable[str]) -> list[str]:
        """Those of the modules that some reader would not match."""
        try:
            self.layers(modules)
        except ValueError as error:
            return list(error.args)
        return []


@dataclass(frozen=True)
class Layer:
    """A layer of the original model, and where it is in diffusers.

    Attributes:
        original: its dotted path in the original model.
        parts: the dotted paths in diffusers, in the order of their rows.
        shares: how many rows each of them has, in relation to each other.
        part: which of them was asked for; None: all.
        outside: whether it lies outside of the blocks.
        halves: whether the two halves of its rows stand the other way round in the original model, if it has twice as many rows as inputs.
    """

    original: str
    parts: tuple[str, ...]
    shares: tuple[int, ...]
    part: int | None = None
    outside: bool = False
    halves: bool = False

    @property
    def same(self) -> bool:
        """Whether both call it alike."""
        return self.parts == (self.original,)


@dataclass(frozen=True)
class WebuiTable(WebuiFormat):
    """A table from the original model's layers to diffusers'; kohya's naming.

    Attributes:
        architecture, implementation: ``modelspec.architecture`` and ``modelspec.implementation`` of the header.
        base_version: ``ss_base_model_version``.
        plain: original name -> diffusers' name of the denoiser's layer, ``{i}`` for the number of a block.
        fused: original name -> the layers of diffusers that it holds, in the order of their rows.
        part: what the pipeline calls the denoiser.
        shares: original name -> how many rows each layer in it has in relation to the others, where they have not all as many. The
            smallest is as many as the layer has inputs.
        outside: original name -> diffusers' name of layers that other programs train and some reader loses: read, never exported.
        halves: the same for layers whose rows diffusers keeps with both halves exchanged (shift and scale). The rows are as many as twice
            the inputs; a layer of these names that has more is as it is in ``outside``.
    """

    architecture: str
    base_version: str
    plain: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, Sequence[str]] = field(default_factory=dict)
    part: str = "transformer"
    implementation: str = "diffusers"
    card: str = "Unknown"
    rows: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, Sequence[int]] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
    halves: Mapping[str, str] = field(default_factory=dict)

    def layers(self, modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
        table = {**{original: (one,) for original, one in self.plain.items()}, **self.fused}
        found: dict[str, tuple[str, ...]] = {}
        strange = []
        for module in modules:
            part, _, path = module.partition(".")
            for original, parts in table.items():
                number = part == self.part and next((n for p in parts if (n := _number(p, path)) is not None), None)
                if isinstance(number, str):
                    called = "lora_unet_" + original.replace("{i}", number).replace(".", "_")
                    found[called] = tuple(f"{self.part}.{p.replace('{i}', number)}" for p in parts)
                    break
            else:
                strange.append(module)
        if strange:
            raise ValueError(*strange)
        return found

    def find(self, path: str) -> Layer | None:
        """The layer that a file calls ``path``, by its original name or by diffusers', with dots or underscores; None if there is none."""
        flat = path.replace(".", "_")
        number = re.search(r"_(\d+)_", flat)
        entry = _index(self).get(re.sub(r"_\d+_", "_{i}_", flat, count=1))
        if entry is None:
            return None
        original, part = entry
        digits = number[1] if number else ""

        def numbered(name: str) -> str:
            return name.replace("{i}", digits)

        parts = tuple(self.fused.get(original) or (self._single(original),))
        return Layer(
            numbered(original),
            tuple(map(numbered, parts)),
            tuple(self.shares.get(original) or (1,) * len(parts)),
            part if len(parts) > 1 else None,
            original in self.outside or (original in self.halves and "{i}" not in original),
            original in self.halves,
        )

    def _single(self, original: str) -> str:
        return next(some[original] for some in (self.plain, self.outside, self.halves) if original in some)

    def __hash__(self) -> int:
        return hash((self.architecture, self.base_version, self.part, *self.plain, *self.fused, *self.outside, *self.halves))

    def header(self, prediction: str) -> Mapping[str, str]:
        return {
            "ss_base_model_version": self.base_version,
            "ss_v2": "False",
            "modelspec.architecture": self.architecture,
            "modelspec.implementation": self.implementation,
            "modelspec.prediction_type": {"v_prediction": "v", "epsilon": "epsilon"}.get(prediction, ""),
        }

    def describe(self, network: Any, modules: Iterable[str]) -> Mapping[str, Any] | None:
        given = list(modules)
        chosen = set(given).difference(self.strange(given))  # a file with the strange ones is refused when it is written
        absent = {name for parts in self.layers(chosen).values() for name in parts}.difference(chosen)
        return {**asdict(self), "rows": {name: network.get_submodule(name).out_features for name in sorted(absent)}}

    @classmethod
    def recall(cls, description: Mapping[str, Any]) -> WebuiTable:
        """The format that ``describe`` described, in this version or an earlier one."""
        return cls(**{one.name: description[one.name] for one in fields(cls) if one.name in description})


@functools.lru_cache(maxsize=32)
def _index(table: WebuiTable) -> dict[str, tuple[str, int | None]]:
    """Flat name -> (original name, which part of it), of all namings; ``{i}`` for the number."""
    found: dict[str, tuple[str, int | None]] = {}
    everything = {**{o: (d,) for some in (table.plain, table.outside, table.halves) for o, d in some.items()}, **table.fused}
    for original, parts in everything.items():
        for number, part in enumerate(parts):
            flat = part.replace(".", "_")
            found[flat] = (original, number)
            if flat.endswith("attn_to_out"):  # what ``names.canonical`` makes of diffusers' older name
                found.setdefault(flat + "_0", (original, number))
    for original in everything:
        found[original.replace(".", "_")] = (original, None)
    return found


def _number(pattern: str, path: str) -> str | None:
    """What stands for ``{i}`` in ``path``; empty if ``pattern`` has none; None if it is another layer."""
    found = re.fullmatch(re.escape(pattern).replace(r"\{i\}", r"(\d+)"), path)
    return None if found is None else found[1] if found.groups() else ""
