# SPDX-License-Identifier: Apache-2.0
"""A transformer in one file, as ComfyUI and the model sites pass it on: which model it is, by the names of its tensors. Without torch."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import first_few, speaker

from ..base_files import PICKLES, header, locate

say = speaker(__name__)

# What ComfyUI and others put in front of a transformer's names; beside it such files may hold encoders and an autoencoder.
_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
# Ends of tensors that say how the numbers of another one are packed: it is no plain weight any more.
_PACKED = (
    ".scale_weight",
    ".weight_scale",
    ".scale_input",
    ".input_scale",
    ".comfy_quant",
    ".absmax",
    ".qweight",
    ".wscales",
    "scaled_fp8",
)


@dataclass(frozen=True)
class Layout:
    """Names by which a transformer is known.

    Attributes:
        has: tensors that are all there.
        lacks: tensors of its relatives, of which none is there.
        original: whether they are the original model's names, which diffusers' converter turns into its own.
    """

    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    original: bool = False

    def fits(self, names: Collection[str]) -> bool:
        """Whether these are the names of such a transformer, without a prefix."""
        return all(name in names for name in self.has) and not any(name in names for name in self.lacks)


@dataclass(frozen=True)
class SingleFile:
    """What the header of a file says.

    Attributes:
        names: of the transformer's tensors, without the prefix.
        others: what stands beside them, by the first part of the names.
        packed: tensors that are stored with scales, see ``_PACKED``.
    """

    names: frozenset[str]
    others: tuple[str, ...]
    packed: tuple[str, ...]


def prefix_of(names: Collection[str]) -> str:
    """What stands in front of the transformer's names."""
    return next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in names)), "")


def stripped(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The transformer's tensors under their own names."""
    prefix = prefix_of(tensors)
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@functools.cache
def read_names(file: Path) -> SingleFile:
    """Reads the header.

    Raises:
        ModelError: if it is no safetensors file.
    """
    found = [name for name in header(file) if name != "__metadata__"]
    prefix = prefix_of(found)
    names = frozenset(name.removeprefix(prefix) for name in found if name.startswith(prefix))
    others = sorted({name.partition(".")[0] for name in found if not name.startswith(prefix)})
    return SingleFile(names, tuple(others), tuple(sorted(name for name in found if name.endswith(_PACKED))))


def transformer_file(base_model: str, revision: str | None = None) -> Path | None:
    """The safetensors file that a base is, if it is one."""
    place = locate(base_model, revision)
    return place if place.is_file() and place.suffix.lower() == ".safetensors" else None


def pickled_parts(place: Path) -> list[str]:
    """A sentence for every part of a folder that is there as pickles alone."""
    found = []
    for part in sorted(p for p in place.iterdir() if p.is_dir()):
        files = sorted(p.name for p in part.iterdir() if p.suffix in PICKLES and p.name != "training_args.bin")
        if files and not any(part.glob("*.safetensors*")):
            found.append(pickle_text(f"{part.name}/{first_few(files, 2)}", place))
    return found


def pickle_text(files: str, place: Path) -> str:
    """The sentence about files that may run code."""
    return say(
        "base_model {place}: {files} may run code when it is read. Convert it to safetensors, or set allow_pickle: true, which "
        "reads numbers only (weights_only).",
        place=place,
        files=files,
    )
