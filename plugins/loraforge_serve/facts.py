# SPDX-License-Identifier: Apache-2.0
"""What is known of an adapter, for whoever is about to believe it: its held-out figures and its cautions, as the run wrote them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import LoadedRun, RunError, read_text, speaker

say = speaker(__name__)

CARD, EVALUATION = "model-card.md", "eval.json"
_LARGEST = 50_000_000  # bytes of one of these files
# Headings of the model card; every card has them in both languages.
_LIMITS, _EVALUATED = "Limits and cautions", "Evaluation"
_ESCAPED = re.compile(r"\\([\\`*_\[\]<>|#~!&$])")
# The two parts of the hold-out, by the key of eval.json: answers that were never learned, and other wordings of what was learned.
_STRATA = {"comparisons": "new", "reworded": "reworded"}


def facts_of(run_folder: Path, opened: LoadedRun | None = None) -> dict[str, Any]:
    """The held-out figures and the cautions of the run in this folder, or of the run that this export lies in.

    Whatever a file does not say, or says in a form that LoRAForge does not write, is left out: the folder may be a stranger's.

    Args:
        opened: the run, if it was opened: then the figures are those under its seal, and a card that was altered is not believed.

    Returns:
        ``verdict``: a word of ``Judgement``, or None if base and adapter were not compared. ``headline``: the measure that it is about.
        ``sentences``: the same, as the card says it. ``examples``: held-out examples that were asked, or None. ``lines``: one per measure
        and stratum, with ``measure``, ``stratum`` (new or reworded), ``n`` (rows), ``groups`` (independent ones among them), ``base``,
        ``adapter``, ``difference``, ``interval`` ([low, high] of the difference at 95 %, or None), ``share`` (the figures are shares from
        0 to 1), ``lower_is_better`` and ``verdict``. ``figures``: those that a task makes itself, such as of pictures, with ``measure``,
        ``base`` and ``adapter`` in words. ``caution``: sentences.
    """
    run = _run_of(run_folder)
    found = opened.manifest.get("evaluation") if opened is not None else _object(run / EVALUATION)
    result: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    card, caution = _card(run, opened)
    verdict, headline, examples = result.get("verdict"), result.get("headline"), result.get("examples")
    return {
        "verdict": verdict if isinstance(verdict, str) else None,
        "headline": headline if isinstance(headline, str) else None,
        "sentences": _bullets(card, _EVALUATED) or _sentences(result.get("sentence")),
        "examples": examples if isinstance(examples, int) and not isinstance(examples, bool) else None,
        "lines": [line for key, stratum in _STRATA.items() for line in _lines(result.get(key), stratum)],
        "figures": _figures(result.get("figures")),
        "caution": caution,
    }


def _card(run: Path, opened: LoadedRun | None) -> tuple[str, list[str]]:
    """The model card, empty if there is none to believe; and its cautions, or why there are none."""
    card = _text(run / CARD)
    if not card:
        if opened is not None and (known := _sentences(opened.manifest.get("cautions"))):
            return "", [say(one) for one in known]
        return "", [say("No model card lies beside this adapter: nothing is known here of its data, its limits or its figures.")]
    try:
        if opened is not None:
            opened.require_sound([CARD])
    except RunError:
        return "", [
            say("The model card of this adapter was altered since it was recorded, so it is not shown. `loraforge verify` says more.")
        ]
    told = opened.manifest.get("diagnosis") if opened is not None else None
    # The card says so among its limits, but that a run looks healthy cautions against nothing.
    fine = [
        one.get("sentence") for one in (told if isinstance(told, list) else ()) if isinstance(one, Mapping) and one.get("kind") == "healthy"
    ]
    return card, [line for line in _bullets(card, _LIMITS) if line not in fine]


def _run_of(folder: Path) -> Path:
    """The run itself, or that of its ``adapter/``, ``export/peft`` or ``checkpoints/step-000050/adapter``; otherwise the folder."""
    place = folder.absolute()
    return next((one for one in (place, *list(place.parents)[:3]) if (one / CARD).is_file()), place)


def _text(path: Path) -> str:
    try:
        return read_text(path, _LARGEST)
    except (OSError, ValueError):
        return ""


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(comparisons: object, stratum: str) -> list[dict[str, Any]]:
    lines = []
    for one in comparisons if isinstance(comparisons, list) else ():
        if not isinstance(one, Mapping) or not isinstance(one.get("measure"), str):
            continue
        base, adapter, low, high = (_number(one.get(key)) for key in ("base", "adapter", "low", "high"))
        lines.append({
            "measure": one["measure"],
            "stratum": stratum,
            "n": one.get("rows") if isinstance(one.get("rows"), int) else None,
            "groups": one.get("groups") if isinstance(one.get("groups"), int) else None,
            "base": base,
            "adapter": adapter,
            "difference": None if base is None or adapter is None else adapter - base,
            "interval": None if low is None or high is None else [low, high],
            "share": one.get("share") is True,
            "lower_is_better": one.get("lower_is_better") is True,
            "verdict": "too few" if one.get("too_few") is True else str(one.get("verdict") or "cannot be told"),
        })  # fmt: skip
    return lines


def _figures(found: object) -> list[dict[str, str]]:
    """What a task compared by itself, such as the style distance of pictures: already in words."""
    pairs = [(name, sides) for name, sides in found.items() if isinstance(sides, Mapping)] if isinstance(found, Mapping) else []
    return [{"measure": str(name), "base": str(sides.get("base", "–")), "adapter": str(sides.get("adapter", "–"))} for name, sides in pairs]


def _number(value: object) -> float | None:
    """A finite number: JSON as browsers read it has no others."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _sentences(value: object) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one]


def _bullets(card: str, heading: str) -> list[str]:
    """The lines of one section of a model card, as plain words: what protected them from being Markdown is taken away."""
    _, found, rest = card.partition(f"\n## {heading}")
    section = rest.partition("\n## ")[0] if found else ""
    return [_ESCAPED.sub(r"\1", line[2:]) for line in section.split("\n") if line.startswith("- ")]
