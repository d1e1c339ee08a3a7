# SPDX-License-Identifier: Apache-2.0
"""The documentation is true: hooks with their exact signatures, examples that load, commands and keys that exist."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from builders import ROOT

import loraforge
from loraforge.cli.main import cli
from loraforge.plugin_api import events, hookspecs
from loraforge.plugin_api.host import PluginHost

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# A Chinese page has the examples of its English one, to the character: tests/test_docs_languages.py.
TRIED = [page for page in PAGES if not page.name.endswith(".zh-CN.md")]
HOOKS = {name: spec for name, spec in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("loraforge_")}


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """(line, text) of the fenced blocks in these languages."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text[: m.start()].count("\n") + 1, m[2]) for m in found if m[1] in languages]


def each(*languages: str) -> list:
    return [pytest.param(page, text, id=f"{page.name}:{line}") for page in TRIED for line, text in blocks(page, *languages)]


def signature(name: str) -> str:
    return name + str(inspect.signature(HOOKS[name])).replace("'", "")


# --- hooks -------------------------------------------------------------------------------------------------------------------


def test_there_are_eight_hooks_and_their_headings_are_their_signatures():
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    headings = [h.strip("` ") for h in re.findall(r"^## (.*loraforge_.*)$", page, re.MULTILINE)]
    order = sorted(HOOKS, key=lambda name: HOOKS[name].__code__.co_firstlineno)
    assert len(HOOKS) == 8 and headings == [signature(name) for name in order]


@pytest.mark.parametrize("name", list(HOOKS))
def test_the_example_below_a_hooks_heading_implements_it(name):
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    section = page.split(signature(name), 1)[1]
    assert f"def {name}(" in re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def test_every_hook_is_reached_in_a_run(project, host, tmp_path):
    from types import SimpleNamespace

    from loraforge import hookimpl
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan

    asked: list[str] = []

    def implement(name: str):
        if name == "loraforge_event":
            return hookimpl(lambda event: asked.append(name), specname=name)
        return hookimpl(lambda: [asked.append(name)][1:], specname=name)

    host.register(SimpleNamespace(**{name: implement(name) for name in HOOKS}), "listener")
    run_training(make_plan(host, "text", project(epochs=1)), host)
    host.commands([])
    assert set(asked) == set(HOOKS)


def test_every_event_is_in_the_table_with_what_it_carries():
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", page, re.MULTILINE))
    known = {name: kind for name, kind in vars(events).items() if inspect.isclass(kind) and issubclass(kind, events.Event)}
    del known["Event"]
    assert rows.keys() == known.keys() and set(known) <= set(loraforge.__all__)
    for name, kind in known.items():
        assert re.findall(r"`(\w+)`", rows[name]) == [field.name for field in dataclasses.fields(kind)], name


# --- public names ------------------------------------------------------------------------------------------------------------


# What a plugin may import; None: the module's ``__all__``.
PUBLIC: dict[str, tuple[str, ...] | None] = {
    "loraforge": None,
    "loraforge.testing": None,
    "loraforge.adapters.lora": ("inject", "load_adapters", "set_adapter", "read_peft", "write_peft", "probe"),
    "loraforge.kernels.frozen": ("replace", "recompute"),
    "loraforge.kernels.program": ("digest",),
    "loraforge_text.records": ("Conversation", "Message", "TextKeys", "TextSampling"),
    "loraforge_image.records": ("Picture", "ImageKeys", "ImageSampling"),
    "loraforge_image.families": None,
    "loraforge_image.testing": None,
}


def names_of(module: str) -> set[str]:
    return set(PUBLIC[module] or importlib.import_module(module).__all__)


def words_of_examples() -> set[str]:
    """Every word in the plugins and tests that the pages for plugin authors show, all of which run."""
    pages = [ROOT / "docs" / name for name in ("hooks.md", "writing-plugins.md", "plugin-examples.md")]
    return {word for page in pages for _, text in blocks(page, "python") for word in re.findall(r"\w+", text)}


