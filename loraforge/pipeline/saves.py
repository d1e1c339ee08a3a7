# SPDX-License-Identifier: Apache-2.0
"""``export_at_saves``: the files that are handed on, of every checkpoint, while the run goes on.

They lie in ``RUN/saves/EXPORTER/``, each with the step in its name (``neon-000150.safetensors``), and all of them stay: checkpoints are
deleted in time, these are small and made to be tried.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..messages import speaker
from ..plan import Plan
from ..plugin_api.components import Exporter
from ..plugin_api.events import Event, Exported, StageStarted
from ..runs.disk import disk_errors, usual_rights
from ..runs.folder import RunFolder, atomic_dir

say = speaker(__name__)


def remarks(plan: Plan) -> list[str]:
    """Which of the run's exporters write at the end only, where files are wanted at every save."""
    late = [exporter.name for exporter in plan.exporters if not exporter.at_saves]
    if not plan.config.export_at_saves:
        return []
    if not plan.exporters:
        return [say("export_at_saves: nothing is exported (export: []), so nothing is written at the saves.")]
    return [say("export_at_saves: {names} is written at the end only.", names=", ".join(late))] if late else []


def export_save(plan: Plan, folder: RunFolder, step: int, tell: Callable[[Event], None]) -> None:
    """Exports the checkpoint of ``step``. What an exporter refuses is told, and the training goes on: the same is refused at its end."""
    if not plan.config.export_at_saves:
        return
    for exporter in (one for one in plan.exporters if one.at_saves):
        try:
            path = _exported(exporter, folder, step, plan.keys.flat())
        except ExportError as error:
            tell(StageStarted("export", say("{name}, step {step}: {error}", name=exporter.name, step=step, error=error)))
            continue
        tell(StageStarted("export", str(path)))
        tell(Exported(exporter.name, path))


def _exported(exporter: Exporter, folder: RunFolder, step: int, config: Mapping[str, Any]) -> Path:
    """What is handed on of a checkpoint: a file beside those of other steps, or a folder."""
    from ..adapters import lora

    adapter = lora.read_peft(folder.checkpoint(step) / "adapter")
    mark = f"{step:06d}"
    named = f"{config.get('output_name') or adapter.facts.get('name') or 'lora'}-{mark}"
    told = {**config, **({"output_name": named} if "output_name" in config else {})}
    adapter = dataclasses.replace(adapter, facts={**adapter.facts, "name": named, "config": told})
    place = folder.saves / exporter.name
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".step-{mark}.", dir=place) as aside:
            made = exporter.export(adapter, Path(aside))
            if made.is_file() and made.parent == Path(aside):
                return _beside(made, place, mark)
            with atomic_dir(place / f"step-{mark}") as partial:
                for path in sorted(Path(aside).iterdir()):
                    os.replace(path, partial / path.name)
        return place / f"step-{mark}" / made.relative_to(aside)


def _beside(made: Path, place: Path, mark: str) -> Path:
    """Moves a file, after what is called like it (a card, a picture), so that whoever sees the file finds the rest there."""
    stem = made.stem if mark in made.stem else f"{made.stem}-{mark}"
    with_it = [path for path in sorted(made.parent.iterdir()) if path.stem == made.stem and path != made]
    for path in (*with_it, made):
        usual_rights(path)
        os.replace(path, place / f"{stem}{path.suffix}")
    return place / f"{stem}{made.suffix}"
