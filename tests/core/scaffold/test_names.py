# SPDX-License-Identifier: Apache-2.0
"""What a new plugin may be called: what pip, Python, the disk and the other plugins allow."""

from __future__ import annotations

import re
import types

import pytest

import loraforge
from loraforge import hookimpl
from loraforge.scaffold.names import HOOKS, LONGEST, Names, taken_names, with_needed, wrong_name


@pytest.mark.parametrize("name", ["house-rules", "House_Rules", "a.b", "x", "loraforge-notes", "class", "model", "a1", "A" * LONGEST])
def test_what_pip_and_python_take_is_taken(name):
    assert wrong_name(name) == ""
    names = Names(name)
    # PEP 503 (normalised names), the language reference (identifiers).
    assert re.fullmatch(r"loraforge-[a-z0-9]+(-[a-z0-9]+)*", names.distribution) and not names.plugin.startswith("loraforge-")
    assert names.package.isidentifier() and names.of_class("Loader").isidentifier()


@pytest.mark.parametrize(
    "name", ["法律插件", "", " ", "-x", "_x", "x-", "1st", "two words", "a/b", "../up", ".", "a--b", "ä", "x\n", "A" * (LONGEST + 1), "con", "NUL", "lpt1"]
)  # fmt: skip
def test_what_they_do_not_take_is_explained_with_one_that_works(name):
    said = wrong_name(name)
    example = re.search(r"loraforge new-plugin (\S+)$", said)
    assert said.startswith(f"'{name}' cannot be") and example and wrong_name(example[1]) == ""


def test_the_example_keeps_what_can_be_kept():
    assert wrong_name("2024 House Rules!").endswith("loraforge new-plugin house-rules")
    assert wrong_name("法律 legal").endswith("loraforge new-plugin legal")


@pytest.mark.parametrize("kind", ["Loader", "Template", "Check", "Exporter", "Family"])
def test_no_class_has_the_name_of_one_that_is_imported(kind):
    for name in loraforge.__all__:
        if name.endswith(kind) and name != kind:
            assert Names(name.removesuffix(kind)).of_class(kind) not in loraforge.__all__


def test_a_task_brings_its_family_and_kinds_are_counted_once():
    assert with_needed(["check", "loader", "check"]) == ["loader", "check"]
    assert with_needed(["task"]) == ["family", "task"]
    assert Names("notes").of_entry("loader", ["loader"]) == "notes"
    assert Names("notes").of_entry("loader", ["loader", "check"]) == "notes-loader"


@pytest.mark.parametrize(
    ("name", "kinds", "words"),
    [("text", ["loader"], "there is a plugin 'text'"), ("tensorboard", ["observer"], "there is a plugin 'tensorboard'"),
     ("chatml", ["template"], "there is a template 'chatml'"), ("peft", ["exporter"], "there is an exporter 'peft'"),
     ("train", ["command"], "there is a command 'train'"), ("chat", ["command"], "there is a command 'chat'"),
     ("image", ["task", "family"], "there is a task 'image'")],
)  # fmt: skip
def test_what_is_taken_is_told_with_who_has_it(name, kinds, words, host):
    said = "\n".join(taken_names(Names(name), kinds, host, ["train", "check"]))
    assert words.replace("an exporter", "a exporter") in said or words in said


def test_a_name_that_is_free_is_free_for_every_kind(host):
    host.register(types.SimpleNamespace(loraforge_event=hookimpl(lambda event: None, specname="loraforge_event")), "mine")
    assert taken_names(Names("yours"), list(HOOKS), host, ["train"]) == []
    assert len(taken_names(Names("mine"), ["observer"], host, [])) == 1 == len(taken_names(Names("peft"), list(HOOKS), host, []))
