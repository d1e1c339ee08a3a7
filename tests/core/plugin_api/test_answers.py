# SPDX-License-Identifier: Apache-2.0
"""What hooks take and return: for every hook and every kind of mistake the plugin is set aside with what to write instead."""

from __future__ import annotations

import re

import pytest

from loraforge.plugin_api.answers import _CLASSES
from loraforge.plugin_api.host import KINDS, PluginHost

HEAD = """
import click
from loraforge import Check, Exporter, Loader, ModelFamily, Template, hookimpl

def body(**more):
    every = ("load", "open", "matches", "render", "run", "export")
    return {"task": "text", "help": "Mine.", **{name: lambda self, *a: None for name in every}, **more}

def kind(base, **more):
    return type("Mine", (base,), body(**more))
"""
# (what stands in the hook's body, what is said; {hook} and {kind} are the hook's)
MISTAKES = {
    "nothing": ("pass", "{hook} returned None; is its `return` missing?"),
    "a number": ("return 7", "{hook} must return a list, such as [Mine()], of {kind}; it returned 7."),
    "a text": ("return 'mine'", "of {kind}; it returned 'mine'."),
    "a mapping": ("return {{'a': 1}}", "it returned {{'a': 1}}."),
    "None in a list": ("return [None]", "{hook} must return a list of {kind}; in it stands None."),
    "a text in a list": ("return ['x']", "in it stands 'x'."),
    "an object of no kind": ("return [object()]", "in it stands object."),
    "an error": ("return [1 / 0]", r"{hook} failed: ZeroDivisionError: division by zero \(.*mine.py, line \d+\)"),
    "an exit": ("raise SystemExit(3)", "{hook} failed: SystemExit: 3"),
    "a generator that raises": ("yield from ()\n    raise KeyError('x')", "{hook} failed: KeyError: 'x'"),
}
OF_COMPONENTS = {
    "the component itself": ("return kind({kind}, name='x')()", "such as [Mine()], of {kind}; it returned Mine."),
    "the class": ("return [kind({kind}, name='x')]", r"{hook} returned the class Mine itself; return an object of it: [Mine()]"),
    "no name": ("return [kind({kind})()]", '{hook}: Mine has no text name; write one into the class: name = "..."'),
    "no task and no name": ("return [kind({kind}, task=7)()]", "Mine has no text name, task;"),
    "an empty name": ("return [kind({kind}, name='')()]", "Mine has no text name;"),
    "keys that are none": (
        "return [kind({kind}, name='x', keys=dict)()]",
        "'keys' of Mine must be a class that derives from loraforge.Keys",
    ),
}


def said(tmp_path, code: str, hook: str) -> str:
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}\n{code}", encoding="utf-8")
    host = PluginHost([file], ())
    ask = {"loraforge_tasks": host.tasks, "loraforge_commands": lambda: host.commands(())}
    ask.get(hook, lambda: host.components(hook, "text"))()
    (line,) = host.unusable()
    assert line.startswith(f"{file}: plugin 'mine' is not in use: ") and "\n" not in line
    return line


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("hook", _CLASSES)
def test_what_a_hook_returns_instead_is_told_with_what_to_return(hook, mistake, tmp_path):
    body, words = (part.format(hook=hook, kind=_CLASSES[hook]) for part in MISTAKES[mistake])
    line = said(tmp_path, f"@hookimpl\ndef {hook}():\n    {body}\n", hook)
    assert words in line or re.search(words, line)


@pytest.mark.parametrize("mistake", OF_COMPONENTS)
@pytest.mark.parametrize("hook", KINDS)
def test_a_component_that_lacks_something_is_told_with_what_it_lacks(hook, mistake, tmp_path):
    body, words = (part.format(hook=hook, kind=_CLASSES[hook]) for part in OF_COMPONENTS[mistake])
    assert words in said(tmp_path, f"@hookimpl\ndef {hook}():\n    {body}\n", hook)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("@hookimpl\ndef loraforge_templates(config, keys):\n    return []", "loraforge_templates is not given config, keys; write def loraforge_templates():"),
        ("@hookimpl\ndef loraforge_event(evnt):\n    pass", "loraforge_event is not given evnt; write def loraforge_event(event):"),
        ("@hookimpl\ndef loraforge_event(event, more):\n    pass", "is not given more; write def loraforge_event(event):"),
        ("def loraforge_templates():\n    return []", "is not marked with @hookimpl"),
        ("@hookimpl\ndef loraforge_template():\n    return []", "Did you mean 'loraforge_templates'?"),
        ("1 / 0", "could not be imported: ZeroDivisionError: division by zero ("),
        ("import nothing_of_the_kind", "could not be imported: ModuleNotFoundError"),
        ("raise SystemExit(2)", "could not be imported: SystemExit: 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_before_a_hook_is_asked_is_told_with_the_line(code, words, tmp_path):
    line = said(tmp_path, code, "loraforge_templates")
    assert words in line and (words[-1] != "(" or re.search(r"mine\.py, line \d+\)", line))


def test_one_plugin_with_one_name_twice_is_not_told_to_block_itself(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        f"{HEAD}\n@hookimpl\ndef loraforge_exporters():\n    return [kind(Exporter, name='x')(), kind(Exporter, name='x')()]\n",
        encoding="utf-8",
    )
    assert PluginHost([file], ()).clashes() == ["plugin 'mine' brings the exporter 'x' twice. Give one another name."]
