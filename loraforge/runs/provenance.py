# SPDX-License-Identifier: Apache-2.0
"""What a manifest says of where an adapter came from: hashes, versions, the machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

from ..files import open_file
from ..plugin_api.host import GROUP, PluginHost

# Every library that computes, reads or rounds a number between the data and the adapter.
_LIBRARIES = (
    "loraforge",
    "torch",
    "transformers",
    "diffusers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "safetensors",
    "tokenizers",
    "numpy",
    "pillow",
)


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash_slowly(file)


def _hash_slowly(file: Any) -> str:
    """``hashlib.file_digest`` for Python 3.10."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value as sorted JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# --- the base -----------------------------------------------------------------------------------------------------------------

# Names that a loader of models looks for, by their ends; and texts that stand beside them for people.
_LOADED = re.compile(
    r"\.(json|jinja2?|safetensors|bin|pt|pth|ckpt|h5|msgpack|onnx|gguf|model|tiktoken|txt|ya?ml|py|pkl|pickle|npz?)$", re.IGNORECASE
)
_READ_BY_PEOPLE = re.compile(r"^(readme|licen[cs]e|notice|changelog|use_policy|third_party_notices?)\b.*\.txt$", re.IGNORECASE)
_TEMPLATES = "additional_chat_templates"


def base(name: str, revision: str | None, files: Sequence[Path], brought: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """What a manifest says of the base: ``files`` with their hashes, ``others``, the names of what else lies
    beside them: a file that joins them later may be loaded with them; and ``brought``, place and hash of what keys name.

    Args:
        files: see ``ModelFamily.base_files``.
        brought: see ``ModelFamily.brought_files``.
    """
    folder = Path(os.path.commonpath([file.parent for file in files])) if files else None
    hashes = {file.relative_to(folder).as_posix(): hash_file(file) for file in files} if folder else {}
    found: dict[str, Any] = {"name": name, "revision": revision, "folder": str(folder) if folder else None, "files": hashes}
    if folder and not is_one_file(name, hashes):
        found["others"] = beside(folder, hashes)
    if brought:
        found["brought"] = {key: {"path": str(file.absolute()), "sha256": hash_file(file)} for key, file in sorted(brought.items())}
    return found


def is_one_file(name: str, files: Collection[str]) -> bool:
    """Whether a base is a single file, whose neighbours have nothing to do with it."""
    return len(files) == 1 and Path(name).name in files


def beside(folder: Path, files: Collection[str]) -> list[str]:
    """The names of what else lies in the folders of a base's files, and in those where a loader would look."""
    places = {"", _TEMPLATES, *(name.rpartition("/")[0] for name in files)}
    found = []
    for place in sorted(places):
        with contextlib.suppress(OSError):
            inner = [entry.name for entry in os.scandir(folder / place) if not entry.is_dir()]
            found += [f"{place}/{name}" if place else name for name in inner]
    return sorted({*found} - {*files})


def is_loaded(name: str) -> bool:
    """Whether a loader of models would read a file of this name in a base's folder."""
    last = name.rpartition("/")[2]
    return bool(_LOADED.search(last)) and not _READ_BY_PEOPLE.match(last)


# --- code ---------------------------------------------------------------------------------------------------------------------


def code(host: PluginHost) -> dict[str, str]:
    """SHA-256 (hex) of the source of LoRAForge and of every plugin in use, by package or file.

    It covers the sorted relative paths and the bytes of all ``*.py`` and ``*.json``: two machines with one hash run the same code.
    """
    entry_points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    packages, files = {"loraforge"}, []
    for info in host.plugins():
        if info.error and not info.hooks:  # never came into use
            continue
        if info.origin.endswith(".py") and Path(info.origin).is_file():
            files.append(Path(info.origin))
        elif info.name in entry_points:
            packages.add(entry_points[info.name].module.partition(".")[0])
    found = {package: source for package in sorted(packages) if (source := _package_source(package))}
    return {**found, **{file.name: _source({file.name: file}) for file in sorted(files)}}


def _package_source(package: str) -> str | None:
    """The hash of an installed package's source, without importing it; None if its files cannot be found."""
    spec = util.find_spec(package)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return _source({Path(spec.origin).name: Path(spec.origin)}) if spec.origin and Path(spec.origin).is_file() else None
    files: dict[str, Path] = {}
    for place in spec.submodule_search_locations:
        files |= {f.relative_to(place).as_posix(): f for f in Path(place).rglob("*") if f.suffix in (".py", ".json") and f.is_file()}
    return _source(files)


def _source(files: dict[str, Path]) -> str:
    """The lengths stand in front, so that no text can pass for the end of one file and the beginning of the next."""
    whole = hashlib.sha256()
    for name in sorted(files):
        text = files[name].read_bytes()
        whole.update(f"{len(name.encode())}:{name}\n{len(text)}:".encode() + text)
    return whole.hexdigest()


# --- the machine --------------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The machine that this process runs on, without its name or owner. ``memory_gb`` is in units of 10^9 bytes."""
    found: dict[str, Any] = {
        "system": platform.platform(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory(),
    }
    torch = sys.modules.get("torch")  # importing it takes seconds, and without it no number was computed here
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
            found["gpu"] = [{"name": device.name, "memory_gb": round(device.total_memory / 1e9, 1)} for device in devices]
            found["cuda"] = torch.version.cuda or getattr(torch.version, "hip", None)
    return found


def _processor() -> str:
    """The processor as its maker calls it; ``platform.processor`` says nothing on most Linux systems."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    """The memory of the machine; Windows has no ``sysconf``."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    return None
