# SPDX-License-Identifier: Apache-2.0
"""``loraforge prepare image``: proposes which pictures of a folder to train on, and with which captions.

It writes a metadata.csv that the data loader reads; the pictures themselves stay as they are.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loraforge import Bar, DataError, FiniteRange, command, console, first_few, printable, read_file, show, speaker

if TYPE_CHECKING:
    from .captioners import CaptionerSettings
    from .inspection import InspectedPicture

say = speaker(__name__)

_SHEET = "contact-sheet.png"
_HEADER = ["file_name", "text", "keep", "why"]


@click.group()
def prepare() -> None:
    """Make a data set ready for training."""


@prepare.command("image")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the tables and the contact sheet go; by default --copy-to or FOLDER.")
@click.option("--trigger", default="", metavar="WORD", help="The word that calls the style or subject; put in front of captions.")
@click.option(
    "--caption",
    "given",
    metavar="TEMPLATE",
    help="How captions are built from {trigger} {caption} {folder} {name}; '{caption}', or '{trigger}, {caption}' with --trigger.",
)
@click.option(
    "--captioner",
    metavar="MODEL",
    help="What describes pictures without a caption: a model like BLIP or Qwen-VL, a WD tagger (folder or hub id).",
)
@click.option("--caption-prompt", metavar="TEXT", help="What a chat model (Qwen-VL, JoyCaption) is told to write.")
@click.option("--caption-tokens", type=click.IntRange(8, 4096), help="The longest caption; by default 75, of chat models 512.")
@click.option("--tag-threshold", type=FiniteRange(0, 1), help="From which confidence on a WD tagger's tags are written; 0.35 by default.")
@click.option("--character-threshold", type=FiniteRange(0, 1), help="The same for characters that it knows; 0.35 by default.")
@click.option("--undesired-tags", metavar="TAGS", help="Tags that are never written, with commas.")
@click.option("--copy-to", type=click.Path(path_type=Path), help="Also write upright RGB PNG copies into this new folder.")
@click.option("--min-size", type=click.IntRange(min=1), default=256, show_default=True, help="The shorter side in pixels; below is small.")
@click.option("--overwrite", is_flag=True, help="Replace the metadata.csv and the other files of an earlier call.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def image(folder: Path, given: str | None, trigger: str, as_json: bool, **options: Any) -> None:
    """Find damaged, double, small and blurred pictures in FOLDER and missing captions; write metadata.csv and a contact sheet.

    It only proposes: correct the columns text and keep in metadata.csv as you like. No picture is changed or deleted.
    """
    from .captioning import FINDINGS, checked_template, describe
    from .contact_sheet import unwritable

    settings = _asked(options)
    template = checked_template(given, trigger)
    copy_to: Path | None = options["copy_to"]
    out: Path = options["out"] or copy_to or folder
    if not folder.is_dir():
        raise DataError(say("{path}: there is no such folder.", path=folder.absolute()))
    home = copy_to or out
    targets = {"metadata": home / "metadata.csv", "sheet": out / _SHEET, "findings": out / FINDINGS}
    _may_write(targets, folder, copy_to, options["overwrite"])
    pictures, strangers = _inspect_all(folder, options["min_size"])
    notes = [*strangers, *describe(folder, pictures, template, trigger, options["captioner"], settings, _progress)]
    if strange := unwritable(pictures):
        notes.append(
            say(
                "no font on this computer has the characters of {n} names ({names}): the contact sheet gives their row in metadata.csv "
                "instead. Install Noto Sans CJK, or run pip install 'loraforge[fonts]'",
                n=len(strange),
                names=first_few(strange),
            )
        )
    names = _copies(pictures) if copy_to else {}
    _write(pictures, names, copy_to, targets)
    written = [*targets.values(), *((copy_to / name for name in names.values()) if copy_to else ())]
    _tell(folder=folder, home=home, pictures=pictures, notes=notes, written=written, copies=len(names), trigger=trigger, as_json=as_json)


def _asked(options: Mapping[str, Any]) -> CaptionerSettings:
    """How the captioner is asked.

    Raises:
        click.UsageError: if there is none.
    """
    from .captioners import CaptionerSettings
    from .tagging import TagSettings

    names = ("caption_prompt", "caption_tokens", "tag_threshold", "character_threshold", "undesired_tags")
    given = {name: options[name] for name in names if options[name] is not None}
    if given and not options["captioner"]:
        raise click.UsageError(say("{option} says how --captioner writes: name a model with --captioner.",
                                   option="--" + next(iter(given)).replace("_", "-")))  # fmt: skip
    about_tags = [name for name in names[2:] if name in given]
    tags = TagSettings(
        general=given.get("tag_threshold", TagSettings.general),
        character=given.get("character_threshold", TagSettings.character),
        undesired=tuple(tag for tag in re.split("[,，、]", given.get("undesired_tags", "")) if tag.strip()),
    )
    return CaptionerSettings(given.get("caption_prompt"), given.get("caption_tokens"), tags if about_tags else None)


# --- before anything is read ---------------------------------------------------------------------------------------------------


def _may_write(targets: Mapping[str, Path], folder: Path, copy_to: Path | None, overwrite: bool) -> None:
    """Raises:
    DataError: with everything that is in the way.
    """
    from .contact_sheet import is_sheet

    bad = []
    for path in targets.values():
        if not path.exists():
            continue
        if not overwrite:
            bad.append(say("{path} exists already. --overwrite replaces it, --out DIR writes elsewhere.", path=path))
        elif path.is_dir() or (path.name == _SHEET and not is_sheet(path)):
            bad.append(say("{path} is not from an earlier call, so it is not replaced. Use --out DIR.", path=path))
    if copy_to is not None:
        if copy_to.resolve().is_relative_to(folder.resolve()):
            bad.append(say("--copy-to {path} lies in the folder of the pictures; name one outside of it.", path=copy_to))
        elif copy_to.exists() and not copy_to.is_dir():
            bad.append(say("--copy-to {path} is a file; name a folder.", path=copy_to))
        elif copy_to.is_dir() and any(copy_to.iterdir()) and not (overwrite and _is_ours(copy_to / "metadata.csv")):
            bad.append(say("--copy-to {path} is not empty; name a new folder (--overwrite replaces earlier copies only).", path=copy_to))
    if bad:
        raise DataError(bad)


def _is_ours(metadata: Path) -> bool:
    try:
        return read_file(metadata).startswith(",".join(_HEADER).encode())
    except OSError:
        return False


# --- looking -------------------------------------------------------------------------------------------------------------------


def _inspect_all(folder: Path, min_size: int) -> tuple[list[InspectedPicture], list[str]]:
    """All pictures in the order of their names, with what they show by themselves and as copies of each other; and what to say of picture
    files of kinds that are not read."""
    from ..data.folders.account import about_doubled, about_masks
    from ..data.folders.inventory import inventory
    from ..data.folders.masks import find_masks
    from ..data.folders.sidecars import match
    from ..data.pictures import SUFFIXES, unread
    from .inspection import Finding, inspect_picture, mark_copies

    there = inventory(folder, {}, say("it is a link to another folder"))
    masks = find_masks(folder, there.pictures, match(there.pictures, there.others, None).of)
    files = [path for path in there.pictures if path not in masks.files]
    told = unread([there.name(path) for path in there.unread])
    if not files:
        none = say("{path}: there are no pictures in it ({kinds}).", path=folder.absolute(), kinds=", ".join(SUFFIXES))
        raise DataError([none, *told])
    told += about_doubled(there)
    told += about_masks(masks, there, "auto", [])
    with _progress(say("looking at pictures"), len(files)) as tick:

        def one(path: Path) -> InspectedPicture:
            seen = inspect_picture(path, path.relative_to(folder).as_posix(), min_size)
            tick()
            return seen

        from concurrent.futures import ThreadPoolExecutor

        # Few: a picture of 100 megapixels takes half a gigabyte while it is open.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            pictures = list(pool.map(one, files))
    for seen in pictures:
        if not seen.path.resolve().is_relative_to(folder.resolve()):
            message = say("it is a link to a file outside of the folder; copy the picture into it")
            seen.findings.append(Finding("outside", message, drops=True))
    mark_copies(pictures)
    return pictures, told


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    done = itertools.count(1)
    with Bar(console(stderr=True)) as bar:
        bar.start(total, 0, what)
        yield lambda: bar.update(next(done), total, what)


# --- writing -------------------------------------------------------------------------------------------------------------------


def _copies(pictures: Sequence[InspectedPicture]) -> dict[str, str]:
    """The name of each readable picture's copy, by its own name; ``a.jpg`` beside ``a.png`` becomes ``a-2.png``."""
    names: dict[str, str] = {}
    taken = set()
    for seen in pictures:
        if not seen.width:
            continue
        stem, number = seen.name.removesuffix(seen.path.suffix), 1
        # Compared without case, as Windows and macOS do; the sheet's name is not free either.
        while (name := f"{stem}.png" if number == 1 else f"{stem}-{number}.png").lower() in taken or Path(name).name == _SHEET:
            number += 1
        taken.add(name.lower())
        names[seen.name] = name
    return names


