# SPDX-License-Identifier: Apache-2.0
"""Values that name a place: a folder, a file, a base model. Where they are looked for, and what is said when they are not there."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from ..messages import speaker
from .yaml_reader import Source, Value

say = speaker(__name__)

_WEIGHTS = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # no hub id ends like this
_HUB_PAGE = re.compile(
    r"(?:https?://)?([\w-]+(?:\.[\w-]+)+)/(models/)?([\w.-]+/[\w.-]+?)(?:\.git)?(?:/(?:tree|files|summary)(?:/([\w.-]+))?)?/?"
)
_HUB_FILE = re.compile(r"(?:https?://)?([\w-]+(?:\.[\w-]+)+)/(models/)?([\w.-]+/[\w.-]+)/(?:blob|resolve|commit|discussions|file).*")


def path_role(info: FieldInfo) -> str | None:
    """``input`` or ``base`` for keys that name a place."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return str(extra["path"]) if "path" in extra else None


def no_folder(source: Source, path: Path, *, rights: bool) -> list[str]:
    """Why the run's folder could not be made, or nothing be written in it: a file stands there, or above it.

    Args:
        rights: whether something is to be written there.
    """
    there = next((place for place in (path, *path.absolute().parents) if place.exists()), path)
    where = source.values["output_dir"].where if "output_dir" in source.values else str(source.path)
    if there.is_file():
        return [
            say("{where}: output_dir: {path} is a file, and the run needs a folder there. Choose another name.", where=where, path=there)
        ]
    if rights and there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        text = say(
            "{where}: output_dir: nothing can be written in {path}. Change its rights, or choose another folder.", where=where, path=there
        )
        return [text]
    return []


def resolve_path(source: Source, value: Value, info: FieldInfo, key: str, problems: dict[str, str]) -> Any:
    """A path that exists, seen from the working directory, or from the config file's folder; other values as they are."""
    role = path_role(info)
    if role is None or not isinstance(value.value, str):
        return value.value
    if not value.value.strip():
        problems[key] = say("{where}: {key}: is empty.", where=value.where, key=key)
        return value.value
    written = os.path.expanduser(value.value)
    # A bare word names an embedded base even where a folder of that name happens to lie about; org/name may be a folder or a hub id.
    if role == "base" and "/" not in written and "\\" not in written and not written.lower().endswith(".gguf"):
        return value.value.strip()
    for candidate in (Path(written), source.path.parent / written):
        if os.path.exists(candidate):  # False for what is too long to be a name
            return str(candidate.absolute())
    first, second = Path(written).absolute(), (source.path.parent / written).absolute()
    if not _looks_like_path(value.value) and role != "input":
        return value.value.strip()
    if "://" in value.value:
        ours = say("a folder, or a hub id of the form org/name") if role == "base" else say("a folder or file on this computer")
        problems[key] = say(
            "{where}: {key}: '{value}' is an address on the web. Write {ours}.", where=value.where, key=key, value=value.value, ours=ours
        )
        return value.value
    hint = _escaped(value.value) or _windows(value.value) or _nearest(first, second) or _hub(key, value.value, first, second)
    if os.path.normpath(first) == os.path.normpath(second):
        problem = say(
            "{where}: {key}: there is no '{value}' (looked at {first}).", where=value.where, key=key, value=value.value, first=first
        )
    else:
        problem = say(
            "{where}: {key}: '{value}' is neither at {first} nor at {second}.",
            where=value.where,
            key=key,
            value=value.value,
            first=first,
            second=second,
        )
    problems[key] = problem + hint
    return value.value


def _looks_like_path(value: str) -> bool:
    """Whether a base_model can only be a path: ``./models/x``, ``/models/x``, ``~/x``, ``C:\\x``, ``a/b/c``. ``org/name`` is a hub id."""
    begins = value.startswith((".", "/", "~")) or bool(re.match(r"^[A-Za-z]:[\\/]", value))
    return begins or "\\" in value or value.count("/") > 1 or value.lower().endswith(_WEIGHTS)


def _escaped(value: str) -> str:
    """For a path in double quotes whose backslashes were read as escapes: ``"data\\new"`` holds a new line."""
    if not re.search(r"[\x00-\x1f]", value):
        return ""
    return say(" In double quotes a backslash begins an escape: write single quotes, or forward slashes.")


def _windows(value: str) -> str:
    """For a path as Windows writes it, on a computer that is none: where WSL has it, or the same with slashes."""
    if os.name == "nt" or ("\\" not in value and not re.match(r"[A-Za-z]:/", value)):
        return ""
    slashes = value.replace("\\", "/")
    drive = re.match(r"([A-Za-z]):/+(.*)", slashes)
    other = Path(f"/mnt/{drive[1].lower()}/{drive[2]}") if drive else Path(slashes)
    if os.path.exists(other):
        return say(" Did you mean '{word}'?", word=other)
    return say(" That is a path of Windows, and this computer is none: write it as it is here, with forward slashes.")


def _hub(key: str, value: str, *wanted: Path) -> str:
    """For ``org/name`` where no folder ``org`` is: other keys take such ids, and this one's value is published on a hub too."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", value) or any(path.parent.exists() for path in wanted):
        return ""
    return say(
        " If that is the id of something on a hub: {key} is a place on this computer. Download it, and write where it lies.", key=key
    )


def _nearest(*wanted: Path) -> str:
    """The existing path that differs from one of ``wanted`` in the spelling of one part, as a question; or nothing."""
    for path in wanted:
        there = path
        rest: list[str] = []
        try:
            while not there.exists():
                rest.insert(0, there.name)
                there = there.parent
            names = sorted(entry.name for entry in os.scandir(there))[:5000] if there.is_dir() and rest else []
        except (OSError, ValueError):
            continue
        close = [name for name in names if name.casefold() == rest[0].casefold()] or difflib.get_close_matches(
            rest[0], names, n=3, cutoff=0.7
        )
        for name in close:
            found = there.joinpath(name, *rest[1:])
            if found.exists():
                return say(" Did you mean '{word}'?", word=found)
    return ""


def from_page(written: str) -> tuple[str, str]:
    """The hub id that the address of a model's page stands for, and what must be set beside it.

    Returns:
        ``("org/name", "")`` for a model's page; the id and a sentence for the address of one file, or of one revision; two empty texts for
        what is no address of a hub that is known.
    """
    page, file = _HUB_PAGE.fullmatch(written.strip()), _HUB_FILE.fullmatch(written.strip())
    found = page or file
    if found is None or not (host := found[1].lower()):
        return "", ""
    if "modelscope" in host:
        base = f"modelscope:{found[3]}"
    elif "huggingface" in host or host.startswith("hf"):
        base = found[3]
    else:
        return "", ""
    if page is None:
        return base, say("that is the address of one file; a base is a whole folder of them: base_model: {base}", base=base)
    revision = page[4]
    if revision and revision not in ("main", "master"):
        return base, say("write base_model: {base} and revision: {revision}", base=base, revision=revision)
    return base, ""
