# SPDX-License-Identifier: Apache-2.0
"""Where the files of a base are, and what their headers and configurations say: embedded, a diffusers folder, a hub id, a single file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import MemoryEstimate, ModelError, fetch_base, licence_of, open_file, read_text, require_file, require_files, speaker

say = speaker(__name__)

EMBEDDED: Mapping[str, Path] = {"tiny-sd": Path(__file__).parent.parent / "tiny_sd" / "model"}
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
SMALL = ("model_index.json", "*/*.json", "*processor/*", "tokenizer*/*", "README.md")
WEIGHTS = ("*/*.safetensors*",)
OTHERS = ("*onnx*", "*openvino*", "*flax*", "*non_ema*", "safety_checker/*", "*.fp16.*", "*.fp16-*", "text_encoders/*")
_CONFIG, _HEADER = 20_000_000, 25_000_000  # bytes; published ones stay below a tenth of it
# Numbers in configurations by which memory and time grow: sizes, and how many layers there are of something.
_LARGEST, _LAYERS = 1_000_000, 512


def is_ours(base_model: str) -> bool:
    """Whether ``base_model`` is something that can be looked into: embedded, a folder, a file, a hub id."""
    path = Path(base_model).expanduser()
    return base_model in EMBEDDED or path.exists() or base_model.startswith("modelscope:") or is_hub_id(base_model)


def is_hub_id(base_model: str) -> bool:
    """Whether it looks like ``org/name``."""
    return base_model.count("/") == 1 and not base_model.startswith((".", "/", "~"))


@functools.cache
def locate(base_model: str, revision: str | None = None, weights: tuple[str, ...] = ()) -> Path:
    """The folder or file of a base model.

    Args:
        weights: patterns of the weights that are fetched of a hub id, beside its configuration.

    Raises:
        ModelError: if there is none.
    """
    if base_model in EMBEDDED:
        return EMBEDDED[base_model]
    path = Path(base_model).expanduser()
    if path.exists():
        require_ordinary(path)
        return path.absolute()
    if base_model.startswith("modelscope:") or is_hub_id(base_model):
        return fetch_base(base_model, revision, [*SMALL, *weights], OTHERS)
    raise ModelError(
        say(
            "base_model '{base}' is neither a folder, nor a file, nor an embedded model ({embedded}), nor a hub id of the form org/name.",
            base=base_model,
            embedded=", ".join(EMBEDDED),
        )
    )


def licensed(estimate: MemoryEstimate | None, base_model: str, revision: str | None) -> MemoryEstimate | None:
    """The estimate with what the base's own folder says of its licence."""
    if estimate is None:
        return None
    if base_model in EMBEDDED:
        return dataclasses.replace(estimate, licence="apache-2.0")
    try:
        place = locate(base_model, revision)
    except ModelError:
        return estimate
    return dataclasses.replace(estimate, licence=licence_of(place)) if place.is_dir() else estimate


