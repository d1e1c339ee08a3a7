# SPDX-License-Identifier: Apache-2.0
"""What a base's folder shows of its weights before anything is loaded: whether the files are whole, how they are stored. Without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loraforge import ModelError, first_few, open_file, read_text, speaker

from ..base_files import BaseFiles

say = speaker(__name__)

_INDEX = "model.safetensors.index.json"
# Ways of storing that give the weights back as numbers when they are loaded; the others exist for computing answers only.
RESTORED = ("bitsandbytes", "fp8", "mxfp4")


def refuse_unusable(base: BaseFiles, precision: str) -> None:
    """
    Raises:
        ModelError: with everything that shows that this base cannot be trained as it lies there.
    """
    if problems := [*_adapter_beside(base), *_stored_otherwise(base, precision), *_damaged(base.folder)]:
        raise ModelError(problems)


def stored_as(config: Mapping[str, Any]) -> str | None:
    """How the weights are stored, where they are no plain numbers: ``gptq``, ``bitsandbytes`` ..."""
    for part in (config, config.get("text_config"), config.get("llm_config")):
        settings = part.get("quantization_config") if isinstance(part, Mapping) else None
        if settings and not isinstance(settings, Mapping):
            return str(settings)
        if isinstance(settings, Mapping) and settings:
            bits = settings.get("load_in_4bit") or settings.get("load_in_8bit")
            return str(settings.get("quant_method") or ("bitsandbytes" if bits else "?")).lower()
    return None


def _adapter_beside(base: BaseFiles) -> Iterator[str]:
    file = base.folder / "adapter_config.json"
    if file.is_file():
        try:
            below = str(json.loads(read_text(file))["base_model_name_or_path"])
        except (OSError, ValueError, KeyError, TypeError):
            below = "org/name"
        yield say(
            "base_model {folder} also holds an adapter (adapter_config.json), which transformers would put on the base by itself. To "
            "train that adapter further, set base_model: {below} and init_from_adapter: {folder}. To train the base alone, move "
            "adapter_config.json and adapter_model.safetensors out of the folder.",
            folder=base.folder,
            below=below,
        )


def _stored_otherwise(base: BaseFiles, precision: str) -> Iterator[str]:
    kind = stored_as(base.config)
    if kind is None:
        return
    if kind not in RESTORED:
        yield say(
            "base_model {folder} is stored as {kind} (quantization_config in config.json), a form for answering that cannot be trained "
            "here. Take the original weights, which the base was made from (often the same name without {kind}); precision: 4bit saves "
            "as much memory.",
            folder=base.folder,
            kind=kind,
        )
    elif precision == "4bit" and not four_bits(base.config):
        yield say(
            "base_model {folder} is stored as {kind}, which cannot be put into 4 bits while it is loaded. Set precision: bf16, or take the "
            "original weights.",
            folder=base.folder,
            kind=kind,
        )


def four_bits(config: Mapping[str, Any]) -> bool:
    """Whether the weights are stored in four bits that they can be trained in."""
    return stored_as(config) == "bitsandbytes" and bool((config.get("quantization_config") or {}).get("load_in_4bit"))


def _damaged(folder: Path) -> Iterator[str]:
    """What is wrong with the weights that are there; nothing where there are none (yet)."""
    there = {file.name for file in folder.glob("*.safetensors")}
    if not there:
        return
    listed = _listed(folder)
    missing = sorted(set(listed.values()) - there)
    if missing:
        yield say(
            "base_model {folder}: {n} of {all} weight files that {index} lists are missing: {files}. Fetch them again.",
            folder=folder,
            n=len(missing),
            all=len(set(listed.values())),
            index=_INDEX,
            files=first_few(missing),
        )
    for name in sorted(there & (set(listed.values()) or {"model.safetensors"})):
        header = _header(folder / name)
        if header is None:
            yield say(
                "base_model {folder}: {file} ({size:,} bytes) is damaged: it does not begin as safetensors files do. Fetch it again.",
                folder=folder,
                file=name,
                size=(folder / name).stat().st_size,
            )
            continue
        tensors, size = header
        if size > (found := (folder / name).stat().st_size):
            yield say(
                "base_model {folder}: {file} is cut short: it has {found:,} of {size:,} bytes. Fetch it again.",
                folder=folder,
                file=name,
                found=found,
                size=size,
            )
        lost = sorted(tensor for tensor, file in listed.items() if file == name and tensor not in tensors)
        if lost:
            yield say(
                "base_model {folder}: {file} lacks {n} tensors that {index} says are in it: {tensors}. Fetch it again.",
                folder=folder,
                file=name,
                n=len(lost),
                index=_INDEX,
                tensors=first_few(lost),
            )


def _listed(folder: Path) -> dict[str, str]:
    """Which file each tensor is in, by the index; empty without one, or with one that cannot be read."""
    if (folder / "model.safetensors").is_file():
        return {}  # transformers reads it and no index
    try:
        found = json.loads(read_text(folder / _INDEX))["weight_map"]
        return {str(tensor): str(file) for tensor, file in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """The shape of every tensor that transformers would read from the safetensors files in ``folder``, by name; None where some of them
    are missing or damaged, or none is there (yet)."""
    found = _tensors(folder)
    return None if found is None else {name: shape for name, (shape, _) in found.items()}


def sizes(folder: Path) -> dict[str, int] | None:
    """How many bytes each of these tensors has; None in the same cases."""
    found = _tensors(folder)
    return None if found is None else {name: size for name, (_, size) in found.items()}


def _tensors(folder: Path) -> dict[str, tuple[tuple[int, ...], int]] | None:
    listed = _listed(folder)
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    for name in sorted(set(listed.values()) or {"model.safetensors"}):
        header = _header(folder / name)
        if header is None:
            return None
        found |= header[0]
    return found


def _header(file: Path) -> tuple[dict[str, tuple[tuple[int, ...], int]], int] | None:
    """Shape and bytes of a safetensors file's tensors by name, and how many bytes the file should have; None if this cannot be read."""
    try:
        with open_file(file) as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            entries = json.loads(opened.read(min(length, 100_000_000)))
        entries.pop("__metadata__", None)
        places = {str(name): [int(place) for place in entry["data_offsets"]] for name, entry in entries.items()}
        found = {
            str(name): (tuple(int(size) for size in entry["shape"]), places[name][1] - places[name][0]) for name, entry in entries.items()
        }
        return found, 8 + length + max((end for _, end in places.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error, MemoryError, RecursionError):
        return None
