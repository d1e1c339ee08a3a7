# SPDX-License-Identifier: Apache-2.0
"""Prints what the changelog says of one version: the notes of its release.

python docs/release_notes.py v0.1.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"


def notes(changelog: str, version: str) -> str:
    """The section of ``version``, without its heading.

    Raises:
        ValueError: if there is none, it is empty, or its heading has no date yet.
    """
    heading = re.search(rf"^## \[{re.escape(version)}\](.*)\n", changelog, re.MULTILINE)
    if heading is None:
        raise ValueError(f"CHANGELOG.md has no section '## [{version}]'")
    if not re.fullmatch(r" - \d{4}-\d{2}-\d{2}", heading[1]):
        raise ValueError(f"CHANGELOG.md: the heading of {version} must end in the date of its release, and ends in '{heading[1].strip()}'")
    text = re.split(r"^(?=## |\[[^]]+\]: )", changelog[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not text:
        raise ValueError(f"CHANGELOG.md says nothing of {version}")
    return text


if __name__ == "__main__":
    try:
        print(notes(CHANGELOG.read_text(encoding="utf-8"), sys.argv[1].removeprefix("v")))
    except ValueError as error:
        sys.exit(str(error))