def title(base_model: str) -> str:
    """What the base is called in files and beside pictures."""
    if base_model in EMBEDDED:
        return base_model
    path = Path(base_model).expanduser()
    if not path.exists():
        return base_model.rpartition("/")[2]  # of a hub id; the cache's folder is named after the revision
    return path.stem if path.is_file() else path.absolute().name


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object of a base; empty if there is no such file.

    Raises:
        ModelError: if it cannot be read.
    """
    try:
        if require_file(path).st_size > _CONFIG:
            raise ValueError(say("it is too large for a configuration"))
        value = json.loads(read_text(path))
        if not isinstance(value, dict):
            raise ValueError(say("it is no JSON object"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(say("{path} of the base model cannot be read: {error}.", path=path, error=error)) from None
    return value


def part_config(path: Path) -> dict[str, Any]:
    """The configuration of one part of a base; a stranger's numbers fill no memory and build no endless model.

    Raises:
        ModelError: if it cannot be read, or asks for more than any model has.
    """
    config = read_config(path)
    left: list[tuple[str, Any]] = list(config.items())
    while left:
        key, value = left.pop()
        bound = _LAYERS if "layers" in key else _LARGEST
        if (isinstance(value, int) and abs(value) > bound) or (isinstance(value, list) and len(value) > _LAYERS):
            raise ModelError(impossible(path, key, value))
        if isinstance(value, list):
            left += [(key, one) for one in value]
        elif isinstance(value, dict):
            left += value.items()
    return config


def impossible(path: Path, key: str, value: object) -> str:
    """The sentence about a value that no model has."""
    return say("{path} of the base model: {key} cannot be {value}.", path=path, key=key, value=str(value)[:60])


def require_ordinary(place: Path) -> None:
    """Before a library is given a base: nothing in it waits or never ends.

    Raises:
        ModelError: naming the first file that is none.
    """
    try:
        if place.is_dir():
            require_files(place)
        else:
            require_file(place)
    except OSError as error:
        raise ModelError(say("{path} of the base model cannot be read: {error}.", path=error.filename, error=error)) from None


def check_shards(folder: Path) -> None:
    """Raises:
    ModelError: if a list of weights names files of another folder.
    """
    for index in folder.glob("*.index.json"):
        named = read_config(index).get("weight_map")
        if not isinstance(named, dict) or any(not isinstance(n, str) or Path(n).name != n or "\\" in n for n in named.values()):
            raise ModelError(say("{path} of the base model names files outside of its folder.", path=index))


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file.

    Raises:
        ModelError: if it is none.
    """
    try:
        with open_file(path) as file:
            start = file.read(8)
            if len(start) < 8:
                raise ValueError(say("the file is empty or cut off"))
            (length,) = struct.unpack("<Q", start)
            if length > _HEADER or length > path.stat().st_size:
                raise ValueError(say("it has no safetensors header"))
            value = json.loads(file.read(length))
            if not isinstance(value, dict):
                raise ValueError(say("it is no JSON object"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(say("{path} cannot be read as safetensors: {error}.", path=path, error=error)) from None
    return value


def pipeline_name(base_model: str, revision: str | None = None) -> str:
    """The class in diffusers that a folder says it is of; nothing for a file, or a folder that says nothing."""
    place = locate(base_model, revision)
    found = read_config(place / "model_index.json").get("_class_name") if place.is_dir() else None
    return found if isinstance(found, str) else ""


def other_pipeline(base_model: str, revision: str | None, family: str, wanted: str) -> str:
    """The sentence about a folder of another pipeline than a family trains, which ``model_family`` forces on it; nothing if it is right."""
    found = pipeline_name(base_model, revision)
    if found == wanted or not locate(base_model, revision).is_dir():
        return ""
    return say(
        "base_model {base}: model_family is {family}, which trains a {wanted}, but its model_index.json says {found}. Leave model_family "
        "out: what a base is, is recognised.",
        base=base_model,
        family=family,
        wanted=wanted,
        found=found or say("nothing"),
    )


def listed_parts(place: Path) -> dict[str, tuple[str, str]]:
    """(library, class) of every part that ``model_index.json`` names."""
    index = read_config(place / "model_index.json")
    listed = {name: part for name, part in index.items() if isinstance(part, list) and len(part) == 2 and part[0] is not None}
    return {name: (str(part[0]), str(part[1])) for name, part in listed.items()}


def missing_parts(place: Path) -> list[str]:
    """The parts of a pipeline that are not in its folder: the libraries would put something empty in the place of some."""
    return [name for name in listed_parts(place) if name != "safety_checker" and not any((place / name).glob("*"))]


def pipeline_files(place: Path) -> list[Path]:
    """All that a pipeline is loaded from, sorted."""
    inside = (p for p in place.glob("*/*") if p.is_file() and p.suffix in (".json", ".txt", ".safetensors", ".model"))
    return sorted([*inside, *place.glob("model_index.json")])


def old_hash(file: Path) -> str:
    """The eight digits by which WebUIs and kohya's tools knew a checkpoint before its SHA-256: of 64 KiB from 1 MiB on."""
    with open_file(file) as stream:
        stream.seek(0x100000)
        return hashlib.sha256(stream.read(0x10000)).hexdigest()[:8]
