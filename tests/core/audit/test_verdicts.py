# SPDX-License-Identifier: Apache-2.0
"""In which state each part of a run is, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loraforge.audit.verdicts import ADDED, ALTERED, DIFFERS, MISSING, UNCHANGED, UNCHECKED, UNRECORDED, Part, Verification, Verifier
from loraforge.runs.folder import RunFolder


def verifier(**manifest) -> Verifier:
    return Verifier(None, RunFolder(Path("run")), manifest)


@pytest.mark.parametrize(
    ("state", "sound", "same"),
    [(UNCHANGED, True, True), (ALTERED, False, False), (MISSING, False, False), (ADDED, False, False), (DIFFERS, True, False), (UNCHECKED, True, False), (UNRECORDED, True, False)],
)  # fmt: skip
def test_what_is_sound(state, sound, same):
    good, other = Part("file", "a", UNCHANGED, "is"), Part("data", "b", state, "is")
    found = Verification(Path("run"), "ab", None, (good, other))
    assert found.sound is sound and found.of("data") == [other] and found.of("data", state) == [other] and found.of("file", "x") == []
    assert found.of("file", "x", UNCHANGED) == [good]
    assert found.as_json() == {
        "run": "run", "sound": sound, "seal": "ab", "anchored": None, "newest": "", "signed": None,
        "parts": [{"kind": "file", "name": "a", "state": UNCHANGED, "sentence": "is"}, {"kind": "data", "name": "b", "state": state, "sentence": "is"}],
    }  # fmt: skip
    looked = verifier()
    looked.parts = [good, other]
    assert looked.sound("file") and looked.sound("data") is same and looked.sound("base")


def test_what_a_terminal_would_obey_is_not_passed_on():
    looked = verifier()
    looked.add("file", "a\x1b[31m", ALTERED, "b\x07c")
    assert looked.parts == [Part("file", "a?[31m", ALTERED, "b c")]


@pytest.mark.parametrize(
    ("manifest", "path", "form", "value", "state"),
    [
        ({"a": {"b": {"c": 1}}}, ("a", "b"), dict, {"c": 1}, None),
        ({"a": {"b": [1]}}, ("a", "b"), list, [1], None),
        ({"a": {"b": {}}}, ("a", "b"), dict, {}, None),
        ({"a": {"b": [1]}}, ("a", "b"), dict, None, ALTERED),
        ({"a": [1]}, ("a", "b"), dict, None, ALTERED),
        ({"a": {"b": None}}, ("a", "b"), dict, None, UNRECORDED),
        ({"a": None}, ("a", "b"), dict, None, UNRECORDED),
        ({}, ("a", "b"), dict, None, UNRECORDED),
        ({"a": "x"}, ("a", "b", "c"), dict, None, ALTERED),
    ],
)
def test_an_entry_is_used_only_if_its_form_is_known(manifest, path, form, value, state):
    looked = verifier(**manifest)
    assert looked.entry("data", *path, form=form) == value
    assert [(part.kind, part.name, part.state) for part in looked.parts] == ([("data", ".".join(path), state)] if state else [])
