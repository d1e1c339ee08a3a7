# SPDX-License-Identifier: Apache-2.0
"""Errors that are for the person at the keyboard.

    LoraForgeError            its message is the whole story: what, where, what was found, what to do
    |-- ConfigError           the YAML file or a --set
    |-- DataError             the examples
    |-- PluginError           a plugin that is missing, broken, or at odds with another
    |-- ModelError            the base model cannot be found, read or used
    |-- RunError              a run's folder: missing, busy, damaged, or of another config
    |-- ExportError           an adapter cannot be written in the format that was asked for
    |-- TrainingError         training cannot go on (a loss that is not a number)
    |-- MachineError          the computer refuses: memory, threads, open files; no row and no file is to blame
    `-- StoppedOnRequest      Ctrl-C or SIGTERM: the run saved and stopped

The command line turns each into its message and ``exit_code``. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

# What a terminal or a page obeys instead of showing it: control characters, line ends of other kinds, marks that turn the direction of
# writing (after them a reader sees other words than there are), and halves of surrogate pairs, which no file or stream takes.
_OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

_SHORT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS)


def printable(text: str) -> str:
    """``text`` of any origin (a row, a name, an answer) as it may be shown: what would be obeyed becomes its number, ``\\u001b``. That is
    how JSON writes it too, so JSON keeps its meaning."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


class LoraForgeError(Exception):
    """Something that the user can mend.

    Args:
        problems: one message, or several that were found together; each stands on its own line.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(map(printable, (problems,) if isinstance(problems, str) else problems))
        super().__init__("\n".join(self.problems))


class ConfigError(LoraForgeError):
    """The YAML file, or a ``--set``, cannot be used."""


class DataError(LoraForgeError):
    """The examples cannot be used; every bad row is named."""


class PluginError(LoraForgeError):
    """A plugin is missing, broken, or claims what another has."""


class ModelError(LoraForgeError):
    """The base model cannot be found, read or used."""


class RunError(LoraForgeError):
    """A run's folder is missing, occupied, damaged, or belongs to another config."""


class ExportError(LoraForgeError):
    """An adapter cannot be written in the wanted format without changing what it does."""


class TrainingError(LoraForgeError):
    """Training had to stop: the input was accepted, the numbers were not."""

    exit_code = 1


class MachineError(LoraForgeError):
    """The computer refuses memory, a thread, a process or an open file: nothing that was brought is wrong."""

    exit_code = 1


def machines_fault(error: BaseException) -> bool:
    """Whether an error says that the computer is short of something, and nothing of what was being read or computed."""
    if isinstance(error, OSError):
        return error.errno in _SHORT
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't start new thread" in str(error))


class StoppedOnRequest(LoraForgeError):
    """The run was asked to stop, saved its state and did."""

    exit_code = 1
