# SPDX-License-Identifier: Apache-2.0
"""``concept.yaml``: what holds for the pictures of one folder alone, where a run has several."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import DataError, decode_text, read_file, refuse_machines_fault, speaker

from .keys import MOST_REPEATS

say = speaker(__name__)

CONCEPT = ("concept.yaml", "concept.yml")
_KEYS = ("repeats", "resolution", "trigger_word", "caption", "prior")
_LARGEST = 100_000  # bytes


@dataclass(frozen=True)
class Concept:
    """What a folder says of its pictures.

    Attributes:
        where: the file that says it, as the user calls it.
        repeats: how often a pass shows each; None: not said.
        resolutions: at which they are trained, each picture once for each; empty: as the config says.
        trigger: the word in front of their captions instead of the config's; None: not said.
        caption: of pictures without one.
        prior: whether they only remind the model of their class.
    """

    where: str
    repeats: int | None = None
    resolutions: tuple[int, ...] = ()
    trigger: str | None = None
    caption: str = ""
    prior: bool = False


def read_concepts(root: Path, files: list[Path]) -> dict[Path, Concept]:
    """The concepts of a folder by the folder that each is about.

    Raises:
        DataError: with every line that cannot be used, of all of them.
    """
    found: dict[Path, Concept] = {}
    problems: list[str] = []
    for file in files:
        where = file.relative_to(root).as_posix()
        if file.parent in found:
            problems.append(say("{where}: {other} says it already; delete one of them.", where=where, other=found[file.parent].where))
            continue
        try:
            found[file.parent] = _read(file, where)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return found


def concept_of(path: Path, concepts: Mapping[Path, Concept]) -> Concept | None:
    """The concept of a picture: that of the nearest folder around it that has one."""
    return next((concepts[place] for place in path.parents if place in concepts), None)


def _read(file: Path, where: str) -> Concept:
    import yaml

    try:
        text = decode_text(read_file(file, _LARGEST), "auto", lambda text: None, where)
        values = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        refuse_machines_fault(error)
        raise DataError(say("{where}: cannot be read: {error}.", where=where, error=error)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise DataError(say("{where}:{line}: is no YAML; each line is a key, a colon and a value.", where=where, line=line)) from None
    except (RecursionError, ValueError):
        raise DataError(say("{where}:{line}: is no YAML; each line is a key, a colon and a value.", where=where, line=1)) from None
    if values is None:
        return Concept(where)
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise DataError(say("{where}:{line}: is no YAML; each line is a key, a colon and a value.", where=where, line=1))
    lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
    problems: list[str] = []
    for key in (key.value for key, _ in node.value if [k.value for k, _ in node.value].count(key.value) > 1):
        problems.append(say("{where}:{line}: '{key}' stands there twice.", where=where, line=lines[key], key=key))
    known: dict[str, Any] = {}
    for key, value in values.items():
        at = f"{where}:{lines.get(str(key), 1)}"
        problem = _problem(str(key), value)
        if problem:
            problems.append(f"{at}: {problem}")
        elif value is not None:
            known[str(key)] = value
    if problems:
        raise DataError(list(dict.fromkeys(problems)))
    sides = known.get("resolution", ())
    return Concept(
        where,
        known.get("repeats"),
        tuple(dict.fromkeys(sides)) if isinstance(sides, list | tuple) else (sides,),
        str(known["trigger_word"]).strip() if "trigger_word" in known else None,
        " ".join(str(known.get("caption", "")).split()),
        known.get("prior", False),
    )


def _problem(key: str, value: Any) -> str:
    """What is wrong with a key of a concept; nothing, if it is right."""
    if key not in _KEYS:
        close = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.5)
        hint = say(" Did you mean '{word}'?", word=close[0]) if close else ""
        return say("unknown key '{key}'.{hint} There are: {keys}.", key=key, hint=hint, keys=", ".join(_KEYS))
    if value is None:
        return ""
    if key == "repeats" and not (type(value) is int and 0 <= value <= MOST_REPEATS):
        return say("repeats must be a whole number from 0 to {most}; got {value}.", most=MOST_REPEATS, value=_shown(value))
    if key == "resolution":
        sides = value if isinstance(value, list) and value else [value]
        if not all(type(side) is int and 64 <= side <= 4096 for side in sides):
            return say("resolution must be a whole number from 64 to 4096, or a list of such; got {value}.", value=_shown(value))
    if key in ("trigger_word", "caption") and not isinstance(value, str):
        return say("{key} must be text; write it in quotes; got {value}.", key=key, value=_shown(value))
    if key == "prior" and not isinstance(value, bool):
        return say("prior must be true or false; got {value}.", value=_shown(value))
    return ""


def _shown(value: Any) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
