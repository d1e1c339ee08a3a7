# SPDX-License-Identifier: Apache-2.0
"""How a training comes to its folder, and what is undone where it ends before its first step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ..errors import RunError
from ..messages import speaker, why
from ..plugin_api.events import Event, RunFailed, StageStarted
from ..runs import unstarted
from ..runs.disk import disk_errors
from ..runs.folder import RunFolder
from .resume import occupied

say = speaker(__name__)


def claim(folder: RunFolder, tell: Callable[[Event], None], *, main: bool) -> None:
    """Makes sure that a new training may take the folder. What another one left there that was killed before its first step goes.

    Args:
        main: whether this process may write there.

    Raises:
        RunError: if a run is there, saying what can be done.
    """
    if not folder.occupied():
        return
    if not unstarted.never_stepped(folder):
        if main or folder.manifest_file.exists():  # or the main process is taking it away just now
            raise RunError(occupied(folder))
        return
    if main:
        with disk_errors(folder.path):
            log = unstarted.vacate(folder)
        text = say("what was begun in {path} ended before its first step; its place is taken now", path=folder.path)
        if log is not None:
            text += say("; its log: {log}", log=log)
        tell(StageStarted("folder", text))


class Beginning:
    """What a training that ends before its first step has to put back: its folder as it was.

    Args:
        started: when it began, in seconds since 1970.
        tell: receives every event.
    """

    def __init__(self, folder: RunFolder, started: float, tell: Callable[[Event], None]) -> None:
        self._folder, self._started, self._tell = folder, started, tell
        self._kept: Path | None = None
        self._before = unstarted.remember(folder)

    def set_aside(self) -> None:
        """Renames an earlier run out of the way."""
        with disk_errors(self._folder.path):
            self._kept = self._folder.set_aside()
        self._before = {}
        self._tell(StageStarted("folder", say("the earlier run is now {path}", path=self._kept)))

    def undo(self, error: BaseException) -> None:
        """Puts everything back, and says so. What the disk refuses stays as it is: the error is what matters."""
        folder, log = self._folder, unstarted.log_beside(self._folder.path)
        self._tell(RunFailed(folder.path, why(error)))  # who writes there closes its files
        with contextlib.suppress(OSError, RunError):
            unstarted.vacate(folder, self._started, self._before)
            text = say("nothing was trained; {path} is as it was, so the same command can be given again", path=folder.path)
            if self._kept is not None:
                folder.put_back(self._kept)
                text = say("nothing was trained; the earlier run is back in {path}", path=folder.path)
            if log.is_file() and log.stat().st_mtime >= self._started - 1:
                text += say("; what happened: {log}", log=log)
            self._tell(StageStarted("folder", text))
