# SPDX-License-Identifier: Apache-2.0
"""Prints the versions of everything that LoRAForge needs, as they are installed here: run it where the tests passed.

python deploy/constraints.py > deploy/constraints.txt
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import tomllib

HERE = Path(__file__).parent


def requirements(pyproject: Path) -> list[str]:
    """The requirements of the package and of all its extras but ``dev``, without extras of their own that are not installed."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    return [*project["dependencies"], *(one for name, some in extras.items() if name != "dev" for one in some)]


def installed(names: list[str]) -> dict[str, str]:
    """Name and version of these packages and of all that they need, as far as they are installed."""
    found: dict[str, str] = {}
    waiting = [normal(one) for one in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system, or of an extra that nothing here needs
        found[name] = there.version.partition("+")[0]  # +cpu and the like name a build, which an index has or has not
        waiting += [normal(one) for one in there.requires or () if "extra ==" not in one]
    return found


def normal(requirement: str) -> str:
    """The name in a requirement, as indexes spell it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", requirement)[0]).lower()  # type: ignore[index]


def main() -> None:
    pyproject = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "pyproject.toml"
    print("# What the tests ran with. Made by: python deploy/constraints.py > deploy/constraints.txt")
    for name, version in sorted(installed(requirements(pyproject)).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
