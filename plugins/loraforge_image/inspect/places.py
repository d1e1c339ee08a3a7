# SPDX-License-Identifier: Apache-2.0
"""Which LoRA a folder means: a run's exported file before its adapter, a folder's only .safetensors."""

from __future__ import annotations

from pathlib import Path

from loraforge import RunError, first_few, speaker

say = speaker(__name__)

_WEIGHTS = "adapter_model.safetensors"


def loras_of(path: Path) -> list[Path]:
    """What can be inspected of a file or folder, first what it means.

    Raises:
        RunError: if a folder holds several LoRA files, of which none is meant before the others.
    """
    if not path.is_dir() or (path / _WEIGHTS).is_file():
        return [path]
    run = _of_run(path)
    if run:
        return run
    found = sorted(file for file in path.iterdir() if file.suffix == ".safetensors" and file.is_file())
    if len(found) > 1:
        names = first_few([file.name for file in found])
        raise RunError(say("{path} holds several .safetensors files: {names}. Name one of them.", path=path, names=names))
    return found or [path]


def _of_run(path: Path) -> list[Path]:
    """The exported LoRA files of a run, the WebUIs' first; then its adapter, or that of its newest checkpoint."""
    exported = sorted(path.glob("export/*/*.safetensors"), key=lambda file: (file.parent.name != "webui", file))
    files = [file.parent if file.name == _WEIGHTS else file for file in exported if file.is_file() and _plain(file)]
    adapters = [path / "adapter", *sorted(path.glob("checkpoints/*/adapter"), reverse=True)[:1]]
    return [*files, *[folder for folder in adapters if (folder / _WEIGHTS).is_file()][:1]]


def _plain(file: Path) -> bool:
    """Whether an exported file may be a LoRA: whole models lie beside their config.json or model_index.json."""
    return not any((file.parent / name).is_file() for name in ("model_index.json", "config.json"))