def _write(pictures: Sequence[InspectedPicture], names: Mapping[str, str], copy_to: Path | None, targets: Mapping[str, Path]) -> None:
    """Writes all files or none."""
    from loraforge import REVIEW_COLUMNS

    from ..data.cells import quoted
    from ..data.pictures import read_picture
    from .contact_sheet import write_sheet

    repeats = any(seen.repeats is not None for seen in pictures)
    review = [name for name in REVIEW_COLUMNS if any(seen.review.get(name) for seen in pictures)]
    rows: list[list[object]] = [[*_HEADER, *(["repeats"] if repeats else []), *review]]
    for seen in pictures:
        name = names.get(seen.name, seen.name)
        # A name that looks like a formula keeps its meaning, for other programs too.
        row = [f"./{name}" if name != quoted(name) else name, seen.text, "yes" if seen.keep else "no", seen.why]
        again = [seen.repeats if seen.repeats is not None else ""] if repeats else []
        rows.append([*row, *again, *(seen.review.get(name, "") for name in review)])
    # The text beside "no_caption" is what the next call knows for the trigger word alone.
    found: list[list[object]] = [["file_name", "finding", "keep", "message", "text"]]
    found += [
        [printable(seen.name), f.kind, "no" if f.drops else "yes", printable(f.message), seen.text if f.kind == "no_caption" else ""]
        for seen in pictures
        for f in seen.findings
    ]

    def copier(path: Path) -> Callable[[Path], None]:
        return lambda target: read_picture(path).save(target, format="PNG")

    writers: dict[Path, Callable[[Path], None]] = {}
    if copy_to is not None:
        writers = {copy_to / names[seen.name]: copier(seen.path) for seen in pictures if seen.name in names}
    writers[targets["sheet"]] = lambda path: write_sheet(pictures, path)
    writers[targets["findings"]] = lambda path: _write_csv(path, found)
    writers[targets["metadata"]] = lambda path: _write_csv(path, rows)
    _all_or_none(writers)


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    from ..data.cells import quoted

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([quoted(str(cell)) for cell in row] for row in rows)
    path.write_bytes(text.getvalue().encode("utf-8", errors="replace"))


