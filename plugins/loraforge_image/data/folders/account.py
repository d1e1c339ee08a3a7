# SPDX-License-Identifier: Apache-2.0
"""The account of a folder: how many pictures are used and with whose captions, what is left out and why, and every other file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loraforge import first_few, speaker

from .inventory import Inventory
from .masks import Masks
from .names import is_cache, is_table
from .sidecars import Sidecars

say = speaker(__name__)


@dataclass
class Account:
    """Counts what is read, and writes it down.

    Attributes:
        called: the name of the folder.
        sources: how many pictures have their caption from where: ``own``, ``folder``, ``trigger`` or ``none``.
        left: pictures that are left out, by the reason.
        empty: caption files in which nothing stands.
        lines_left: files of whose captions further lines are left out.
        several: how many pictures have several captions.
        remarks: further sentences, in their order.
    """

    called: str
    sources: Counter[str] = field(default_factory=Counter)
    left: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    empty: list[str] = field(default_factory=list)
    lines_left: list[str] = field(default_factory=list)
    several: int = 0
    remarks: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The first line: the pictures in numbers."""
        used = sum(self.sources.values())
        words = {
            "folder": say("{n} take that of their folder", n=self.sources["folder"]),
            "trigger": say("{n} take the trigger word alone", n=self.sources["trigger"]),
            "none": say("{n} have none", n=self.sources["none"]),
        }
        line = say("{folder}: {n} pictures, {own} with a caption of their own", folder=self.called, n=used, own=self.sources["own"])
        line += "".join(f"; {text}" for kind, text in words.items() if self.sources[kind])
        out = sum(map(len, self.left.values()))
        why = ", ".join(f"{reason} ({len(names)})" for reason, names in self.left.items())
        return line + (say("; {n} left out: {why}", n=out, why=why) if out else "")

    def lines(self) -> list[str]:
        """All of it, a line for each kind of thing."""
        made = [self.summary()]
        made += [
            say("left out, because {reason}: {names}", reason=reason, names=counted(names))
            for reason, names in self.left.items()
            if any(names)
        ]
        if self.empty:
            made.append(say("caption files in which nothing stands: {names}", names=counted(self.empty)))
        if self.lines_left:
            made.append(
                say(
                    "{n} captions have more than one line, of which the first is read ({names}). caption_lines: join makes one caption of "
                    "them (tags, one a line), any takes another one at every step.",
                    n=len(self.lines_left),
                    names=first_few(self.lines_left),
                )
            )
        if self.several:
            made.append(say("{n} pictures have several captions, of which every step draws one", n=self.several))
        return made + self.remarks


def counted(names: Sequence[str]) -> str:
    """The first five names, and how many there are if there are more."""
    return first_few(names) + (f" ({len(names)})" if len(names) > 5 else "")


def strangers(there: Inventory, captions: Sidecars, used: set[Path], metadata: str) -> list[str]:
    """A sentence for each kind of file that is not used, naming the first of them.

    Args:
        used: what is read, of whatever kind.
        metadata: the metadata file for which captions beside pictures are not read; may be empty.
    """

    def named(files: Sequence[Path]) -> str:
        return counted([there.name(file) for file in files])

    said: list[str] = []
    if captions.odd:
        pairs = counted([f"{there.name(file)} ({path.name})" for path, file in captions.odd.items() if file in used])
        said += [say("read as captions, though they are called otherwise than usual: {names}", names=pairs)] if pairs else []
    not_read = [file for file in dict.fromkeys(captions.of.values()) if file not in used]
    if not_read and metadata:
        said.append(say("caption files that are not read, because {file} says the captions: {names}", file=metadata, names=named(not_read)))
    if captions.second:
        pairs = counted([f"{there.name(file)} ({path.name})" for file, path in captions.second.items()])
        said.append(say("caption files that are not read, because their picture has another one: {names}", names=pairs))
    if captions.orphans:
        said.append(
            say(
                "text files that belong to no picture: {names}. A caption is called like its picture, with .txt or what caption_extension "
                "says, and lies beside it.",
                names=named(captions.orphans),
            )
        )
    rest = [file for file in there.others if file not in used]
    odd = [file for file in captions.elsewhere if file not in used and not is_cache(file)]
    if odd:
        said.append(
            say(
                "files that are called like pictures, but are no captions by their ending: {names}. caption_extension takes another one.",
                names=named(odd),
            )
        )
    like = set(odd)
    tables = [file for file in [*there.metadata, *rest] if file not in used and is_table(file) and file not in like]
    if tables:
        said.append(say("tables that are not read: {names}. metadata_path names the one that lists the pictures.", names=named(tables)))
    caches = [file for file in rest if is_cache(file)]
    if caches:
        said.append(say("files of numbers, such as other trainers' caches, that are not read: {names}", names=named(caches)))
    told = {*captions.of.values(), *captions.second, *captions.orphans, *odd, *tables, *caches}
    others = [file for file in rest if file not in told]
    if others:
        said.append(say("other files that are not read: {names}", names=named(others)))
    for folder, reason in there.closed.items():
        said.append(say("{folder}: not looked into; {reason}", folder=there.name(folder), reason=reason))
    return said


def about_doubled(there: Inventory) -> list[str]:
    """Which Photoshop files are left out, because what was exported from them is there."""
    if not there.doubled:
        return []
    names = [there.name(path) for path in there.doubled]
    text = say(
        "{n} Photoshop files are left out, because the same name is there as a picture: {names}", n=len(names), names=first_few(names)
    )
    return [text]


def about_masks(found: Masks, there: Inventory, mode: str, shapes: Sequence[str]) -> list[str]:
    """What becomes of masks, and of what is called so.

    Args:
        mode: the key ``mask``.
        shapes: masks whose proportions are not those of their picture, with both sizes.
    """

    def named(files: Sequence[Path]) -> str:
        return counted([there.name(file) if file.is_relative_to(there.root) else file.name for file in files])

    said: list[str] = []
    files = sorted(found.files - set(found.orphans) - set(found.second))
    if files and mode in ("off", "alpha"):
        said.append(say("masks that are not used, because mask is {mode}: {names}", mode=mode, names=named(files)))
    elif files:
        said.append(say("masks, which are not learned themselves: {names}", names=named(files)))
    if found.second:
        said.append(say("masks that are not used, because their picture has another one: {names}", names=named(found.second)))
    if found.orphans:
        said.append(say("masks that belong to no picture, and are left out: {names}", names=named(found.orphans)))
    if found.ordinary:
        said.append(
            say(
                "called like masks, but trained as pictures, because no picture is theirs or they show something themselves: {names}",
                names=named(found.ordinary),
            )
        )
    if shapes:
        said.append(say("masks whose proportions are not those of their picture: {names}", names=counted(shapes)))
    return said
