# SPDX-License-Identifier: Apache-2.0
"""What LoRAForge says, in the user's language.

The English sentence in the code is the key; a package brings translations as ``<language>.json`` beside its ``__init__.py``
(``loraforge/zh.json``). A sentence without a translation appears in English. The language is ``LORAFORGE_LANG`` (``en`` or ``zh``),
otherwise that of the locale. What click says has a gettext catalogue of its own, see ``cli/wording.py``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import locale
import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import resources

from .errors import MachineError, machines_fault, printable
from .plurals import counted

_packages: list[str] = []

# What an operating system says of files and addresses, in Linux' words; other systems' are found by the number.
_REASONS = {
    getattr(errno, name): said
    for name, _, said in (
        line.strip().partition(": ")
        for line in """
    ENOENT: No such file or directory
    EACCES: Permission denied
    EPERM: Operation not permitted
    EEXIST: File exists
    ENOTDIR: Not a directory
    EISDIR: Is a directory
    ENOSPC: No space left on device
    EDQUOT: Disk quota exceeded
    EROFS: Read-only file system
    EIO: Input/output error
    EMFILE: Too many open files
    ENFILE: Too many open files in system
    ENOMEM: Cannot allocate memory
    EFBIG: File too large
    ENAMETOOLONG: File name too long
    ELOOP: Too many levels of symbolic links
    EBUSY: Device or resource busy
    EINVAL: Invalid argument
    EXDEV: Invalid cross-device link
    ENOTEMPTY: Directory not empty
    ETXTBSY: Text file busy
    ENXIO: No such device or address
    ENODEV: No such device
    EPIPE: Broken pipe
    EBADF: Bad file descriptor
    EAGAIN: Resource temporarily unavailable
    EINTR: Interrupted system call
    ESTALE: Stale file handle
    EMLINK: Too many links
    EOVERFLOW: Value too large for defined data type
    ESPIPE: Illegal seek
    ENOSYS: Function not implemented
    EOPNOTSUPP: Operation not supported
    EDEADLK: Resource deadlock avoided
    ENOLCK: No locks available
    ENOBUFS: No buffer space available
    EADDRINUSE: Address already in use
    EADDRNOTAVAIL: Cannot assign requested address
    ECONNREFUSED: Connection refused
    ECONNRESET: Connection reset by peer
    ECONNABORTED: Software caused connection abort
    EHOSTUNREACH: No route to host
    ENETUNREACH: Network is unreachable
    ENETDOWN: Network is down
    ENOTCONN: Transport endpoint is not connected
    ETIMEDOUT: Connection timed out
    EHOSTDOWN: Host is down
    ENOEXEC: Exec format error
    E2BIG: Argument list too long
    EFAULT: Bad address
    ENOTTY: Inappropriate ioctl for device
    ENOTBLK: Block device required
    ENOMEDIUM: No medium found
    EMEDIUMTYPE: Wrong medium type
    EREMOTEIO: Remote I/O error
    ECANCELED: Operation canceled
    EPROTO: Protocol error
    ENOTUNIQ: Name not unique on network
    ENONET: Machine is not on the network
    ENOKEY: Required key not available
    EKEYREJECTED: Key was rejected by service
    EUSERS: Too many users
    EILSEQ: Invalid or incomplete multibyte or wide character
    ENODATA: No data available
    ESHUTDOWN: Cannot send after transport endpoint shutdown
    EUCLEAN: Structure needs cleaning
""".strip().split("\n")
    )
    if hasattr(errno, name)
}


def language() -> str:
    """The two-letter code of the language to speak: ``zh`` for any Chinese locale, otherwise ``en``.

    As gettext has it: the first of ``LC_ALL``, ``LC_MESSAGES`` and ``LANG`` that is set is the locale, and ``LANGUAGE`` is a list of wishes
    that counts where the locale is no ``C``.
    """
    wanted = os.environ.get("LORAFORGE_LANG", "")
    if not wanted:
        wanted = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
        if not re.match(r"(?:C|POSIX)\b", wanted):
            wishes = os.environ.get("LANGUAGE", "").lower().split(":")
            wanted = next((wish for wish in wishes if wish.startswith(("zh", "en"))), wanted)
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
        ``say(sentence, **values)``: the sentence in the user's language with ``{name}`` replaced by the values: of an error its
        reason, and what an English sentence counts is singular where it is one.
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
        else:
            sentence = counted(sentence, values)
        if not values:
            return sentence
        said = {name: _reason(value, values) if isinstance(value, Exception) else value for name, value in values.items()}
        return printable(sentence.format(**said))

    return say


def _reason(error: Exception, values: Mapping[str, object]) -> str:
    """``why``, with the file that the system complains about where nothing else in the sentence names it."""
    place = error.filename if isinstance(error, OSError) else None
    if not isinstance(place, str | os.PathLike):
        return why(error)
    name = os.path.basename(os.fspath(place))
    told = any(name in str(value) for value in values.values() if value is not error)
    return why(error) if told else f"{why(error)}: {place}"


def why(error: BaseException) -> str:
    """The reason of an error without its number and path; what the operating system or the reader of JSON says is in the user's language
    (Windows speaks it anyway), what any other library says in its own."""
    say = speaker(__name__)
    if isinstance(error, json.JSONDecodeError) and language() != "en":
        return say("line {line}, column {column}: {what}", line=error.lineno, column=error.colno, what=say(error.msg))
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in _REASONS and text == os.strerror(number):
        return say(_REASONS[number]) if language() != "en" else text
    return text


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
    reason = error if isinstance(error, str) else why(error)
    say = speaker(__name__)
    text = say(
        "this computer refuses what is needed: {reason}. No row and no file is wrong. Close other programs, or raise the limit (ulimit, "
        "the memory of the container or of the job), and start again; a run goes on with --resume.",
        reason=reason,
    )
    return MachineError(text)
