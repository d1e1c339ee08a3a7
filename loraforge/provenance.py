"""What a manifest says of where an adapter came from: hashes, versions, the machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
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
    for name in ("loraforge", "torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
