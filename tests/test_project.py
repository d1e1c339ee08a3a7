# SPDX-License-Identifier: Apache-2.0
"""The habits of an open project: licence lines, the version from git's tags, links, notes of a release, the matrix of the workflows."""

from __future__ import annotations

import importlib.util
import re

import pytest
import yaml
from builders import ROOT

SPDX = "SPDX-License-Identifier: Apache-2.0"
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def release_notes():
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / "docs" / "release_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.notes


def test_the_notes_of_a_release_are_its_part_of_the_changelog():
    text = "# Changelog\n\n## [0.2.0] - 2026-12-24\n\n### Added\n\n- Two.\n\n## [0.1.0] - unreleased\n\n- One.\n\n[0.2.0]: x\n"
    assert release_notes()(text, "0.2.0") == "### Added\n\n- Two."
    for version, said in (("0.3.0", "no section"), ("0.1.0", "date of its release"), ("0", "no section")):
        with pytest.raises(ValueError, match=said):
            release_notes()(text, version)
    real = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("## [0.1.0] - unreleased", "## [0.1.0] - 2026-12-24")
    assert len(release_notes()(real, "0.1.0").splitlines()) > 50


def test_the_workflow_tries_what_the_package_says_it_runs_on():
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = tests["tests"]["strategy"]["matrix"]
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", PYPROJECT)
    assert f">={matrix['python'][0]}" == re.search(r'requires-python = "(.*)"', PYPROJECT)[1]
    systems = {"ubuntu": "Linux", "macos": "MacOS", "windows": "Windows"}
    assert {systems[name.partition("-")[0]] for name in matrix["os"]} == set(re.findall(r"Operating System :: .*?(\w+)\"", PYPROJECT))
    command = next(step["run"] for step in tests["tests"]["steps"] if "pytest" in step.get("run", ""))
    assert command.replace('"', "'") in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()


def test_every_source_names_its_licence_in_its_first_lines():
    """So that a file that is copied alone still says what one may do with it (the form of spdx.dev and reuse.software)."""
    folders = [ROOT / name for name in ("loraforge", "plugins", "tests", "docs", "benchmarks", "deploy")]
    sources = [file for folder in folders for pattern in ("*.py", "*.js", "*.css") for file in folder.rglob(pattern)]
    assert len(sources) > 800
    vendored = [file for file in sources if file.parent.name == "vendor"]
    for file in vendored:  # whole and unchanged, as others wrote them: their licence lies beside them, and README.md names it
        name = file.name.partition(".")[0]
        licence = (file.parent / f"LICENSE.{name}.txt").read_text(encoding="utf-8")
        assert "Copyright" in licence and f"[{name}](" in (ROOT / "README.md").read_text(encoding="utf-8")
    sources = [file for file in sources if file not in vendored]
    heads = {file: file.read_text(encoding="utf-8").split("\n", 3)[:3] for file in sources}
    bare = [str(file.relative_to(ROOT)) for file, head in heads.items() if not any(SPDX in line for line in head)]
    assert not bare, f"no line '{SPDX}': {bare[:5]}"