def test_every_public_name_is_in_the_reference():
    """Once; tests/test_site.py sees to it that the pages have what the docstrings say."""
    entries = [line for name in ("api", "testing") for line in (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").splitlines()]
    listed = sorted(line.removeprefix("::: ") for line in entries if line.startswith("::: "))
    fixtures = "loraforge.testing.fixtures"  # the text of the module: it lists what pytest hands to tests
    assert listed == sorted([*(f"{module}.{name}" for module in PUBLIC for name in names_of(module)), fixtures])


def test_what_authors_derive_from_and_are_handed_stands_in_an_example_that_runs():
    served = {"Decoder"}  # of a server's chat format: nobody is handed one otherwise
    wanted = {name for name in names_of("loraforge") if re.match("[A-Z][a-z]", name)} - {"Severity"} - served
    wanted |= {name for name in names_of("loraforge.testing") if name != "check_component"}  # which the others call
    wanted |= {"Picture", "ImageKeys", "Conversation", "Message", "ImageFamily", "ImageBase"}
    wanted |= {
        "matches",
        "describe_base",
        "typical_ranges",
        "golden",
        "deliver",
        "usage",
        "refuses",
        "usual",
        "estimate_memory",
        "base_files",
    }
    missing = sorted(wanted - words_of_examples())
    assert not missing, f"no example shows {', '.join(missing)}"


# --- examples ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "text"), [p for p in each("python") if p.values[0].name in ("hooks.md", "writing-plugins.md")])
def test_every_plugin_example_is_a_whole_plugin(page, text, tmp_path, monkeypatch):
    named = re.match(r"# ([\w/]+\.py)", text)
    assert named, "the first line names the file"
    file = tmp_path / Path(named[1]).name
    file.write_text(text, encoding="utf-8")
    if "def test_" in text or "hookimpl" not in text:
        compile(text, str(file), "exec")
        return
    host = PluginHost([file], ())
    info = next(i for i in host.plugins() if i.name == file.stem)
    assert info.error is None and info.hooks, info
    host.commands(cli.commands)
    assert host.clashes() == [] and all(i.error is None for i in host.plugins() if i.name == file.stem)


@pytest.mark.parametrize(("page", "text"), each("python", "py"))
def test_every_import_in_an_example_is_there(page, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
            "loraforge",
            "loraforge_text",
            "loraforge_image",
            "loraforge_serve",
            "loraforge_studio",
        ):
            for alias in node.names:
                assert _there(f"{node.module}.{alias.name}"), f"{page.name}: {node.module}.{alias.name}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_name_of_ours_in_the_text_is_there(page):
    spans = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    named = {
        name
        for span in spans
        for name in re.findall(r"(?<![\w./-])(?:loraforge|loraforge_text|loraforge_image|loraforge_serve|loraforge_studio)(?:\.\w+)+", span)
    }
    files = {"loraforge.json", "loraforge.yaml"}
    assert not [name for name in named - files if not _there(name)]


def _there(dotted: str) -> bool:
    """Whether a module, or a name in one, exists."""
    module, _, name = dotted.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(dotted) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(("page", "text"), [p for p in each("yaml") if p.values[0].parent.name != "tutorials"])  # test_tutorials.py
def test_every_yaml_example_is_right(page, text, command, tmp_path, monkeypatch):
    values = yaml.safe_load(text)
    assert isinstance(values, dict)
    monkeypatch.chdir(ROOT)
    task = "image" if page.name in ("train-image.md", "webui.md") or "resolution" in values else "text"
    if "train_data_dir" not in values:
        from loraforge.plan import owners_of

        host = PluginHost(blocked=())
        known = {k for _, owner in owners_of(host, host.task(task)) for k in owner.model_fields}
        assert set(values) <= known, set(values) - known
        return
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    code, _, err = command("check", task, file)
    assert code == 0, err


def commands_in(text: str) -> list[list[str]]:
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = line.split("  #")[0].strip().removeprefix("$ ")
        for part in re.split(r"\s*&&\s*", line):
            if re.match(r"(\w+=\S+ )*loraforge( |$)", part):
                words = shlex.split(part)
                found.append(words[words.index("loraforge") + 1 :])
    return found


@pytest.mark.parametrize(("page", "words"), [pytest.param(page, words, id=f"{page.name}: {' '.join(words)[:60]}") for page in TRIED
                                             for _, text in blocks(page, "sh", "bash", "console", "text", "") for words in commands_in(text)
                                             if page.name != "cli.md"])  # fmt: skip
def test_every_command_line_parses(page, words):
    root = click.Context(cli, info_name="loraforge")
    root.obj = PluginHost(blocked=())
    own = [w for i, w in enumerate(words) if w == "-p" or (i and words[i - 1] == "-p")]
    words = [w for i, w in enumerate(words) if w != "-p" and not (i and words[i - 1] == "-p")]
    if not words or words[0].startswith("-"):
        return
    command = cli.get_command(root, words[0])
    if command is None and own:
        return  # the command of the plugin that the example has just written
    assert command is not None, f"there is no command {words[0]}"
    if "--help" not in words:
        command.make_context(words[0], words[1:], parent=root, resilient_parsing=False)


def test_the_readmes_two_commands_are_there():
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.search(r"^pip install -e \. && loraforge train text configs/legal\.yaml$", text, re.MULTILINE), name
        assert re.search(r"^loraforge train text --example legal$", text, re.MULTILINE), name
        assert re.search(r"^loraforge train image --example cyberpunk$", text, re.MULTILINE), name
        assert re.search(r"^pip install -e '\.\[dev\]' && pytest$", text, re.MULTILINE), name


def test_no_link_inside_the_project_is_dead():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http", "mailto")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_file_of_ours_in_the_text_is_there(page):
    spans = re.findall(r"`([^`\n]+)`|^(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    text = " ".join(one or other for one, other in spans)
    named = re.findall(r"(?<![\w./-])((?:tests|loraforge|plugins|core|text|image|hostile|builders)/[\w/-]+\.py)\b", text)
    assert not [name for name in named if not any((ROOT / place / name).is_file() for place in ("", "tests"))]


def test_the_generated_pages_are_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page",
    [
        "index",
        "train-text",
        "train-image",
        "webui",
        "deploy",
        "config",
        "cli",
        "writing-plugins",
        "hooks",
        "plugin-examples",
        "api",
        "design",
    ],
)
def test_the_pages_exist_and_say_something(page):
    assert len((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")) > 1000
