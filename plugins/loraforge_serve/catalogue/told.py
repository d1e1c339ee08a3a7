# SPDX-License-Identifier: Apache-2.0
"""What /v1/models tells of a run: where it comes from and how it did against its base, as its manifest says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import LoadedRun, read_text

from ..facts import facts_of


def told(opened: LoadedRun | None, folder: Path | None) -> dict[str, Any]:
    """``lineage``, ``facts``, ``example`` and ``citations`` of a run; empty ones of an adapter that lies outside of its run.

    Args:
        folder: the exported adapter's, which has the golden prompts.
    """
    manifest: Mapping[str, Any] = opened.manifest if opened is not None else {}
    place = opened.path if opened is not None else folder
    facts = facts_of(place, opened) if place is not None else {"verdict": None, "lines": [], "caution": []}
    return {"lineage": _lineage(manifest), "facts": facts, "example": _example(folder), "citations": []}


def _lineage(manifest: Mapping[str, Any]) -> dict[str, Any]:
    if not manifest:
        return {}
    before = manifest.get("lineage")
    return {
        "started": manifest.get("started"),
        "step": _part(manifest, "chosen").get("step"),
        "data": _part(manifest, "data").get("sha256"),
        "loraforge": _part(manifest, "versions").get("loraforge"),
        "earlier": [
            {"run": Path(str(one.get("run", ""))).name, "seal": one.get("seal"), "started": one.get("started")}
            for one in (before if isinstance(before, list) else [])
            if isinstance(one, Mapping)
        ],
    }


def _example(folder: Path | None) -> str | None:
    """The first held-out question, where the export carries them."""
    file = folder / "golden_prompts.json" if folder is not None else None
    try:
        known = json.loads(read_text(file)) if file is not None and file.is_file() else {}
        return None if known.get("neutral") else str(known["prompts"][0]["question"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def _part(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, Mapping) else {}
