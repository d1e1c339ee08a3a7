# SPDX-License-Identifier: Apache-2.0
"""Where an adapter came from: code and machine."""

from __future__ import annotations

import sys

from loraforge.plugin_api.host import PluginHost
from loraforge.runs import provenance


def test_code_covers_packages_and_one_file_plugins_and_changes_with_one_byte(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n", encoding="utf-8")
    one = provenance.code(PluginHost((file,), blocked=()))
    assert set(one) == {"loraforge", "loraforge_text", "loraforge_image", "loraforge_serve", "loraforge_studio", "mine.py"}
    file.write_text("x = 2\n", encoding="utf-8")
    two = provenance.code(PluginHost((file,), blocked=()))
    assert {name for name in one if one[name] != two[name]} == {"mine.py"}
    package = tmp_path / "loraforge_text"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "zh.json").write_text("{}", encoding="utf-8")
    host = PluginHost(blocked=())
    monkeypatch.delitem(sys.modules, "loraforge_text")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = provenance.code(host)["loraforge_text"]
    (package / "zh.json").write_text("{ }", encoding="utf-8")
    assert len({before, provenance.code(host)["loraforge_text"], one["loraforge_text"]}) == 3


def test_the_machine_is_described_with_the_threads_that_torch_uses():
    import torch

    machine = provenance.machine()
    assert machine["threads"] == torch.get_num_threads() and machine["cores"] and machine["processor"] and machine["system"]
    assert {"torch", "diffusers", "pillow"} <= set(provenance.versions())
