# SPDX-License-Identifier: Apache-2.0
"""The fixtures, in the tests of a stranger's package: its own pytest, its own conftest.py, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from builders import ROOT

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
ECHO = ROOT / "tests" / "thirdparty" / "loraforge-echo"
TESTS = """
import loraforge_echo
from loraforge import Adapter, KeySet, RunConfig, load_run
from loraforge.plugin_api.host import PluginHost
from loraforge.testing import check_command, check_exporter, check_loader, check_observer, check_plugin, check_template, make_adapter
from loraforge_text.records import Conversation

seen = []


def test_the_plugin():
    check_plugin(loraforge_echo)


def test_the_exporter(adapter, tmp_path):
    assert isinstance(adapter, Adapter)
    check_exporter(loraforge_echo.SummaryExporter(), adapter, tmp_path)
    check_exporter(loraforge_echo.SummaryExporter(), make_adapter(dora=True, conv=True), tmp_path / "more")


def test_the_loader(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("q | a\\np | b\\n", encoding="utf-8")
    config = RunConfig(train_data_dir=str(tmp_path), base_model="tiny-chat")
    keys = KeySet({RunConfig: config, loraforge_echo.EchoKeys: loraforge_echo.EchoKeys(repeat=2)})
    records = check_loader(loraforge_echo.LinesLoader(), config, keys, spoil=lambda: file.write_text("no bar", encoding="utf-8"))
    check_template(loraforge_echo.EchoTemplate(), records, [Conversation("q?", where="question")])


def test_the_command():
    assert check_command(loraforge_echo.echo, ["a", "b"]) == "a b\\n"


def test_the_observer(tmp_path):
    check_observer(loraforge_echo, tmp_path / "run")
    assert (tmp_path / "run" / "echo.txt").is_file()


def test_the_events(events):
    assert events[0].name == "StageStarted" and next(e for e in events if e.name == "RunStarted").folder.is_dir()


def test_the_run(finished_run):
    seen.append(finished_run)
    (finished_run.path / "manifest.json").unlink()


def test_the_next_test_has_a_copy_of_its_own(finished_run):
    assert finished_run.path != seen[0].path
    assert load_run(PluginHost(blocked=()), finished_run.path).manifest["status"] == "finished"
    assert finished_run.adapters()["run"].rank == 4
"""


def example(page: str, name: str) -> str:
    """The plugin or test file of this name in the documentation."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.search(rf"^```python\n(# {name}\.py\n.*?)^```", text, re.MULTILINE | re.DOTALL)[1]


def write_documented_package(folder: Path) -> None:
    """The plugins of writing-plugins.md as one package, those of hooks.md as files, and the tests that the pages show."""
    package = folder / "loraforge_word"
    package.mkdir()
    parts = [example("writing-plugins.md", name) for name in ("word", "norms", "mistakes")]
    (package / "__init__.py").write_text("\n".join([*parts, "from . import rising\n"]), encoding="utf-8")
    (package / "rising.py").write_text(example("writing-plugins.md", "rising"), encoding="utf-8")
    for name in ("lines", "toy_bytes"):
        (folder / f"{name}.py").write_text(example("hooks.md", name), encoding="utf-8")
    (folder / "test_word.py").write_text(example("writing-plugins.md", "test_word"), encoding="utf-8")
    for name in ("test_lines", "test_toy_bytes"):
        (folder / f"{name}.py").write_text(example("hooks.md", name), encoding="utf-8")
    text = (ROOT / "docs" / "plugin-examples.md").read_text(encoding="utf-8")
    for name in re.findall(r"^```python\n# (test_\w+)\.py$", text, re.MULTILINE):
        (folder / f"{name}.py").write_text(example("plugin-examples.md", name), encoding="utf-8")
    (folder / "tests" / "data").mkdir(parents=True)
    cells = "".join(f"<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>" for text in ("question", "answer"))
    body = f'<w:document xmlns:w="{WORD}"><w:body><w:tbl><w:tr>{cells}</w:tr><w:tr>{cells}</w:tr></w:tbl></w:body></w:document>'
    with zipfile.ZipFile(folder / "tests" / "data" / "one.docx", "w") as file:
        file.writestr("word/document.xml", body)


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    places = [str(folder), str(ECHO / "src"), str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
def test_strangers_packages_use_checks_and_fixtures(tmp_path):
    """The third-party package of these tests, and the one that the documentation shows with its tests."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["loraforge.testing.fixtures"]\n', encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_echo.py").write_text(TESTS, encoding="utf-8")
    write_documented_package(tmp_path)
    done = run_pytest(tmp_path)
    assert done.returncode == 0 and "51 passed" in done.stdout, done.stdout + done.stderr


def test_without_being_asked_for_they_are_nowhere(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text("def test_it(adapter):\n    pass\n", encoding="utf-8")
    done = run_pytest(tmp_path)
    assert "fixture 'adapter' not found" in done.stdout


def test_neither_torch_nor_pytest_comes_with_the_checks():
    code = "import loraforge.testing, sys; print([m for m in ('torch', 'transformers', 'accelerate', 'pytest', '_pytest') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_all_that_is_public_is_there():
    import loraforge.testing as public

    assert sorted(public.__all__) == public.__all__ and all(callable(getattr(public, name)) for name in public.__all__)
