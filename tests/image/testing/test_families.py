# SPDX-License-Identifier: Apache-2.0
"""The family that docs/writing-plugins.md shows, and the tests that it shows for it, as they stand there."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
from builders import ROOT

NAMES = [
    "it_draws_what_diffusers_draws", "a_batch_of_four_is_four_of_one", "gradients_are_those_of_diffusers_and_peft",
    pytest.param("the_loop_and_the_commands_can_rely_on_it", marks=pytest.mark.slow),
]  # fmt: skip


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The module of the documented tests, with that of the family beside it."""
    page = (ROOT / "docs" / "writing-plugins.md").read_text(encoding="utf-8")
    for name in ("sd3", "test_sd3"):
        text = re.search(rf"^```python\n(# {name}\.py\n.*?)^```", page, re.MULTILINE | re.DOTALL)
        (tmp_path / f"{name}.py").write_text(text[1], encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("test_sd3")
    for name in ("sd3", "test_sd3"):
        del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_documented_tests_of_the_documented_family_pass(name, documented, sd_bases):
    from diffusers import StableDiffusion3Pipeline

    assert {f"test_{getattr(one, 'values', [one])[0]}" for one in NAMES} == {one for one in dir(documented) if one.startswith("test_")}
    folder = sd_bases("sd3")
    test = getattr(documented, f"test_{name}")
    test(*(folder if wanted == "folder" else StableDiffusion3Pipeline.from_pretrained(folder) for wanted in test.__code__.co_varnames[:1]))
