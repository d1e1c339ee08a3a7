# SPDX-License-Identifier: Apache-2.0
"""Where ``prepare`` takes captions from: what is there already, or a captioner; and how the text is made of them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import click

from loraforge import REVIEW_COLUMNS, read_text, speaker

from ..data.cells import unquoted
from ..data.folders.account import strangers
from ..data.folders.caption_lines import caption_of, lines_of
from ..data.folders.concepts import CONCEPT, Concept, concept_of, read_concepts
from ..data.folders.inventory import inventory
from ..data.folders.keys import MOST_REPEATS
from ..data.folders.kohya import place_of
from ..data.folders.metadata import COLUMNS, NO, WIDE, metadata_rows, plain_text
from ..data.folders.names import FileNames
from ..data.folders.sidecars import match, read_captions
from ..data.folders.tables import tables_of
from ..data.review_columns import review_columns
from .captioners import CaptionerSettings, write_captions
from .inspection import Finding, InspectedPicture

say = speaker(__name__)

FINDINGS = "findings.csv"
_PLACEHOLDERS = ("trigger", "caption", "folder", "name")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# What an earlier call called a text that it made of no caption, in every language.
_NONE = ("no caption", "没有标注")


def describe(
    folder: Path,
    pictures: Sequence[InspectedPicture],
    template: str,
    trigger: str,
    captioner: str | None,
    settings: CaptionerSettings,
    progress: Callable[[str, int], AbstractContextManager[Callable[[], None]]],
) -> list[str]:
    """Gives every picture its caption, of the metadata, of a file beside it, of kohya's folder name, or of the captioner; and its text.

    Args:
        template: makes the text of the caption. Where an earlier call wrote what it makes of none, there is still none.
        progress: makes a bar from what is done and how often; entered, it gives the function that moves it on by one.

    Returns:
        Rows of the metadata that name no picture, captions whose encoding had to be guessed, and what the captioner did not do.

    Raises:
        DataError: if the metadata cannot be read.
        ModelError: if the captioner cannot be used.
    """
    rows, notes = _earlier(folder)
    beside = _beside(folder, pictures, notes)
    bare = bare_before(folder, {seen.name: rows[real] for seen in pictures if (real := seen.path.resolve()) in rows})
    concepts = _concepts(folder)
    words = {seen.name: _word(trigger, seen, concepts) for seen in pictures}
    for seen in pictures:
        row = rows.get(seen.path.resolve(), {})
        _kohya(seen, folder, notes)
        concept = concept_of(seen.path, concepts)
        seen.caption = (concept.caption if concept is not None else "") or seen.caption
        seen.caption = "\n".join(lines_of(row.get("text", ""))) or beside.get(seen.path, "") or seen.caption
        if seen.caption in (_bare(template, words[seen.name], seen), bare.get(seen.name)):
            seen.caption = ""
        if re.fullmatch("[0-9]{1,4}", row.get("repeats", "").strip()):
            seen.repeats = int(row["repeats"])
        seen.review = {name: row[name] for name in REVIEW_COLUMNS if row.get(name)}
        # With a reason beside it, it was our own proposal, which is made anew.
        if row.get("keep", "").strip().lower() in NO and not row.get("why", "").strip():
            seen.findings.append(Finding("left_out", say("the earlier metadata leaves it out"), drops=True))
    if captioner:
        wanted = [seen.path for seen in pictures if seen.keep and not seen.caption]
        if not wanted:
            notes.append(say("--captioner has written nothing: every picture that stays has a caption already"))
        with progress(say("writing captions"), len(wanted)) as tick:
            captions = write_captions(captioner, settings, wanted, tick, notes.append)
        for seen in pictures:
            seen.caption = captions.get(seen.path, seen.caption)
    for seen in pictures:
        word = words[seen.name]
        seen.text = _fill(template if word or template != checked_template(None, trigger) else "{caption}", word, seen)
        if template == "{caption}" and bare.get(seen.name):  # the word of the earlier call stays in front
            seen.text = f"{bare[seen.name]}, {seen.caption}" if seen.caption else bare[seen.name]
        if not seen.caption and seen.keep and not any(f.kind == "caption_unreadable" for f in seen.findings):
            seen.findings.append(Finding("no_caption", say("no caption")))
    return notes


def bare_before(folder: Path, rows: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The texts that an earlier call made of no caption, the trigger word most often, by the picture's name, where nobody has changed them.

    They stand in ``findings.csv``. Without that file: a text that several rows whose column ``why`` says so have in common.
    """
    file = folder / FINDINGS
    try:
        table = list(csv.DictReader(io.StringIO(read_text(file)))) if file.is_file() else []
    except (OSError, csv.Error):
        table = []
    said = {str(row.get("file_name")): unquoted(row.get("text") or "") for row in table if row.get("finding") == "no_caption"}
    found = {name: said[name] for name, row in rows.items() if said.get(name) and row.get("text") == said[name]}
    if not table:
        none = {name: row["text"] for name, row in rows.items() if row.get("text") and any(each in row.get("why", "") for each in _NONE)}
        often = Counter(none.values())
        found = {name: text for name, text in none.items() if often[text] > 1}
    return found


