# SPDX-License-Identifier: Apache-2.0
"""The part of sd-scripts' configs that says where the pictures are: ``[general]``, ``[[datasets]]`` and ``[[datasets.subsets]]``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from loraforge import Given, speaker

say = speaker(__name__)

# Of a subset what a concept.yaml can say, by our key; and what holds for the whole run here.
_CONCEPT = {"num_repeats": "repeats", "class_tokens": "caption", "is_reg": "prior", "resolution": "resolution"}


def data_sets(values: dict[str, Any], given: Given, origins: dict[str, str], lost: dict[str, str], notes: list[str]) -> None:
    """Puts the sections into the keys of a run, as far as one run can say them."""
    named = values.pop("dataset_config", None)
    if isinstance(named, str):
        more = given.read(named)
        if more is None:
            lost["dataset_config"] = say("{file} was not found, or cannot be read; it says where the pictures are.", file=named)
        else:
            for key, value in more.items():
                values.setdefault(key, value)
                origins.setdefault(key, "dataset_config")
    listed = values.pop("datasets", None)
    if "num_repeats" in values:  # of [general]
        values["repeats"], origins["repeats"] = values.pop("num_repeats"), "num_repeats"
    if listed is None:
        return
    origin = origins.get("datasets", "datasets")
    sets = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    subsets = [_subset(one, inner) for one in sets for inner in _listed(one.get("subsets"))]
    if not subsets:
        lost[origin] = say("it has no [[datasets]] with [[datasets.subsets]]: write train_data_dir yourself.")
        return
    shared = {key for key in subsets[0] if all(other.get(key) == subsets[0][key] for other in subsets)}
    for key in shared - {"image_dir", "metadata_file", "class_tokens", "is_reg"}:
        name = "repeats" if key == "num_repeats" else key
        values[name], origins[name] = subsets[0][key], origin
    own = [one for one in subsets if not one.get("is_reg")]
    prior = [one for one in subsets if one.get("is_reg")]
    if len(prior) == 1:
        values["reg_data_dir"], origins["reg_data_dir"] = prior[0].get("image_dir"), origin
    _folders(values, own, prior if len(prior) > 1 else [], shared, origins, lost, origin)


def _listed(subsets: Any) -> list[Mapping[str, Any]]:
    """The subsets of a data set; of one without any, an empty one."""
    return [one for one in subsets if isinstance(one, dict)] if isinstance(subsets, list) and subsets else [{}]


def _subset(dataset: Mapping[str, Any], subset: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for a subset: its own, and that of its data set."""
    return {**{key: value for key, value in dataset.items() if key != "subsets"}, **subset}


def _folders(
    values: dict[str, Any],
    own: list[dict[str, Any]],
    prior: list[dict[str, Any]],
    shared: set[str],
    origins: dict[str, str],
    lost: dict[str, str],
    origin: str,
) -> None:
    """Where the pictures are, and the ``concept.yaml`` that says what holds for one folder alone."""
    folders = [str(one.get("image_dir") or "") for one in (*own, *prior)]
    if not folders or not all(folders):
        lost[origin] = say("a subset names no image_dir (metadata_file is not read): write train_data_dir yourself.")
        return
    origins["train_data_dir"] = origin
    values["train_data_dir"] = folders[0] if len(folders) == 1 else _around(folders)
    advice = []
    for one, folder in zip((*own, *prior), folders, strict=True):
        different = {key: value for key, value in one.items() if key not in shared or key == "class_tokens"}
        lines = [f"{_CONCEPT[key]}: {_text(value)}" for key, value in different.items() if key in _CONCEPT]
        rest = sorted(key for key in different if key not in _CONCEPT and key != "image_dir")
        if lines:
            advice.append(say("{folder}: write a concept.yaml into it, with {lines}.", folder=folder, lines="; ".join(lines)))
        if rest:
            advice.append(say("{folder}: {keys} hold for a whole run here.", folder=folder, keys=", ".join(rest)))
    if len(folders) > 1:
        advice.append(say("All pictures in {folder} are read: nothing else may lie there.", folder=values["train_data_dir"] or "?"))
    if advice:
        lost[origin] = " ".join(advice)


def _around(folders: list[str]) -> str:
    """The folder that all of them lie in; empty if there is none."""
    parents = {str(PurePath(folder.replace("\\", "/")).parent) for folder in folders}
    if len(parents) == 1:
        return parents.pop()
    try:
        return os.path.commonpath([folder.replace("\\", "/") for folder in folders])
    except ValueError:
        return ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
