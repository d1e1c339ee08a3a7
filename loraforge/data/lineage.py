# SPDX-License-Identifier: Apache-2.0
"""The run that a run continues from (``init_from_adapter``), and those before it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from ..files import read_text, require_file
from ..messages import speaker
from ..runs.folder import RunFolder
from ..runs.provenance import hash_file
from ..runs.seal import kept_seal
from .splitting import HELD_OUT, LEARNED

say = speaker(__name__)

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Parent:
    """An earlier run whose adapter is taken up.

    Attributes:
        adapter: the folder of that adapter: the run's own, or one of its checkpoints'; or an exported file.
    """

    run: RunFolder
    adapter: Path
    manifest: Mapping[str, Any]

    def sides(self) -> dict[str, str]:
        """The side of each question and each answer that this run or those before it had, by ``Split.keys`` and ``companions``; and, as
        earlier versions wrote it, by the row's hash. What one of them learned counts as learned for ever."""
        found: dict[str, str] = {}
        inherited = self.manifest.get("inherited")
        pairs = [*(inherited.items() if isinstance(inherited, Mapping) else ())]
        for row in self._rows():
            beside = row.get("beside")
            names = [row.get("asks"), row.get("sha256"), *(beside if isinstance(beside, list) else ())]
            pairs += [(name, row.get("split")) for name in names if name]
        for key, side in pairs:
            if side in (LEARNED, HELD_OUT) and found.get(key) != LEARNED:
                found[str(key)] = str(side)
        return found

    @property
    def knows_questions(self) -> bool:
        """Whether its rows can be recognised by what they ask; those of earlier versions only by question and answer together."""
        return all("asks" in row for row in self._rows())

    def _rows(self) -> list[Mapping[str, Any]]:
        data = self.manifest.get("data")
        rows = data.get("rows") if isinstance(data, Mapping) else None
        return [row for row in rows or () if isinstance(row, Mapping)]

    def digest(self) -> str | None:
        """SHA-256 of the adapter's weights; None if they are gone."""
        weights = self.adapter if self.adapter.is_file() else self.adapter / _WEIGHTS
        return hash_file(weights) if weights.is_file() else None

    def lineage(self) -> list[dict[str, Any]]:
        """For the manifest of the run that continues: this run first, then those before it."""
        mine = {
            "run": str(self.run.path.absolute()),
            "started": self.manifest.get("started"),
            "seal": kept_seal(self.run) or None,
            "adapter": self.digest(),
            "data": (self.manifest.get("data") or {}).get("sha256"),
        }
        before = self.manifest.get("lineage")
        return [mine, *(before if isinstance(before, list) else [])]


def adapter_folder(path: Path) -> Path:
    """The adapter's own folder, where a run, a checkpoint, or the weights in that folder were named."""
    if path.name == _WEIGHTS and (path.parent / _CONFIG).is_file():
        return path.parent
    return path / "adapter" if (path / "adapter" / _CONFIG).is_file() else path


def require_adapter(init_from_adapter: str | None, rank: int | None = None) -> None:
    """Whether there is an adapter folder at all, without reading its weights.

    Args:
        rank: what the config says; another one in the adapter's own config is refused.

    Raises:
        RunError: saying what is missing.
        ConfigError: if the ranks differ.
    """
    if not init_from_adapter:
        return
    folder = adapter_folder(Path(init_from_adapter).absolute())
    if folder.is_file():
        raise RunError(
            say(
                "init_from_adapter: {path} is a single file, and such a base goes on from an adapter in PEFT's form only: a run, or a "
                "folder with adapter_config.json and adapter_model.safetensors. Name that folder.",
                path=folder,
            )
        )
    for name in (_CONFIG, _WEIGHTS):
        try:
            require_file(folder / name)
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                raise RunError(say("{folder} is no adapter folder: it has no {file}.", folder=folder, file=name)) from None
            raise RunError(say("{path} cannot be read: {error}.", path=folder / name, error=error)) from None
    theirs = _rank(folder / _CONFIG)
    if rank is not None and theirs is not None and theirs != rank:
        raise ConfigError(
            say(
                "init_from_adapter: that adapter has rank {theirs}; this config says {ours}. Set lora_rank: {theirs}.",
                theirs=theirs,
                ours=rank,
            )
        )


def _rank(file: Path) -> int | None:
    """What an adapter's config says of its rank; None if it says nothing that can be read, which shows when it is loaded."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_text(file))
        rank = found.get("r") if isinstance(found, dict) and found.get("peft_type", "LORA") == "LORA" else None
        return rank if isinstance(rank, int) and not isinstance(rank, bool) else None
    return None


def parent_of(init_from_adapter: str | None) -> Parent | None:
    """The run that an adapter came from; None where there is no adapter, or it is a stranger's without a run around it."""
    if not init_from_adapter:
        return None
    adapter = adapter_folder(Path(init_from_adapter).absolute())
    for folder in list(adapter.parents)[:3]:  # RUN/adapter, RUN/export/peft, RUN/checkpoints/step-000050/adapter
        with contextlib.suppress(RunError):
            manifest, _ = RunFolder(folder).sealed_manifest()  # no later command changes what was learned or held out
            if isinstance(manifest.get("format"), int) and isinstance(manifest.get("config"), dict) and manifest.get("task"):
                return Parent(RunFolder(folder), adapter, manifest)
    return None
