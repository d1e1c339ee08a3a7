# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory's ``dataset_info.json``: what the columns and the messages of the files beside it are called."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loraforge import read_text, speaker

from .readers.rows import Row, some_of

say = speaker(__name__)

NAME = "dataset_info.json"
# Its names of columns, and ours. What chosen and rejected answers mean, the user says.
_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system",
            "messages": "messages", "tools": "tools", "kto_tag": "label"}  # fmt: skip
_ROLES = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}
_PLACES = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")  # of data elsewhere
_NEEDLESS = ("file_name", "columns", "tags", "formatting")  # formatting: the layout is seen in the rows
_CONVERSATIONS = ("conversations", "messages")  # the columns that hold messages where nothing is said


@dataclass(frozen=True)
class Described:
    """What a file's entry says.

    Attributes:
        columns: our fields to its columns.
        role, content: the keys of a message; empty where nothing is said.
        roles: the names of roles to ours.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    content: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows with messages as others write them: ``role`` and ``content``, and the usual roles."""
        if not (self.role or self.content or self.roles):
            return rows
        names = (self.columns["messages"],) if "messages" in self.columns else _CONVERSATIONS
        return [
            replace(row, values={key: self._messages(value) if key in names else value for key, value in row.values.items()})
            for row in rows
        ]

    def _messages(self, value: Any) -> Any:
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return value
        return [self._message(one) if isinstance(one, dict) else one for one in value] if isinstance(value, list) else value

    def _message(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        role = self.role or ("from" if "from" in message else "role")
        content = self.content or ("value" if "value" in message else "content")
        if role not in message:
            return message
        # Keys that would mean the same are kept by another name, so that the note on keys that are not used has them.
        rest = {key: value for key, value in message.items() if key not in (role, content)}
        for key in rest.keys() & {"content", "value", "text"}:
            rest[f"{key} (beside {content})"] = rest.pop(key)
        said = message[role]
        return {**rest, "role": self.roles.get(str(said), said), "content": message.get(content)}


def read_dataset_info(
    folder: Path, files: Collection[str], note: Callable[[str], None], only: str | None = None
) -> Mapping[str, Described] | None:
    """The entries of the files of a folder; None if it holds no ``dataset_info.json`` of LLaMA-Factory's.

    Args:
        files: the names of the files that are there.
        only: the name of the one file that is read; nothing is said of the others.
        note: names what an entry says that is not used.
    """
    entries = [(name, entry) for name, entry in json_object(folder / NAME).items() if isinstance(entry, dict)]
    if not any(key in entry for _, entry in entries for key in ("file_name", *_PLACES)):
        return None
    found: dict[str, Described] = {}
    missing: list[str] = []
    for name, entry in entries:
        file = entry.get("file_name")
        if not isinstance(file, str) or only not in (None, file):
            continue  # data on a hub, or not what is read
        if file not in files:
            missing.append(file)
            continue
        columns, tags = (part if isinstance(part := entry.get(key), dict) else {} for key in ("columns", "tags"))
        unused = [str(key) for key, value in entry.items() if key not in (*_NEEDLESS, *_PLACES) and value not in (None, False)]
        unused += [f"columns: {key}" for key, value in columns.items() if value and key not in (*_COLUMNS, "chosen", "rejected")]
        unused += [f"tags: {key}" for key in tags if key not in (*_ROLES, "role_tag", "content_tag")]
        if unused:
            note(say("{file}: what it says of '{name}' is not used: {keys}", file=NAME, name=name, keys=", ".join(unused)))
        text = {str(key): value for key, value in (columns | tags).items() if isinstance(value, str) and value}
        found[file] = Described(
            {_COLUMNS[key]: text[key] for key in columns if key in _COLUMNS and key in text},
            text.get("role_tag", ""),
            text.get("content_tag", ""),
            {text[key]: role for key, role in _ROLES.items() if key in text},
        )
    if missing:
        note(say("{file}: names files that are not here: {names}", file=NAME, names=some_of(missing)))
    return found


def json_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty if it holds none."""
    try:
        value = json.loads(read_text(path, encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
