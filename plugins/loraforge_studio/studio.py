# SPDX-License-Identifier: Apache-2.0
"""What one running studio has: folders, commands, jobs, and who may come in."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import speaker

from .work.asking import Asking, Said
from .work.folders import HIDDEN, Folders, Work, locked
from .work.jobs import Jobs

say = speaker(__name__)


class Access:
    """Who may come in: whoever has the address that the terminal shows, once; from then on that browser, by a cookie.

    Args:
        folder: keeps the secret of the cookies, readable for nobody else, so that an open page goes on when the studio starts again.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / HIDDEN / "session"
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_name("session.lock")):  # two studios that start at once have one secret
            secret = _secret(file)
            if secret is None:
                secret = secrets.token_urlsafe(32)
                aside = file.with_name("session.new")
                aside.unlink(missing_ok=True)
                with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
                    out.write(secret)
                os.replace(aside, file)
        self._secret = secret.encode()
        self._lock = threading.Lock()
        self._token = secrets.token_urlsafe(24)

    @property
    def token(self) -> str:
        """The one that is good for the next visit."""
        return self._token

    def enter(self, token: str) -> bool:
        """Whether the token lets in; it does so once, and another takes its place."""
        with self._lock:
            good = hmac.compare_digest(token.encode(), self._token.encode())
            if good:
                self._token = secrets.token_urlsafe(24)
            return good

    def mark(self, use: str) -> str:
        """What a browser that was let in holds: ``cookie``, or ``csrf`` for requests that change something."""
        return hmac.new(self._secret, use.encode(), hashlib.sha256).hexdigest()

    def knows(self, use: str, shown: str) -> bool:
        """Whether it does."""
        return hmac.compare_digest(shown.encode(), self.mark(use).encode())


def _secret(file: Path) -> str | None:
    """The one that is kept; None if there is none, or others could read it."""
    try:
        secret = file.read_text(encoding="ascii").strip()
        seen = os.name != "nt" and file.stat().st_mode & 0o077
    except (OSError, ValueError):
        return None
    return None if seen or len(secret) < 43 else secret


class Studio:
    """The one studio of this process.

    Args:
        upload: the most bytes of one file that is brought.
        language: in which it begins.
    """

    def __init__(self, folders: Folders, language: str, upload: int = 2_000_000_000) -> None:
        self.folders, self.language, self.upload = folders, language, upload
        self.access, self.asking, self.jobs = Access(folders.home), Asking(), Jobs(folders)
        self._before: list[Asking] = []
        self.hosts: tuple[str, ...] = ()
        self.address = ""
        self.closing = False

    def ask(self, words: Sequence[object], work: Work | None = None, *, note: bool = False, seconds: float = 600, newest: str = "") -> Said:
        """Has a command carried out, and waits for it.

        Args:
            work: in whose folder; in the studio's otherwise.
            note: keep it in ``commands.sh``; for what changes something.
            newest: see ``Asking.ask``.
        """
        typed = [word for word in words if word != "--json"]
        shown = Work(self.folders.home).shown(typed)
        said = self.asking.ask(words, work.folder if work is not None else self.folders.home, shown, self.language, seconds, newest)
        if note and work is not None and said.code == 0:
            work.note(typed)
        return said

    def start(self, work: Work, kind: str, words: Sequence[object], **about: Any) -> dict[str, Any]:
        """Starts a long command; the job as JSON."""
        return self.jobs.start(work, kind, words, self.language, about).as_json()

    def speak(self, language: str) -> None:
        """Another language, for the page and for all that commands say from now on."""
        self.language = os.environ["LORAFORGE_LANG"] = language
        before, self.asking = self.asking, Asking()  # the process that waits has made its words already
        self._before = [*self._before[-3:], before]
        before.close()
        self.asking.warm()

    def close(self) -> None:
        """Ends what waits and what is asked. Jobs go on."""
        self.closing = True
        for asking in (*self._before, self.asking):
            asking.end()
