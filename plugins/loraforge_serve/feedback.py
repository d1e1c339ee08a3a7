# SPDX-License-Identifier: Apache-2.0
"""What people say of answers, kept as rows that can be learned: one line of ``feedback.jsonl`` each, only ever added."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, model_validator

from loraforge import LARGEST, ConfigError, RunError, require_file, speaker

say = speaker(__name__)

_LONGEST = 200_000  # characters of a question or an answer: more than any context holds
_WAIT = 10.0  # seconds for other writers, each of which takes milliseconds
# A line that somebody else adds meanwhile, who knows nothing of the lock, stays whole too.
_OPENED = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# Where some readers end a line though JSON does not.
_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\u0085\u2028\u2029"}


Text = Annotated[str, Field(max_length=_LONGEST)]


class Feedback(BaseModel):
    """What somebody said of one answer.

    Attributes:
        model: the adapter that answered, or base.
        rating: up: the answer may be learned as it stands; down: it may not.
        correction: what the answer should have been; it is learned instead, whatever the rating.
        history: the (question, answer) pairs that stood before, where the question went on from them.
    """

    model_config = ConfigDict(extra="forbid")

    model: Text
    question: Text
    answer: Text
    rating: Literal["up", "down"]
    correction: Text | None = None
    history: Annotated[list[tuple[Text, Text]], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _says_something(self) -> Feedback:
        if not self.question.strip():
            raise ValueError(say("the question is empty"))
        if not (self.correction or "").strip() and not self.answer.strip():
            raise ValueError(say("the answer is empty, so there is nothing to keep"))
        if any(not part.strip() for pair in self.history for part in pair):
            raise ValueError(say("an earlier question or answer is empty, so the row could not be learned"))
        if self.rating == "down" and self.correction is not None and self.correction.split() == self.answer.split():
            raise ValueError(say("the correction says the same as the answer"))
        return self

    def row(self, who: str | None = None, when: datetime | None = None) -> dict[str, Any]:
        """The row as the loader ``table`` reads it.

        A thumbs-down without a correction has weight 0, which that loader leaves out, and says so: nobody said what is right.
        """
        corrected = (self.correction or "").strip()
        row: dict[str, Any] = {"instruction": self.question, "output": corrected or self.answer}
        row["weight"] = int(bool(corrected) or self.rating == "up")
        if self.history:
            row["history"] = [list(pair) for pair in self.history]
        # No column of ratings: the loader stops at one, because elsewhere that is all that says which rows are bad.
        row["kept"] = "correction" if corrected else "answer" if row["weight"] else "for the record"
        row["model"] = self.model
        if corrected:
            row["answered"] = self.answer
        row["when"] = (when or datetime.now(timezone.utc)).isoformat(timespec="seconds")
        return {**row, "by": who} if who else row


@dataclass(frozen=True)
class FeedbackFile:
    """Where feedback is kept. Several servers may write into one file."""

    path: Path

    def check(self) -> None:
        """To be called before the server starts.

        Raises:
            ConfigError: if nothing can be added there.
        """
        path = self.path.absolute()
        if path.suffix.lower() not in (".jsonl", ".ndjson"):
            raise ConfigError(say("{path}: feedback is kept as lines of JSON, so that its name has to end in .jsonl.", path=path))
        if not path.parent.is_dir():
            raise ConfigError(say("{path}: there is no folder {folder} for it. Make it first.", path=path, folder=path.parent))
        try:
            if os.path.lexists(path):
                require_file(path)
            with FileLock(self._lock, timeout=_WAIT):
                os.close(self._open())
        except OSError as error:
            raise ConfigError(say("{path}: feedback cannot be kept there: {reason}.", path=path, reason=error)) from None

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds one line, whole or not at all, and waits until it is on the disk.

        Raises:
            RunError: if the disk refuses; the file is then as it was.
        """
        line = (json.dumps(row, ensure_ascii=False, allow_nan=False).translate(_ENDS) + "\n").encode("utf-8")
        try:
            with FileLock(self._lock, timeout=_WAIT):
                self._append(line)
        except OSError as error:  # filelock's Timeout is one too
            raise RunError(say("{path}: feedback cannot be kept there: {reason}.", path=self.path.name, reason=error)) from None

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _open(self) -> int:
        # Questions to a lawyer or a doctor: for nobody but the owner of the server.
        return os.open(self.path, _OPENED, 0o600)

    def _append(self, line: bytes) -> None:
        handle = self._open()
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            if end + len(line) > LARGEST:
                raise OSError(0, say("it has grown too large to be read; move it elsewhere, a new one is begun"))
            if end:
                os.lseek(handle, end - 1, os.SEEK_SET)
                if os.read(handle, 1) != b"\n":  # somebody's editor left the last line open
                    line = b"\n" + line
            try:
                left = line
                while left:
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)
