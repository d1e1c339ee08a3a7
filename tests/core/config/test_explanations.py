# SPDX-License-Identifier: Apache-2.0
"""Why a value was not taken, in the user's language, whatever stands there."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from loraforge.config.explanations import broken_rule
from loraforge.plan import owners_of
from loraforge.plugin_api.host import PluginHost

ODD = (
    "",
    "abc",
    "1.5",
    -1,
    0,
    10**9,
    1.5,
    float("nan"),
    float("inf"),
    True,
    None,
    [],
    ["a"],
    [1],
    ["a"] * 200,
    {},
    {"a": 1},
    {1: 2},
    "x" * 9999,
)


def owners():
    host = PluginHost(blocked=("echo",))
    return {name: owner for task in host.tasks() for name, owner in owners_of(host, host.task(task))}


@pytest.mark.parametrize("name", owners())
def test_no_word_of_pydantics_is_left_in_chinese(name, monkeypatch):
    """Every key of every owner with every kind of value that YAML can hold."""
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    owner, told = owners()[name], set()
    for key in owner.model_fields:
        for value in ODD:
            try:
                owner.model_validate({key: value})
            except ValidationError as error:
                told |= {broken_rule(detail) for detail in error.errors() if detail["loc"][:1] == (key,) and detail["type"] != "missing"}
    for said in told:
        plain = re.sub(r"“[^”]*”|'[^']*'|\[a, b\]|[a-z_0-9]+[:=/.]\S*|\b[a-z]+_[a-z_]+\b", "", said)
        assert not re.search(r"\b(?:should|must|input|valid|be|a|is|or|greater|less|Field|required)\b", plain), said


def test_a_kind_that_is_not_known_has_words(monkeypatch):
    detail = {"type": "brand_new", "msg": "Input should be new"}
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    assert "Input" not in broken_rule(detail)
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    assert broken_rule(detail) == "Input should be new"
