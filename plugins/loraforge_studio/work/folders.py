# SPDX-License-Identifier: Apache-2.0
"""Which folders the page may see, and the works in the studio's own.

A work is a folder: its config, what was brought, tables made of it, runs, and ``commands.sh`` with every command that was given. So it can
be gone on with in a terminal at any time, and nothing of it is the studio's alone::

    studio/contracts/
      contracts.yaml     the config
      uploads/           what was brought, as it was
      data/              tables that were made of it
      output/            runs
      commands.sh        what was done
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from loraforge import LoraForgeError, command, printable, speaker, why, write_text

from ..problems import Refused

say = speaker(__name__)

HIDDEN = ".studio"
"""The folder in which a work, and the studio, keep what only the studio needs: it can be deleted while none runs."""
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    "conin$",
    "conout$",
    "clock$",
    *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10)),
}  # by Windows


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
        """Its config, whether or not there is one yet: it has the work's name, or the one that the folder had before."""
        own = self.folder / f"{self.folder.name}.yaml"
        if own.is_file():
            return own
        others = [place for place in self.folder.glob("*.yaml") if not re.search(r"^\.|^my\.yaml$|\.\d+\.yaml$", place.name)]
        return others[0] if len(others) == 1 else own

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
        self.append(line)
        return line

    def append(self, *lines: str) -> None:
        """Adds lines to ``commands.sh``, which a shell that stands in the work's folder can obey.

        Raises:
            Refused: if the disk takes nothing.
        """
        file = self.folder / "commands.sh"
        head = "" if file.exists() else f"# {say('What the studio did here, to be done again in a terminal that stands in this folder.')}\n"
        text = "".join(f"{line}\n" for line in (time.strftime("# %Y-%m-%d %H:%M:%S"), *lines))
        try:
            with file.open("a", encoding="utf-8", newline="\n") as out:
                out.write(head + text)
        except OSError as error:
            raise Refused(507, say("{file} cannot be written: {error}.", file=file, error=why(error))) from None


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
        try:
            found = [Work(place) for place in self.home.iterdir() if place.name == safe_name(place.name) and not place.is_symlink()]
        except OSError as error:
            raise Refused(404, say("{path} cannot be read: {error}.", path=self.home, error=why(error))) from None
        found = [work for work in found if work.folder.is_dir() and (work.hidden.is_dir() or work.config.is_file())]
        return sorted(found, key=_newest, reverse=True)

    def work(self, name: str) -> Work:
        """
        Raises:
            Refused: if there is none of this name.
        """
        if name and name == safe_name(name):
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
                raise Refused(507, say("{path} cannot be made: {error}.", path=work.folder, error=why(error))) from None
        raise Refused(409, say("there are too many works called {name}.", name=wanted))

    def inside(self, path: str | Path, work: Work | None = None) -> Path:
        """The real place of a path that the page names: absolute, or relative to the work.

        Raises:
            Refused: if it lies in none of the folders, wherever its links lead.
        """
        text = os.fspath(path)
        given = Path(text)
        place = given if given.is_absolute() else (work.folder if work is not None else self.home) / given
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            if len(os.fsencode(text)) < 4000 and all(len(os.fsencode(part)) < 256 for part in given.parts):  # what file systems take
                real = place.resolve()
                own = self.home / HIDDEN  # it holds what lets browsers in
                if not real.is_relative_to(own) and any(real.is_relative_to(root) for root in (self.home, *self.allowed)):
                    return real
        told = say(
            "{path} lies in none of the folders that this studio may read. Start it again with --allow and the folder.",
            path=printable(text[:300]),
        )
        raise Refused(403, told)


def safe_name(text: str) -> str:
    """A name of one folder or file made of whatever somebody, or somebody's browser, calls it: any letters, no way out, nothing that a
    system or a shell takes for something else, at most 120 bytes. Empty, if nothing is left; a name that is safe stays as it is."""
    while (made := _safer(text)) != text:
        text = made
    return text


def _safer(text: str) -> str:
    text = unicodedata.normalize("NFC", text).replace("\\", "/").rpartition("/")[2]
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else c for c in text)
    text = re.sub(r'[<>:"|?*]', "_", text)
    text = re.sub(r"\s+", " ", text).strip(" .-")
    stem, dot, ending = text.rpartition(".")
    if not dot or len(ending.encode()) > 20:  # a sentence with a full stop
        stem, dot, ending = text, "", ""
    if unicodedata.normalize("NFKC", text).lower().partition(".")[0].strip() in _RESERVED:  # COM with a raised 1 as well
        stem = f"_{stem}"
    while len(f"{stem}{dot}{ending}".encode()) > 120:  # file systems count bytes, and 255 of them with what is added
        stem = stem[:-1]
    return f"{stem}{dot}{ending}".strip(" .-")


@contextlib.contextmanager
def locked(file: Path, seconds: float = 30) -> Iterator[None]:
    """For one process, and one thread in it, at a time.

    Raises:
        Refused: if the folder is gone, or somebody does not let go.
    """
    try:
        with FileLock(file, timeout=seconds, thread_local=False):
            yield
    except Timeout:
        raise Refused(503, say("{file} is held by another studio. Try again; if none runs, delete the file.", file=file)) from None


def replace_text(path: Path, text: str) -> None:
    """Writes a text aside and renames it.

    Raises:
        Refused: if the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except LoraForgeError as error:
        raise Refused(507, error.problems) from None
    except OSError as error:
        raise Refused(507, say("{path} cannot be written: {error}. What stood there still does.", path=path, error=why(error))) from None


def _newest(work: Work) -> float:
    try:
        return max(os.stat(place).st_mtime for place in (work.folder, work.config) if place.exists())
    except OSError:
        return 0.0
