# SPDX-License-Identifier: Apache-2.0
"""Whether the data of a run, and the template that makes them into text, are what they were."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ..errors import LoraForgeError
from ..messages import catalogue, speaker
from ..plan import Plan, make_plan
from ..plugin_api.types import Record
from .verdicts import ADDED, ALTERED, DIFFERS, MISSING, UNCHANGED, UNCHECKED, Verifier

say = speaker(__name__)

_SKIPPED = "skipped: {line}"  # the note of ``dataset.load_data``


def verify_data(verifier: Verifier, wanted: bool) -> None:
    """Every row, and the template that makes them into text.

    Args:
        wanted: whether the data are read at all.
    """
    recorded = verifier.entry("data", "data", "rows", form=list)
    if recorded is None:
        return
    if not all(isinstance(row, dict) and isinstance(row.get("sha256"), str) for row in recorded):
        verifier.add("data", "data.rows", ALTERED, say("the manifest's entry is not of the form that LoRAForge writes"))
        return
    config = [part for part in verifier.parts if part.kind == "file" and part.name == verifier.run.config_file.name]
    reason = "" if wanted else say("it was not asked for")
    if any(part.state != UNCHANGED for part in config) or verifier.run.config_file.is_symlink():
        reason = say("config.yaml, which says where the data are, is not the one of the run")
    records: list[Record] | None = None
    state = UNCHECKED
    if not reason:
        try:
            plan = _plan(verifier)
            if _there(plan):
                state = ALTERED  # from here on, what cannot be read was changed
                records = _load(verifier, plan, {row["sha256"] for row in recorded})
        except (LoraForgeError, OSError) as error:
            reason = str(error).split("\n")[0]
    if records is None:
        verifier.add("data", "rows", state, reason or say("the data are not on this computer, or no longer where they were"))
        verifier.add("template", "template", UNCHECKED, say("this needs the data"))
        return
    _rows(verifier, recorded, records)
    _template(verifier, plan, records)


def _plan(verifier: Verifier) -> Plan:
    overrides = [f"model_family={json.dumps(str(verifier.manifest.get('family')))}"]  # the base, which tells it, may be gone
    return make_plan(verifier.host, str(verifier.manifest.get("task")), verifier.run.config_file, overrides, paths=False, exporting=False)


def _there(plan: Plan) -> bool:
    """Whether there is anything in the place where the data were."""
    place = Path(plan.config.metadata_path or plan.config.train_data_dir)
    return os.path.isfile(place) or (os.path.isdir(place) and any(place.iterdir()))


def _load(verifier: Verifier, plan: Plan, used: Collection[str]) -> list[Record]:
    """The rows that the run would use today, before it looks at each one.

    Args:
        used: the hashes of the rows that it used; none of these was left out, whatever stands in its place today.
    """
    # A row that can no longer be read is a row that is gone; it must not hide what became of the others.
    lenient = plan.config.model_copy(update={"on_bad_row": "skip"})
    found: list[Record] = list(plan.loader.load(lenient, plan.keys, lambda text: None))
    # Rows that the run left out, because somebody rejected them or because they were too long, are not among those it used.
    left = _left_out(verifier.manifest["data"])
    return [r for r in found if r.review.approved is not False and (r.content_hash() in used or not left(r))]


def _left_out(data: Mapping[str, Any]) -> Callable[[Record], bool]:
    """Whether the run left a row out: by its place or its hash; an earlier LoRAForge said so in its notes only."""
    skipped = data.get("skipped")
    if isinstance(skipped, list):
        names = {name for name in skipped if isinstance(name, str)}
        return lambda record: record.where in names or record.content_hash() in names
    notes = data.get("notes")
    # The run may have spoken another language than this command does.
    heads = tuple(sentence.partition("{")[0] for sentence in (_SKIPPED, catalogue("loraforge", "zh").get(_SKIPPED, _SKIPPED)))
    told = [note for note in notes if isinstance(note, str) and note.startswith(heads)] if isinstance(notes, list) else []
    return lambda record: any(note.startswith(tuple(f"{head}{record.where}: " for head in heads)) for note in told)


def _rows(verifier: Verifier, recorded: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> None:
    before, after = [row["sha256"] for row in recorded], [record.content_hash() for record in records]
    altered, gone, new, moved = match(before, after)
    for i, j in altered:
        here, there = str(recorded[i].get("where")), records[j].where
        place = "" if here == there else say(" (today it is {where})", where=there)
        verifier.add("data", here, ALTERED, say("the row does not say what it said when the run was trained") + place)
    for i in gone:
        verifier.add("data", recorded[i].get("where"), MISSING, say("the row is gone from the data, or can no longer be read"))
    for j in new:
        verifier.add("data", records[j].where, ADDED, say("the row was put into the data afterwards; the run did not see it"))
    same, state = len(before) - len(altered) - len(gone), ALTERED if altered or gone or new else DIFFERS if moved else UNCHANGED
    order = say(" The order of the rows is another.") if moved else ""
    verifier.add(
        "data",
        "rows",
        state,
        say("{same} of {all} rows say what they said when the run was trained.", same=same, all=len(before)) + order,
    )


def _template(verifier: Verifier, plan: Plan, records: Sequence[Record]) -> None:
    recorded = verifier.entry("template", "template")
    if recorded is None:
        return
    if not verifier.sound("base") or not verifier.sound("data"):
        verifier.add(
            "template",
            recorded.get("name"),
            UNCHECKED,
            say("it is made from base and data, and these are not what they were, or were not checked"),
        )
        return
    folder = verifier.manifest["base"]["folder"]
    # By its folder: a hub would be asked for a name.
    config = plan.config.model_copy(update={"base_model": folder})
    try:
        made = json.loads(json.dumps(dict(plan.template.prepare(config, plan.keys, records).describe()), default=str))
    except LoraForgeError as error:
        verifier.add("template", recorded.get("name"), UNCHECKED, str(error))
        return
    # Why it was chosen is a sentence in somebody's language.
    if {**made, "reason": None} == {**recorded, "reason": None}:
        verifier.add("template", recorded.get("name"), UNCHANGED, say("base and data give the template that the manifest describes"))
    else:
        verifier.add("template", recorded.get("name"), DIFFERS, say("this LoRAForge would make another template from base and data"))


def match(before: Sequence[str], after: Sequence[str]) -> tuple[list[tuple[int, int]], list[int], list[int], bool]:
    """What became of rows, by index: (altered: then and now, gone, new, whether rows only changed places).

    Rows that stand between the same unchanged neighbours then and now are one row whose text was altered, whatever numbers they have.
    """
    old, fresh = Counter(before) - Counter(after), Counter(after) - Counter(before)
    altered: list[tuple[int, int]] = []
    gone: list[int] = []
    new: list[int] = []
    moved = False
    for kind, i, i_end, j, j_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        mine = [x for x in range(i, i_end) if _take(old, before[x])]
        theirs = [y for y in range(j, j_end) if _take(fresh, after[y])]
        moved = moved or len(mine) + len(theirs) < (i_end - i) + (j_end - j)
        both = min(len(mine), len(theirs))
        altered += zip(mine, theirs, strict=False)
        gone += mine[both:]
        new += theirs[both:]
    return altered, gone, new, moved


def _take(counts: Counter[str], key: str) -> bool:
    there = counts[key] > 0
    counts[key] -= there
    return there
