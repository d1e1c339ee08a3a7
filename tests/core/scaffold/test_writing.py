# SPDX-License-Identifier: Apache-2.0
"""A new plugin of each kind: its own tests pass, mypy --strict and ruff have nothing to say; it is written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import ROOT

from loraforge import PluginError
from loraforge.plugin_api.host import PluginHost
from loraforge.scaffold import writing
from loraforge.scaffold.names import HOOKS, LONGEST, Names, with_needed
from loraforge.scaffold.writing import documented, files_of, write_package

# The shortest and the longest name, one that an imported class has, one that Python keeps for itself.
ODD = {"check": "x", "family": "model", "template": "class", "loader": "Name_of." + "a" * (LONGEST - 8)}
# mypy reads neither torch nor what stands on it: minutes of reading, and nothing of theirs is the scaffold's.
MYPY = """[tool.mypy]
strict = true
plugins = ["pydantic.mypy"]
[[tool.mypy.overrides]]
module = ["torch.*", "peft.*", "accelerate.*", "transformers.*"]
ignore_missing_imports = true
follow_imports = "skip"
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """A package of each kind, beside each other."""
    place = tmp_path_factory.mktemp("plugins")
    return {kind: write_package(Names(ODD.get(kind, f"my-{kind}")), with_needed([kind]), place) for kind in HOOKS}


def run(folder: Path, *command: object) -> str:
    places = [str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "MYPYPATH": os.pathsep.join(places[:2]), "PYTEST_ADDOPTS": ""}
    done = subprocess.run([str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow  # one process for the tests of all: half a minute, most of it imports and the run that a command is tried on
def test_the_tests_of_every_kind_pass(written):
    place = next(iter(written.values())).parent
    sources = " ".join(str(folder / "src") for folder in written.values())
    options = ["-p", "no:cacheprovider", "-p", "loraforge.testing.fixtures", "--import-mode=importlib", "-o", f"pythonpath={sources}"]
    found = run(place, sys.executable, "-m", "pytest", "-q", *options, *written.values())
    assert "19 passed" in found  # for each kind two, and one for DoRA; the task brings the two of its family


@pytest.mark.slow
def test_mypy_is_content_with_every_kind(tmp_path):
    folder = write_package(Names("model"), with_needed(list(HOOKS)), tmp_path)
    (tmp_path / "mypy.toml").write_text(MYPY, encoding="utf-8")
    options = ["--config-file", "../mypy.toml", "--follow-imports", "silent", "--cache-dir", tmp_path / "cache"]
    assert "no issues found in 17 source files" in run(folder, sys.executable, "-m", "mypy", *options, "src", "tests")


def test_ruff_is_content_with_every_kind(written):
    for folder in written.values():
        run(folder, "ruff", "check", "--no-cache", ".")
        run(folder, "ruff", "format", "--no-cache", "--check", ".")


def test_every_module_is_a_plugin_of_one_file_too(written):
    for kind, folder in written.items():
        (file,) = (folder / "src").glob(f"*/{kind}.py")
        host = PluginHost([file], ())
        assert host.unusable() == [] and host.clashes() == []
        assert HOOKS[kind] in next(info.hooks for info in host.plugins() if info.name == kind)


def test_the_licence_is_left_to_the_author_and_nothing_of_the_example_is_left(written):
    for kind, folder in written.items():
        files = {file.name: file.read_text(encoding="utf-8") for file in folder.rglob("*") if file.is_file()}
        assert "LICENSE" not in files and "LICENSE" in files["README.md"] and "py.typed" in files and "$" not in files["README.md"]
        example = {"notes", "consult", "shouting", "card", "toy_bytes", "lines", "losses"}
        assert not [word for word in example for text in files.values() if f"import {word}" in text or f'"{word}"' in text], kind


def test_several_kinds_stand_beside_each_other_as_plugins_of_their_own():
    kinds = with_needed(list(HOOKS))
    made = files_of(Names("all-of-it"), kinds)
    for kind in HOOKS:
        assert f'all-of-it-{kind} = "loraforge_all_of_it.{kind}"' in made["pyproject.toml"] and f"tests/test_{kind}.py" in made


def test_the_readme_speaks_the_users_language(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    made = files_of(Names("mine"), ["loader"])
    assert "数据加载器" in made["README.md"] and "的一个插件" in made["README.md"]


def test_what_is_shown_in_the_documentation_is_what_is_copied():
    for hook in HOOKS.values():
        code, test = documented(hook)
        assert code.startswith("# ") and f"def {hook}(" in code and "check_plugin(" in test


@pytest.mark.parametrize("there", ["folder", "file", "link to nowhere"])
def test_what_stands_there_is_left_as_it_is(there, tmp_path):
    target = tmp_path / "mine"
    if there == "folder":
        target.mkdir()
    elif there == "file":
        target.write_text("mine", encoding="utf-8")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(PluginError, match="is there already; nothing was written"):
        write_package(Names("mine"), ["loader"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and (there != "folder" or not list(target.iterdir()))


def test_somebody_who_is_quicker_loses_nothing(tmp_path, monkeypatch):
    settle = writing.settle

    def slowly(partial):
        settle(partial)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "theirs.txt").write_text("kept", encoding="utf-8")

    monkeypatch.setattr(writing, "settle", slowly)
    with pytest.raises(PluginError, match="is there already"):
        write_package(Names("mine"), ["loader"], tmp_path)
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "theirs.txt"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    write = Path.write_text

    def full(self, *arguments, **named):
        if self.name == "test_loader.py":
            raise OSError(28, "No space left on device")
        return write(self, *arguments, **named)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError) as error:
        write_package(Names("mine"), ["loader"], tmp_path)
    assert error.value.filename == str(tmp_path / "mine") and list(tmp_path.iterdir()) == []