def _all_or_none(writers: Mapping[Path, Callable[[Path], None]]) -> None:
    """Writes each file under a hidden name beside its place, then renames all; after any failure everything is as before.

    Raises:
        DataError: if a place cannot be written to.
    """
    new = {target: target.with_name(f".{target.name}.{os.getpid()}.new") for target in writers}
    old = {target: target.with_name(f".{target.name}.{os.getpid()}.old") for target in writers}
    made: list[Path] = []
    placed: list[Path] = []
    try:
        for target, write in writers.items():
            made += [p for p in (target.parent, *target.parent.parents) if not p.exists() and p not in made]
            target.parent.mkdir(parents=True, exist_ok=True)
            write(new[target])
        for target in writers:
            if target.exists():
                os.replace(target, old[target])
            placed.append(target)
            os.replace(new[target], target)
    except BaseException as error:
        for target in placed:
            target.unlink(missing_ok=True)
        for target, path in old.items():
            if path.exists():
                os.replace(path, target)
        for path in new.values():
            with contextlib.suppress(OSError):
                path.unlink()
        for empty in sorted(made, key=lambda p: -len(p.parts)):
            with contextlib.suppress(OSError):
                empty.rmdir()
        if isinstance(error, OSError):
            place = error.filename or next(iter(writers)).parent
            raise DataError(say("{path} cannot be written: {reason}. --out DIR writes elsewhere.", path=place, reason=error)) from None
        raise
    for path in old.values():
        path.unlink(missing_ok=True)


