# SPDX-License-Identifier: Apache-2.0
"""Nothing points left: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from builders import ROOT

import loraforge
import loraforge.testing

CORE = sorted((ROOT / "loraforge").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imports(file: Path) -> list[tuple[str, list[str], bool]]:
    """(module, names, at the top) of every import that really happens; ``if TYPE_CHECKING`` does not."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, [], id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if node.level and not node.module:
                found += [("." + name, [], id(node) in top) for name in names]
            else:
                found.append(("." * node.level + (node.module or ""), names, id(node) in top))
    return found


def test_nobody_imports_upwards():
    """The layers stand in pyproject.toml, where import-linter finds them."""
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "0 broken" in done.stdout, done.stdout[-4000:]


def test_the_loop_imports_only_the_events_and_its_own_parts():
    found = {m for m, _, _ in imports(ROOT / "loraforge" / "training" / "loop.py") if m.startswith(".")}
    assert found == {"..plugin_api.events", ".batching", ".optimizers", ".schedules"}


@pytest.mark.parametrize("file", CORE, ids=lambda f: str(f.relative_to(ROOT / "loraforge")))
def test_heavy_libraries_are_imported_where_they_are_needed(file):
    heavy = {m.split(".")[0] for m, _, top in imports(file) if top} & {
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "safetensors",
        "matplotlib",
    }
    # Rooms that are entered only with a model in hand; the choice of layers by their names needs none.
    rooms = file.parent.name == "kernels" or (file.parent.name == "adapters" and file.stem != "targets")
    assert not heavy or rooms, heavy


@pytest.mark.parametrize("file", PLUGINS, ids=lambda f: str(f.relative_to(ROOT / "plugins")))
def test_plugins_use_only_the_public_api(file):
    for module, names, _ in imports(file):
        if module == "loraforge":
            assert set(names) <= set(loraforge.__all__), names
        elif module.startswith("loraforge."):
            public = {("loraforge.adapters", "lora"), ("loraforge.kernels", "frozen"), ("loraforge.kernels", "program")}
            if "testing" in file.parts:  # for the tests of authors, where the core's own helpers are at hand too
                public |= {("loraforge.testing", name) for name in loraforge.testing.__all__}
            assert {(module, name) for name in names} <= public, f"{module} is not public"


@pytest.mark.parametrize("file", PLUGINS, ids=lambda f: str(f.relative_to(ROOT / "plugins")))
def test_plugins_import_heavy_libraries_late(file):
    if file.parent.name == "kernels":
        return  # imported by others inside functions, which the next lines see to
    for module, names, top in imports(file):
        assert not (top and module.split(".")[0] in ("torch", "transformers", "peft")), f"{module} at the top makes --help slow"
        assert not (top and ("kernels" in module.split(".") or "kernels" in names)), f"{module} imports torch"


def test_all_names_of_the_public_api_exist_and_nothing_else():
    for name in loraforge.__all__:
        assert getattr(loraforge, name) is not None
    assert sorted(loraforge.__all__) == sorted(dir(loraforge)) and len(set(loraforge.__all__)) == len(loraforge.__all__)
    homes = {name for names in loraforge._HOMES.values() for name in names}
    assert homes | {"hookimpl", "__version__"} == set(loraforge.__all__)


def test_everything_is_annotated_and_no_function_is_endless():
    for file in [*CORE, *PLUGINS]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert node.returns is not None, f"{file.name}: {node.name}"
                assert node.end_lineno - node.lineno < 70, f"{file.name}: {node.name} is too long"


def test_no_file_is_endless_and_there_is_no_junk_room():
    for file in [*CORE, *PLUGINS]:
        assert file.stem not in ("utils", "common", "helpers", "misc")
        assert len(file.read_text(encoding="utf-8").splitlines()) < 400, file
    for file in TESTS:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 600, file


def test_a_floor_is_a_table_of_contents():
    for folder in {file.parent for file in [*CORE, *PLUGINS]}:
        assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= 13, folder


def test_the_tests_mirror_the_tree():
    homes = {"core": ROOT / "loraforge", **{name: ROOT / "plugins" / f"loraforge_{name}" for name in ("text", "image", "serve")}}
    for file in TESTS:
        top, *inner = file.relative_to(ROOT / "tests").parts
        if top in homes and file.name.startswith("test_"):
            name = file.name.removeprefix("test_")
            beside = homes[top].joinpath(*inner[:-1], name)
            assert beside.is_file() or beside.with_suffix("").name == beside.parent.name, f"{file}: what does it test?"


def test_every_public_function_and_class_says_what_it_is():
    for file in [*CORE, *PLUGINS]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) or file.stem == "__main__", file
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                decorated = any("hook" in ast.dump(d) for d in node.decorator_list)
                assert ast.get_docstring(node) or decorated, f"{file.name}: {node.name}"


def test_the_product_stands_alone():
    for file in [
        *CORE,
        *PLUGINS,
        *(ROOT / "configs").rglob("*.yaml"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
        ROOT / "pyproject.toml",
    ]:
        text = file.read_text(encoding="utf-8")
        for word in ("/work/", "shared/", "/root/"):
            assert word not in text, f"{file}: {word}"
