"""What LoRAForge says, in the user's language.

The English sentence in the code is the key; a package brings translations as ``<language>.json`` beside its ``__init__.py``
(``loraforge/zh.json``). A sentence without a translation appears in English. The language is ``LORAFORGE_LANG`` (``en`` or ``zh``),
otherwise that of the locale.
"""

from __future__ import annotations

import contextlib
import functools
import json
import locale
import os
from collections.abc import Callable, Iterator, Mapping
from importlib import resources

from .errors import MachineError, machines_fault, printable

_packages: list[str] = []


def language() -> str:
    """The two-letter code of the language to speak: ``zh`` for any Chinese locale, otherwise ``en``."""
    wanted = os.environ.get("LORAFORGE_LANG", "")
    if not wanted:
        wanted = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    if not wanted and os.name == "nt":  # Windows sets none of these variables
        wanted = locale.getlocale()[0] or ""
    return "zh" if wanted.lower().startswith(("zh", "chinese")) else "en"


@functools.cache
def catalogue(package: str, code: str) -> Mapping[str, str]:
    """The translations that ``package`` brings for the language ``code``; empty if it brings none."""
    try:
        text = resources.files(package).joinpath(f"{code}.json").read_text(encoding="utf-8")
    except (FileNotFoundError, ModuleNotFoundError, TypeError):
        return {}
    return dict(json.loads(text))


def speaker(module: str) -> Callable[..., str]:
    """The ``say`` function of one module.

    Args:
        module: its ``__name__``; the top-level package names the catalogue.

    Returns:
        ``say(sentence, **values)``: the sentence in the user's language with ``{name}`` replaced by the values.
    """
    package = module.partition(".")[0]
    if package not in _packages:
        _packages.append(package)

    def say(sentence: str, /, **values: object) -> str:
        # The core also shows sentences that plugins declare (help of keys and components), so their catalogues are asked too.
        for name in (package, *_packages):
            translated = catalogue(name, language()).get(sentence)
            if translated is not None:
                sentence = translated
                break
        return printable(sentence.format(**values)) if values else sentence

    return say


def refuse_machines_fault(error: BaseException) -> None:
    """Before an error is put down to a row or a file.

    Raises:
        MachineError: if it is the computer's.
    """
    if machines_fault(error):
        raise out_of_something(error) from None


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Around a library written in Rust that reads somebody's file: where it panics it raises a ``BaseException`` of its own, which passes
    every ``except Exception``.

    Raises:
        ValueError: in place of it.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3 makes the class in each library anew, and none exports it
            raise
        raise ValueError(" ".join(str(error).split())) from None


def out_of_something(error: BaseException | str) -> MachineError:
    """The error of a computer that is short of memory, threads or open files."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    say = speaker(__name__)
    text = say(
        "this computer refuses what is needed: {reason}. No row and no file is wrong. Close other programs, or raise the limit (ulimit, "
        "the memory of the container or of the job), and start again; a run goes on with --resume.",
        reason=reason,
    )
    return MachineError(text)
