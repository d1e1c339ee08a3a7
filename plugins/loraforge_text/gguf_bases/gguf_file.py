# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file says before its weights: keys and values, names and places of tensors (ggml-org/ggml, docs/gguf.md). Without torch.

Own code, because the readers that there are make an object of every token, or need torch, and none says that a file is cut short.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraforge import ModelError, open_file, speaker

say = speaker(__name__)

MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # 1 counted in 32 bits, and no program writes it any more
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_ALIGNMENT = 32
_DIMENSIONS = 4  # ggml knows no more


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        shape: as transformers writes it, the rows first.
        type: ggml's number for how it is stored.
        start: in bytes from the beginning of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    start: int


@dataclass(frozen=True)
class GgufFile:
    """The head of a file.

    Attributes:
        values: its keys, with numbers, texts, and lists of these.
        size: in bytes, of the whole file.
    """

    path: Path
    values: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    size: int
    architecture: str = field(default="")

    def about(self, key: str, default: Any = None) -> Any:
        """A value whose key begins with the architecture: ``about("block_count")`` is ``llama.block_count``."""
        return self.values.get(f"{self.architecture}.{key}", default)

    def named(self, key: str) -> str:
        """A text; empty where there is none."""
        found = self.values.get(key)
        return found if isinstance(found, str) else ""


def means_gguf(path: Path) -> bool:
    """Whether a path is that of a file that is called so, or begins as GGUF files do: Ollama keeps them as ``sha256-...``."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with open_file(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def read_head(path: Path) -> GgufFile:
    """
    Raises:
        ModelError: if it is no GGUF file, is cut short, or is damaged.
    """
    try:
        with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data, path).read()
    except OSError as error:
        raise ModelError(say("{path} cannot be read: {error}.", path=path, error=error)) from None
    except (struct.error, ValueError, OverflowError, MemoryError) as error:  # also an empty file, of which there is no map
        raise ModelError(
            say(
                "{path} ({size:,} bytes) is no whole GGUF file: it ends, or makes no sense, before its weights begin ({error}). "
                "Fetch it again.",
                path=path,
                size=path.stat().st_size,
                error=error,
            )
        ) from None


class _Reader:
    """Goes through the head once."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data, self._path, self._at = data, path, 0

    def read(self) -> GgufFile:
        if self._data[: len(MAGIC)] != MAGIC:
            raise ModelError(say("{path} is no GGUF file: it begins otherwise. Fetch it again.", path=self._path))
        self._at = len(MAGIC)
        version = self._number("I")
        if version not in _VERSIONS:
            raise ModelError(
                say(
                    "{path} is GGUF of version {version}; versions {known} are read. Make or fetch a newer file of this model.",
                    path=self._path,
                    version=version,
                    known=", ".join(map(str, _VERSIONS)),
                )
            )
        tensors, values = self._number("Q"), self._number("Q")
        found = {self._text(): self._value(self._number("I")) for _ in range(values)}
        entries = [self._tensor() for _ in range(tensors)]
        alignment = found.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError("general.alignment")
        start = -(-self._at // alignment) * alignment
        placed = {t.name: StoredTensor(t.name, t.shape, t.type, start + t.start) for t in entries}
        return GgufFile(self._path, found, placed, len(self._data), str(found.get("general.architecture") or ""))

    def _number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self._data, self._at)
        self._at += struct.calcsize(kind)
        return value

    def _text(self) -> str:
        length = self._number("Q")
        if length > len(self._data) - self._at:
            raise ValueError(f"a text of {length} bytes")
        text = self._data[self._at : self._at + length]
        self._at += length
        return text.decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            raise ValueError(f"a value of the kind {kind}")
        inner, count = self._number("I"), self._number("Q")
        if inner == _TEXT:
            if 8 * count > len(self._data) - self._at:
                raise ValueError(f"a list of {count} texts")
            return [self._text() for _ in range(count)]
        if inner not in _NUMBERS:
            raise ValueError(f"a list of the kind {inner}")
        width = struct.calcsize(_NUMBERS[inner])
        if width * count > len(self._data) - self._at:
            raise ValueError(f"a list of {count} numbers")
        values = list(struct.unpack_from(f"<{count}{_NUMBERS[inner]}", self._data, self._at))
        self._at += width * count
        return values

    def _tensor(self) -> StoredTensor:
        name, dimensions = self._text(), self._number("I")
        if not 0 < dimensions <= _DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        if math.prod(shape) >= 1 << 48:
            raise ValueError(f"a tensor of {math.prod(shape)} numbers")
        return StoredTensor(name, shape[::-1], self._number("I"), self._number("Q"))
