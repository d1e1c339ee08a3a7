"""Encoded pictures and captions on disk, by what they were made of."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def default_folder() -> Path:
    """The user's cache folder."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "loraforge" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loraforge"


def weights_hash(module: Any) -> str:
    """SHA-256 (hex) of a module's weights, names and shapes included."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Cache:
    """Tensors by key. A file is whole or absent; a damaged one is made again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = self.found = 0

    def get(self, key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The tensors of ``key``; made, and kept, if they are not there."""
        import safetensors.torch
        from safetensors import SafetensorError

        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        file = self.folder / name[:2] / f"{name}.safetensors"
        if file.is_file():
            try:
                tensors: dict[str, Any] = safetensors.torch.load_file(file)
                self.found += 1
                return tensors
            except (OSError, SafetensorError):
                pass  # torn or foreign: made again below
        tensors = {k: v.contiguous() for k, v in make().items()}
        self.made += 1
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(prefix=".", dir=file.parent)
            os.close(handle)
            try:
                safetensors.torch.save_file(tensors, aside)
                os.replace(aside, file)
            finally:
                Path(aside).unlink(missing_ok=True)
        except OSError:
            pass  # a cache that cannot be written costs time, not the run
        return tensors
