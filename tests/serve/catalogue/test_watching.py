# SPDX-License-Identifier: Apache-2.0
"""A folder that is watched."""

from __future__ import annotations

import shutil

import pytest
from loraforge_serve.catalogue.source import Source
from loraforge_serve.catalogue.watching import Watcher
from loraforge_serve.library import Library


class Loaded:
    name = "fake"

    def __init__(self):
        self.keys = []

    def add(self, version):
        self.keys.append(version.key)

    def remove(self, version):
        self.keys.remove(version.key)


@pytest.fixture
def watched(tmp_path, host):
    folder = tmp_path / "adapters"
    folder.mkdir()
    told = []
    library = Library(None, Loaded())
    return folder, library, Watcher(folder, Source(host), library, 1, lambda version, what: told.append((version.name, what))), told


def test_adapters_come_change_and_go(watched, exports):
    folder, library, watcher, told = watched
    shutil.copytree(exports["legal"], folder / "a")
    shutil.copytree(exports["other"], folder / "b")
    watcher.look(trusting=True)
    assert library.names() == ["a", "b"]
    shutil.copytree(exports["medical"], folder / "c")
    watcher.look()
    assert library.names() == ["a", "b"], "it may still be being copied"
    watcher.look()
    assert library.names() == ["a", "b", "c"]
    shutil.rmtree(folder / "a")
    shutil.copytree(exports["medical"], folder / "a")
    shutil.rmtree(folder / "b")
    watcher.look()
    watcher.look()
    assert library.names() == ["a", "c"]
    assert told == [("a", "added"), ("b", "added"), ("c", "added"), ("b", "removed"), ("a", "replaced")]
    library.roll_back("a")
    watcher.look()
    assert told[-1] == ("a", "replaced"), "a rollback is not undone by the next look"


def test_what_cannot_be_served_leaves_the_earlier_version(watched, exports):
    folder, library, watcher, _ = watched
    shutil.copytree(exports["legal"], folder / "a")
    watcher.look(trusting=True)
    (before,) = library.versions()
    (folder / "a" / "adapter_config.json").write_text("{", encoding="utf-8")
    watcher.look()
    watcher.look()
    assert library.versions() == [before]
    assert "adapter_config.json" in watcher.problems["a"]
    shutil.copy(exports["legal"] / "adapter_config.json", folder / "a")
    watcher.look()
    watcher.look()
    assert library.versions() != [before]
    assert not watcher.problems


def test_a_folder_takes_nobodys_name_and_takes_nobody_away(watched, exports, tmp_path, host):
    folder, library, watcher, told = watched
    named = shutil.copytree(exports["legal"], tmp_path / "elsewhere")
    library.put(Source(host).read(named, "a"))
    shutil.copytree(exports["other"], folder / "a")
    watcher.look(trusting=True)
    assert (library.versions()[0].path, told) == (named, [])
    assert "served already" in watcher.problems["a"]
    assert str(named) in watcher.problems["a"]
    shutil.copytree(exports["other"], folder / "b")
    watcher.look()
    watcher.look()
    library.put(Source(host).read(named, "b"))
    shutil.rmtree(folder / "b")
    watcher.look()
    assert library.names() == ["a", "b"], "an administrator's stays when the folder goes"
