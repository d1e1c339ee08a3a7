"""What a manifest says of where an adapter came from: hashes, versions, the machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash_slowly(file)


def _hash_slowly(file: Any) -> str:
    """``hashlib.file_digest`` for Python 3.10."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("loraforge", "torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def device_name(accelerator: Accelerator) -> str:
    import torch

    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    several = f" x {accelerator.num_processes}" if accelerator.num_processes > 1 else ""
    return f"{name}{threads}{several}"