def _earlier(folder: Path) -> tuple[dict[Path, dict[str, str]], list[str]]:
    """The rows of the metadata that is there already, by the file's real path: text, keep, why, repeats, review; and its bad rows.

    Raises:
        DataError: if there is one that cannot be read.
    """
    bad: list[str] = []
    rows: dict[Path, dict[str, str]] = {}
    there = inventory(folder, {}, say("it is a link to another folder"))
    names = FileNames()
    for file in tables_of(there):
        columns = {**COLUMNS, "why": ("why",)}
        table = list(metadata_rows(file, bad, bad.append, there.name(file)))
        reviewed = review_columns(file.name, [row for _, row in table], lambda text: None)
        columns |= {name: (column,) for name, column in reviewed.items()}
        for where, row in table:
            said = {key: next((row[n] for n in names if row.get(n) not in (None, "")), "") for key, names in columns.items()}
            values = {key: plain_text(value) for key, value in said.items()}
            try:
                values["text"] = "" if WIDE in row else caption_of(said["text"], "any")[0] or ""
            except ValueError as error:
                bad.append(say("{where}: {problem}", where=where, problem=error))
                values["text"] = ""
            path = names.find(values["file"], [file.parent, folder])
            if path is not None:
                rows[path.resolve()] = values
            else:
                bad.append(say("{where}: there is no file {name}.", where=where, name=values["file"] or "''"))
    return rows, bad


def _concepts(folder: Path) -> dict[Path, Concept]:
    """What ``concept.yaml`` says of the folders."""
    there = inventory(folder, {}, "")
    return read_concepts(folder, [file for file in there.others if file.name.lower() in CONCEPT])


def _word(trigger: str, seen: InspectedPicture, concepts: Mapping[Path, Concept]) -> str:
    """The trigger word of a picture: that of its concept where it has one of its own; none for pictures that remind of a class."""
    concept = concept_of(seen.path, concepts)
    if concept is None or not trigger:
        return trigger
    return "" if concept.prior else trigger if concept.trigger is None else concept.trigger


def _kohya(seen: InspectedPicture, folder: Path, notes: list[str]) -> None:
    """Repeats and caption of a folder like ``10_a cat``: with a metadata.csv the loader reads folder names no more."""
    place = place_of(seen.path, folder)
    if place.repeats is None:
        return
    if place.repeats == 0:
        seen.findings.append(Finding("left_out", say("the name of its folder says 0 repeats"), drops=True))
        return
    seen.repeats = min(place.repeats, MOST_REPEATS)
    told = say("{folder}: a picture is repeated {most} times at most", folder=place.folder, most=MOST_REPEATS)
    notes += [told] if place.repeats > MOST_REPEATS and told not in notes else []
    seen.caption = place.caption


def _beside(folder: Path, pictures: Sequence[InspectedPicture], notes: list[str]) -> dict[Path, str]:
    """The text in the files beside the pictures, by picture, with its lines; found and decoded as the loader does it."""
    there = inventory(folder, {}, say("it is a link to another folder"))
    files = match([seen.path for seen in pictures], there.others, None)
    concepts = [file for file in there.others if file.name.lower() in CONCEPT]
    notes += strangers(there, files, {*files.of.values(), *there.metadata, *there.pictures, *concepts}, "")
    texts, problems, said = read_captions(files.of, folder, "auto")
    notes += said
    for seen in pictures:
        if seen.path in problems:
            seen.findings.append(Finding("caption_unreadable", say("its caption: {problem}", problem=problems[seen.path])))
    return {path: "\n".join(lines_of(text)) for path, text in texts.items()}


# --- the template ---------------------------------------------------------------------------------------------------------------


def checked_template(template: str | None, trigger: str) -> str:
    """The template that is used.

    Raises:
        click.UsageError: if it names what there is not, or has no place for the trigger word.
    """
    if template is None:
        return "{trigger}, {caption}" if trigger else "{caption}"
    unknown = sorted({name for name in _PLACEHOLDER.findall(template) if name not in _PLACEHOLDERS})
    known = " ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
    if unknown:
        raise click.UsageError(say("--caption: there is no {name}; it may contain {known}.", name=f"{{{unknown[0]}}}", known=known))
    if trigger and "{trigger}" not in template:
        raise click.UsageError(say("--caption '{template}' has no {place}, so --trigger would be lost.", template=template,
                                   place="{trigger}"))  # fmt: skip
    if "{trigger}" in template and not trigger:
        raise click.UsageError(say("--caption asks for {place}: give the word with --trigger.", place="{trigger}"))
    return template


def _values(trigger: str, seen: InspectedPicture) -> dict[str, str]:
    parent = re.sub(r"^\d+_", "", seen.path.parent.name)
    return {"trigger": trigger, "caption": seen.caption, "folder": parent.replace("_", " "), "name": seen.path.stem}


def _bare(template: str, trigger: str, seen: InspectedPicture) -> str:
    """What the template makes of a picture without a caption; no comma is left over."""
    values = {**_values(trigger, seen), "caption": ""}
    text = " ".join(_PLACEHOLDER.sub(lambda match: values[match[1]], template).split())
    return re.sub(r"(\s*,)+\s*$|^(\s*,)+\s*", "", re.sub(r",\s*(?=,)", "", text))


def _fill(template: str, trigger: str, seen: InspectedPicture) -> str:
    """The caption that the template makes; one that it made before stays as it is, so that calling twice is calling once."""
    if not seen.caption:
        return _bare(template, trigger, seen)
    if "\n" in seen.caption:  # several captions, or tags one a line: the loader says which
        return "\n".join(_fill(template, trigger, replace(seen, caption=line)) for line in seen.caption.split("\n"))
    values = _values(trigger, seen)
    pieces = _PLACEHOLDER.split(template)
    made = "".join(
        re.escape(piece) if i % 2 == 0 else "(.+)" if piece == "caption" else re.escape(values[piece]) for i, piece in enumerate(pieces)
    )
    if re.fullmatch(made, seen.caption):
        return seen.caption
    return " ".join(_PLACEHOLDER.sub(lambda match: values[match[1]], template).split())