# --- telling -------------------------------------------------------------------------------------------------------------------


def _tell(
    *,
    folder: Path,
    home: Path,
    pictures: Sequence[InspectedPicture],
    notes: Sequence[str],
    written: Sequence[Path],
    copies: int,
    trigger: str,
    as_json: bool,
) -> None:
    kept = sum(seen.keep for seen in pictures)
    data = home if copies else folder
    settings = [f"train_data_dir={data}", *([f"metadata_path={home / 'metadata.csv'}"] if home.resolve() != data.resolve() else [])]
    settings += [f"trigger_word={trigger}"] if trigger else []
    following = command("loraforge", "check", "image", "CONFIG.yaml", *(word for setting in settings for word in ("--set", setting)))
    found = [(seen, finding) for seen in pictures for finding in seen.findings]
    if as_json:
        value = {
            "folder": str(folder),
            "pictures": len(pictures),
            "keep": kept,
            "left_out": len(pictures) - kept,
            "findings": [{"file": s.name, "kind": f.kind, "keep": not f.drops, "message": f.message} for s, f in found],
            "notes": list(notes),
            "written": [str(path) for path in written],
            "next": following,
        }
        text = json.dumps(value, ensure_ascii=False, indent=2)
        show("".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text))
        return
    from rich.text import Text

    out = console()

    def line_of(text: str, style: str = "") -> Text:
        return Text(text, style=style)

    out.print(line_of(say("{n} pictures: {kept} to train on, {left} to leave out", n=len(pictures), kept=kept, left=len(pictures) - kept)))
    for note in notes:
        out.print(line_of(f"  {note}"))
    bare = [seen.name for seen, finding in found if finding.kind == "no_caption"]
    groups = {
        say("Left out:"): [(s, f) for s, f in found if f.drops],
        say("To look at:"): [(s, f) for s, f in found if not f.drops and s.keep and f.kind != "no_caption"],
    }
    for heading, those in groups.items():
        lines = [line_of(f"  {seen.name}: {finding.message}", style="red" if finding.drops else "") for seen, finding in those]
        for line in [line_of(heading), *lines] if lines else ():
            out.print(line)
    if bare:
        # Most often they are all of a folder: one line says it, findings.csv has each.
        told = say("{n} pictures have no caption: {names}", n=len(bare), names=_some(bare))
        advice = say("the trigger word stands for it") if trigger else say("write one into metadata.csv, or use --trigger or --captioner")
        out.print(line_of(f"{told} ({advice})"))
    for path in written[: len(written) - copies]:
        out.print(line_of(say("written: {path}", path=path)))
    if copies:
        out.print(line_of(say("written: {n} copies in {path}", n=copies, path=home)))
    out.print(
        line_of(say("Look at the contact sheet, correct the columns text and keep in metadata.csv as you like. Next, with your config:"))
    )
    out.print(line_of(f"  {following}"))
