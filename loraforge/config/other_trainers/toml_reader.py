# SPDX-License-Identifier: Apache-2.0
"""A TOML file of sd-scripts or lora-scripts as flat values with lines."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...messages import speaker
from ..file_kinds import config_text
from ..yaml_reader import Source, Value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

say = speaker(__name__)

_KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*=""")


def read_toml(path: Path) -> Source:
    """The keys of all sections, as sd-scripts puts them together: their names say nothing, and of equal keys the last one holds.

    Raises:
        ConfigError: if the file cannot be read, or is no TOML.
    """
    text, notes = config_text(path)
    try:
        sections = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(_explained(path, text, str(error))) from None
    lines = {next(filter(None, found.groups())): n for n, line in enumerate(text.splitlines(), 1) if (found := _KEY.match(line))}
    values: dict[str, Any] = {}
    twice: list[str] = []
    for name, section in sections.items():
        for key, value in section.items() if isinstance(section, dict) else ((name, section),):
            if key in values and values[key] != value:
                twice.append(say("{file}: '{key}' is given twice, and the last one holds, as in its own program.", file=path, key=key))
            values[key] = value
    found_at = {key: f"{path}:{lines[key]}" if key in lines else str(path) for key in values}
    return Source(path, {key: Value(value, found_at[key]) for key, value in values.items()}, (*notes, *twice))


def _explained(path: Path, text: str, error: str) -> str:
    """What is wrong with a file that is no TOML, and the usual reason of Windows' paths."""
    place = re.search(r"\(at line (\d+), column \d+\)", error)
    where = f"{path}:{place[1]}" if place else str(path)
    line = text.splitlines()[int(place[1]) - 1] if place and int(place[1]) <= len(text.splitlines()) else ""
    if "\\" in line and '"' in line:
        return say(
            "{where}: is not valid TOML: in double quotes a backslash begins an escape. Write single quotes, or forward slashes.",
            where=where,
        )
    return say("{where}: is not valid TOML: {error}.", where=where, error=error.partition(" (at ")[0])
