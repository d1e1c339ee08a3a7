# SPDX-License-Identifier: Apache-2.0
"""Malformed plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from builders.malformed.case import CHECK, Case, sound

_HOOK = "from loraforge import hookimpl\n@hookimpl\ndef {hook}():\n    {body}\n"


_PART = (
    "from loraforge import hookimpl, {kind}\nclass Mine({kind}):\n{attributes}\n{method}\n@hookimpl\ndef {hook}():\n    return [Mine()]\n"
)


def _hook(body: str, hook: str = "loraforge_checks") -> str:
    return _HOOK.format(hook=hook, body=body)


def _check(attributes: str, method: str = "    def run(self, config, keys, records):\n        return ()") -> str:
    return _PART.format(
        kind="Check", hook="loraforge_checks", attributes="\n".join(f"    {a}" for a in attributes.split("; ")), method=method
    )


PLUGINS: dict[str, str | bytes] = {
    "a syntax error": "def (", "an indentation error": " x\ny", "it raises": "raise ValueError('no')", "it exits": "raise SystemExit(0)", "it exits by sys.exit": "import sys; sys.exit('bye')",
    "it asserts": "assert False", "a base exception": "class E(BaseException): pass\nraise E('x')", "a module that is not there": "import no_such_module_at_all",
    "a name that is not there": "from loraforge import NoSuchThing", "nul bytes": b"x = 1\0\n", "binary": bytes(range(256)), "gb18030": "x = '模型'".encode("gb18030"),
    "utf-16": "x = 1\n".encode("utf-16"), "deep brackets": "x = " + "(" * 500 + ")" * 500, "endless recursion": "def f(): f()\nf()", "a lying encoding": "# -*- coding: nope -*-\nx = 1",
    "a misspelt hook": "from loraforge import hookimpl\n@hookimpl\ndef loraforge_chekcs():\n    return []\n", "an unmarked hook": "def loraforge_checks():\n    return []\n",
    "a hook with arguments": "from loraforge import hookimpl\n@hookimpl\ndef loraforge_checks(a, b):\n    return []\n",
    "a hook that raises": _hook("raise ValueError('no')"), "a hook that exits": _hook("raise SystemExit(0)"), "a hook that returns a number": _hook("return 7"),
    "a hook that returns text": _hook("return 'hello'"), "a hook that returns numbers": _hook("return [7]"), "a hook that returns None in a list": _hook("return [None]"),
    "a hook that returns a class": _hook("from loraforge import Check\n    return [Check]"), "a hook that returns a mapping": _hook("return {'a': 1}"),
    "a hook that yields and raises": _hook("yield 1\n    raise ValueError('no')"), "a hook that is abstract": _hook("from loraforge import Check\n    return [Check()]"),
    "tasks that are numbers": _hook("return [7]", "loraforge_tasks"), "tasks that raise": _hook("raise KeyError('x')", "loraforge_tasks"), "loaders that are text": _hook("return ['x']", "loraforge_data_loaders"),
    "templates that are objects": _hook("return [object()]", "loraforge_templates"), "families that are None": _hook("return [None]", "loraforge_model_families"), "exporters that are mappings": _hook("return [{}]", "loraforge_exporters"),
    "commands that are functions": _hook("return [print]", "loraforge_commands"), "commands that are numbers": _hook("return [3]", "loraforge_commands"), "commands that raise": _hook("raise OSError('x')", "loraforge_commands"),
    "a command of the core": "import click\n" + _hook("return [click.Command('train')]", "loraforge_commands"),
    "no name": _check("task = 'text'"), "a name that is a number": _check("name = 7; task = 'text'"), "no task": _check("name = 'x'"), "a task that is a list": _check("name = 'x'; task = ['text']"),
    "keys that are none": _check("name = 'x'; task = 'text'; keys = 7"), "keys that are an object": _check("name = 'x'; task = 'text'; keys = {}"), "a name that is taken": _check("name = 'hedging'; task = 'text'; help = 'x'"),
    "help that is a number": _check("name = 'x'; task = 'text'; help = 7"),
    "a check that raises": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        raise ValueError('no')"),
    "a check that returns numbers": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        return [7]"),
    "a check that returns None": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        return None"),
    "a check that exits": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        raise SystemExit(0)"),
    "a check with an odd severity": _check("name = 'x'; task = 'text'; severity = 'dreadful'", "    def run(self, config, keys, records):\n        from loraforge import Finding\n        return [Finding((0,), 'x')]"),
    "a check about rows that are not there": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        from loraforge import Finding\n        return [Finding((9999,), 'x')]"),
    "a key of the core": "from loraforge import Keys\nfrom pydantic import Field\nclass K(Keys):\n    seed: int = Field(1, description='x')\n" + _check("name = 'x'; task = 'text'; keys = K"),
}  # fmt: skip


def _plugin_cases() -> Iterator[Case]:
    for name, written in PLUGINS.items():

        def build(here: Path, base: Path, run: Path, written: str | bytes = written) -> None:
            sound(here, base)
            (here / "mine.py").write_bytes(written.encode() if isinstance(written, str) else written)

        command = ("-p", "mine.py", "hello") if "loraforge_commands" in str(written) else ("-p", "mine.py", *CHECK)
        yield Case("plugin", name, build, ("mine",) if not name.startswith("a check") else ("'x'",), command)
    yield Case("plugin", "missing", lambda here, base, run: sound(here, base), ("none.py",), ("-p", "none.py", *CHECK))
    yield Case(
        "plugin",
        "a folder",
        lambda here, base, run: ((here / "mine.py").mkdir(), sound(here, base))[1],
        ("mine.py",),
        ("-p", "mine.py", *CHECK),
    )
    yield Case(
        "plugin",
        "no Python file",
        lambda here, base, run: ((here / "mine.txt").write_text("x = 1"), sound(here, base))[1],
        ("mine.txt",),
        ("-p", "mine.txt", *CHECK),
    )
    yield Case(
        "plugin",
        "the name of another",
        lambda here, base, run: ((here / "text.py").write_text("x = 1"), sound(here, base))[1],
        ("text",),
        ("-p", "text.py", *CHECK),
    )
    yield Case(
        "plugin",
        "twice",
        lambda here, base, run: ((here / "mine.py").write_text("x = 1"), sound(here, base))[1],
        ("mine",),
        ("-p", "mine.py", "-p", "mine.py", *CHECK),
    )
