"""The run that a run continues from (``init_from_adapter``), and those before it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import RunError
from .provenance import hash_file
from .rundir import RunDir


@dataclass(frozen=True)
class Parent:
    """An earlier run whose adapter is taken up.

    Attributes:
        adapter: the folder of that adapter: the run's own, or one of its checkpoints'.
    """

    run: RunDir
    adapter: Path
    manifest: Mapping[str, Any]

    def sides(self) -> dict[str, str]:
        """The side of each of its questions, by ``Split.keys``: what it learned can never be held out from what follows."""
        return {row["asks"]: row["split"] for row in self._rows() if "asks" in row and "split" in row}

    def _rows(self) -> list[Mapping[str, Any]]:
        data = self.manifest.get("data")
        rows = data.get("rows") if isinstance(data, Mapping) else None
        return [row for row in rows or () if isinstance(row, Mapping)]

    def lineage(self) -> list[dict[str, Any]]:
        """For the manifest of the run that continues: this run first, then those before it."""
        seal = self.run.path / "manifest.sha256"
        mine = {
            "run": str(self.run.path.absolute()),
            "started": self.manifest.get("started"),
            "seal": seal.read_text(encoding="utf-8").split()[0] if seal.is_file() else None,
            "adapter": hash_file(self.adapter / "adapter_model.safetensors"),
            "data": (self.manifest.get("data") or {}).get("sha256"),
        }
        before = self.manifest.get("lineage")
        return [mine, *(before if isinstance(before, list) else [])]


def adapter_folder(path: Path) -> Path:
    """The adapter's own folder, where a run or a checkpoint was named."""
    return path / "adapter" if (path / "adapter" / "adapter_config.json").is_file() else path


def parent_of(init_from_adapter: str | None) -> Parent | None:
    """The run that an adapter came from; None where there is no adapter, or it is a stranger's without a run around it."""
    if not init_from_adapter:
        return None
    adapter = adapter_folder(Path(init_from_adapter))
    for folder in (adapter.parent, adapter.parent.parent.parent):  # RUN/adapter, RUN/checkpoints/step-000050/adapter
        with contextlib.suppress(RunError):
            return Parent(RunDir(folder), adapter, RunDir(folder).manifest())
    return None
