# SPDX-License-Identifier: Apache-2.0
"""Which folders the page may see, and the works in the studio's own.

A work is a folder: its config, what was brought, tables made of it, runs, and ``commands.sh`` with every command that was given. So it can be
gone on with in a terminal at any time, and nothing of it is the studio's alone::

    studio/contracts/
      contracts.yaml     the config
      uploads/           what was brought, as it was
      data/              tables that were made of it
      output/            runs
      commands.sh        what was done
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loraforge import LoraForgeError, command, printable, speaker, write_text

from ..problems import Refused

say = speaker(__name__)

HIDDEN = ".studio"
"""The folder in which a work, and the studio, keep what only the studio needs: it can be deleted while none runs."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}  # by Windows


@dataclass(frozen=True)
class Work:
    """One folder of the studio."""

    folder: Path

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder.name

    @property
    def config(self) -> Path:
        """Its config, whether or not there is one yet."""
        return self.folder / f"{self.folder.name}.yaml"

    @property
    def uploads(self) -> Path:
        """What was brought, as it was."""
        return self.folder / "uploads"

    @property
    def data(self) -> Path:
        """Tables that were made."""
        return self.folder / "data"

    @property
    def hidden(self) -> Path:
        """What only the studio needs."""
        return self.folder / HIDDEN

    def shown(self, words: Sequence[object]) -> str:
        """A command as it would be typed in this folder."""
        return command("loraforge", *words)

    def note(self, words: Sequence[object]) -> str:
        """Adds a command to ``commands.sh``; the line."""
        line = self.shown(words)
        file = self.folder / "commands.sh"
        try:
            new = not file.exists()
            with file.open("a", encoding="utf-8", newline="\n") as out:
                if new:
                    out.write(f"# {say('What the studio did here, to be done again in a terminal.')}\n")
                out.write(f"# {time.strftime('%Y-%m-%d %H:%M:%S')}\n{line}\n")
        except OSError as error:
            raise Refused(507, say("{file} cannot be written: {error}.", file=file, error=error)) from None
        return line


class Folders:
    """The folder of the studio and those that it may read.

    Args:
        home: the studio's own; made if it is not there.
        allowed: others, to be read.
    """

    def __init__(self, home: Path, allowed: Sequence[Path] = ()) -> None:
        self.home = home.absolute().resolve()
        self.allowed = [folder.absolute().resolve() for folder in allowed]

    def works(self) -> list[Work]:
        """Those that there are, the newest first."""
        found = [
            Work(place) for place in self.home.iterdir() if place.is_dir() and not place.name.startswith(".") and not place.is_symlink()
        ]
        found = [work for work in found if work.hidden.is_dir() or work.config.is_file()]
        return sorted(found, key=_newest, reverse=True)

    def work(self, name: str) -> Work:
        """
        Raises:
            Refused: if there is none of this name.
        """
        if name == safe_name(name):
            work = Work(self.home / name)
            if work.folder.is_dir() and not work.folder.is_symlink():
                return work
        raise Refused(404, say("there is no work '{name}' in {folder}.", name=printable(name), folder=self.home))

    def new(self, name: str) -> Work:
        """A new work; a number is added to a name that is taken."""
        wanted = safe_name(name) or "work"
        for number in range(1, 10_000):
            work = Work(self.home / (wanted if number == 1 else f"{wanted}-{number}"))
            try:
                work.folder.mkdir()
                work.hidden.mkdir()
                return work
            except FileExistsError:
                continue
            except OSError as error:
                raise Refused(507, say("{path} cannot be made: {error}.", path=work.folder, error=error)) from None
        raise Refused(409, say("there are too many works called {name}.", name=wanted))

    def inside(self, path: str | Path, work: Work | None = None) -> Path:
        """The real place of a path that the page names: absolute, or relative to the work.

        Raises:
            Refused: if it lies in none of the folders, wherever its links lead.
        """
        given = Path(path)
        place = given if given.is_absolute() else (work.folder if work is not None else self.home) / given
        try:
            real = place.resolve()
        except (OSError, RuntimeError, ValueError):
            real = Path()
        if any(real.is_relative_to(root) for root in (self.home, *self.allowed)):
            return real
        text = say(
            "{path} lies in none of the folders that this studio may read. Start it again with --allow and the folder.",
            path=printable(str(path)),
        )
        raise Refused(403, text)


def safe_name(text: str) -> str:
    """A name of one folder or file made of whatever somebody, or somebody's browser, calls it: any letters, no way out, nothing that a
    system or a shell takes for something else. Empty, if nothing is left."""
    text = unicodedata.normalize("NFC", text).replace("\\", "/").rpartition("/")[2]
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else c for c in text)
    text = re.sub(r'[<>:"|?*]', "_", text)
    text = re.sub(r"\s+", " ", text).strip(" .-")
    stem, dot, ending = text.rpartition(".")
    if not dot:
        stem, ending = text, ""
    if stem.lower().partition(".")[0] in _RESERVED:
        stem = f"_{stem}"
    while len(f"{stem}.{ending}".encode()) > 120 and stem:  # file systems count bytes, and 255 of them with what is added
        stem = stem[:-1]
    return f"{stem}{dot}{ending}".strip(" .")


def replace_text(path: Path, text: str) -> None:
    """Writes a text aside and renames it.

    Raises:
        Refused: if the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except (OSError, LoraForgeError) as error:
        raise Refused(507, say("{path} cannot be written: {error}. What stood there still does.", path=path, error=error)) from None


def _newest(work: Work) -> float:
    try:
        return max(os.stat(place).st_mtime for place in (work.folder, work.config) if place.exists())
    except OSError:
        return 0.0
