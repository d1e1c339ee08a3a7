# SPDX-License-Identifier: Apache-2.0
"""Encoded pictures and captions on disk, by what they were made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loraforge import show, speaker, usual_rights

say = speaker(__name__)

_STALE = 24 * 3600  # seconds after which a half-written file is nobody's any more


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
        self._told = False

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
        # Copies: a file holds no two tensors that share their memory.
        tensors = {k: v.clone().contiguous() for k, v in make().items()}
        self.made += 1
        try:
            _write(file, tensors)
        except (OSError, SafetensorError) as error:  # a cache that cannot be written costs time, not the run
            self._tell(error)
        return tensors

    def _tell(self, error: Exception) -> None:
        """The user is told once: every file would say the same."""
        if not self._told:
            self._told = True
            text = say("{path}: what was encoded cannot be kept ({reason}). The run goes on; the next one encodes it again.",
                path=self.folder, reason=error)  # fmt: skip
            show(text, err=True)


def _write(file: Path, tensors: dict[str, Any]) -> None:
    """Written aside and renamed when it is on the disk: other processes, and this one's death, find it whole or absent."""
    import safetensors.torch

    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(".*"):
        with contextlib.suppress(OSError):  # of a process that was killed while it wrote
            if left.stat().st_mtime < time.time() - _STALE:
                left.unlink()
    handle, aside = tempfile.mkstemp(prefix=".", dir=file.parent)
    os.close(handle)
    try:
        safetensors.torch.save_file(tensors, aside)
        with open(aside, "rb+") as written:
            os.fsync(written.fileno())
        usual_rights(Path(aside))  # a cache may be shared
        os.replace(aside, file)
    finally:
        Path(aside).unlink(missing_ok=True)
