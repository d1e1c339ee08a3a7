# SPDX-License-Identifier: Apache-2.0
"""Who may ask: a file of names and hashed tokens, and how often each may."""

from __future__ import annotations

import collections
import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from loraforge import ConfigError, read_text, speaker, write_text

say = speaker(__name__)
log = logging.getLogger("loraforge.serve")

ADMIN = "admin"
_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+sha256:(?P<hash>[0-9a-f]{64})(?P<admin>\s+admin)?")
_LIMIT = 1_000_000  # bytes of the file


@dataclass(frozen=True)
class Holder:
    """Whom a token was given to.

    Attributes:
        admin: whether they may add adapters and take them away.
    """

    name: str
    admin: bool


class Tokens:
    """The tokens of a file, one a line: ``anna sha256:HEX``, and ``admin`` behind it for whoever may change what is served.

    Raises:
        ConfigError: if the file cannot be read, or a line is no such one.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._holders, self._stamp = _read(file), _stamp(file)

    def holder(self, token: str) -> Holder | None:
        """Whose token this is; None: nobody's. How long that takes does not tell how much of a token is right."""
        self._renew()
        shown = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        found = None
        for known, holder in self._holders.items():
            if hmac.compare_digest(known, shown):
                found = holder
        return found

    def _renew(self) -> None:
        """A token that was added or struck out counts at once, whatever else stands in the file; one that cannot be read lets nobody in."""
        stamp = _stamp(self.file)
        if stamp != self._stamp:
            try:
                self._holders, _ = _lines(self.file)
            except ConfigError as error:
                if self._holders:
                    log.warning("%s", error)
                self._holders, stamp = {}, None  # to be tried again, though nothing changes in the file
            self._stamp = stamp


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        told = file.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size


def _read(file: Path) -> dict[str, Holder]:
    """The holders by hash.

    Raises:
        ConfigError: if there is none, or a line is not one.
    """
    holders, problems = _lines(file)
    if not holders and not problems:
        problems.append(say("{file} holds no token. Make one with --new-token NAME.", file=file))
    if problems:
        raise ConfigError(problems)
    return holders


def _lines(file: Path) -> tuple[dict[str, Holder], list[str]]:
    """The holders by hash, and what is wrong with the other lines.

    Raises:
        ConfigError: if the file cannot be read.
    """
    try:
        lines = read_text(file, _LIMIT).splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(say("--tokens {file} cannot be read: {error}. Make it with --new-token NAME.", file=file, error=error)) from None
    holders: dict[str, Holder] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        written = line.partition("#")[0].strip()
        found = _LINE.fullmatch(written)
        if found:
            holders[found["hash"]] = Holder(found["name"], bool(found["admin"]))
        elif written:
            problems.append(say("{file}, line {n}: no name with a hashed token. Make one with --new-token NAME.", file=file, n=number))
    return holders, problems


def new_token(file: Path, name: str, admin: bool) -> str:
    """Adds a token to the file and returns it; the file keeps its hash alone.

    Raises:
        ConfigError: if the name is no name or taken, or the file cannot be used.
    """
    if not re.fullmatch(r"[\w.@-]{1,64}", name):
        raise ConfigError(say("--new-token '{name}': a name of letters, digits, dots, dashes and @, without blanks.", name=name))
    try:
        before, owner = (read_text(file, _LIMIT), file.stat()) if file.exists() else ("", None)
    except (OSError, ValueError) as error:
        raise ConfigError(_unusable(file, error)) from None
    if before.strip() and any(holder.name == name for holder in _read(file).values()):
        raise ConfigError(say("{file} has a token for '{name}' already. Strike that line out to give another.", file=file, name=name))
    token = f"lf-{secrets.token_urlsafe(32)}"
    line = f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()}{' ' + ADMIN if admin else ''}"
    try:
        write_text(file, f"{before.rstrip()}\n{line}\n".lstrip())
        file.chmod(0o600)
        if owner is not None and hasattr(os, "chown"):
            os.chown(file, owner.st_uid, owner.st_gid)  # a server's user goes on reading what root adds to
    except OSError as error:
        raise ConfigError(_unusable(file, error)) from None
    return token


def _unusable(file: Path, error: Exception) -> str:
    return say("--tokens {file}: no token can be added there: {error}.", file=file, error=error)


class RateLimit:
    """How many requests a client may send in a minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._seen: collections.OrderedDict[str, collections.deque[float]] = collections.OrderedDict()

    def seconds_to_wait(self, client: str, now: float | None = None) -> int:
        """Counts a request; 0 if it is allowed, otherwise after how many seconds the next one is."""
        now = time.monotonic() if now is None else now
        times = self._seen.setdefault(client, collections.deque())
        self._seen.move_to_end(client)
        while len(self._seen) > 10_000:
            self._seen.popitem(last=False)
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= self.per_minute:
            return int(times[0] + 60 - now) + 1
        times.append(now)
        return 0
