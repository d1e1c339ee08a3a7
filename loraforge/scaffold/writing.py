# SPDX-License-Identifier: Apache-2.0
"""Makes the package of a new plugin from the files in ``kinds`` and ``package``, and writes it: whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template

from ..errors import PluginError
from ..messages import language, speaker
from ..runs.disk import writing
from ..runs.folder import settle
from ..terminal import command
from .names import HOOKS, Names

say = speaker(__name__)

# What each kind is called in the documentation: its file, and the names in it that become the plugin's own.
_MODULES = {
    "loader": "notes",
    "template": "consult",
    "check": "shouting",
    "exporter": "card",
    "family": "toy_bytes",
    "task": "lines",
    "command": "ask",
    "observer": "losses",
}
# The class that becomes the plugin's own.
_CLASSES = {"Notes": "Loader", "Consult": "Template", "Shouting": "Check", "Card": "Exporter", "ToyBytes": "Family"}


def documented(hook: str) -> tuple[str, str]:
    """A whole plugin with one hook, and its test, as docs/hooks.md shows them."""
    kind = next(kind for kind, own in HOOKS.items() if own == hook)
    return _source(f"kinds/{kind}.py.in"), _source(f"kinds/test_{kind}.py.in")


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(*PurePosixPath(name).parts).read_text(encoding="utf-8")


def files_of(names: Names, kinds: Sequence[str]) -> dict[str, str]:
    """The files of a package by their place in it.

    Args:
        kinds: see ``names.with_needed``.
    """
    values = {
        "distribution": names.distribution,
        "package": names.package,
        "entry_points": "\n".join(f'{names.of_entry(kind, kinds)} = "{names.package}.{kind}"' for kind in kinds),
        "parts": "\n".join(f"- `src/{names.package}/{kind}.py`: {about(kind)}" for kind in kinds),
        "first": f"src/{names.package}/{kinds[0]}.py",
        "use": "\n".join(dict.fromkeys(use(names, kind, kinds) for kind in kinds)),
    }
    made = {
        "pyproject.toml": Template(_source("package/pyproject.toml.in")).substitute(values),
        "README.md": Template(_source(f"package/README{'.zh' if language() == 'zh' else ''}.md.in")).substitute(values),
        ".gitignore": _source("package/gitignore.in"),
        f"src/{names.package}/__init__.py": f'"""A plugin for LoRAForge: {names.plugin}."""\n',
        f"src/{names.package}/py.typed": "",
    }
    for kind in kinds:
        made[f"src/{names.package}/{kind}.py"] = _module(names, kind, kinds)
        made[f"tests/test_{kind}.py"] = _test(names, kind, kinds)
    return made


def _own_words(names: Names, text: str, kinds: Sequence[str]) -> str:
    """An example with the plugin's names in place of the example's."""
    changes = {rf"\b{word}\b": names.of_class(kind) for word, kind in _CLASSES.items()}
    task = names.plugin if "task" in kinds else "text"
    quoted = {word: names.plugin for word in ("notes", "consult", "shouting", "card", "toy-bytes", "ask")}
    changes |= {f'"{word}"': f'"{new}"' for word, new in {**quoted, "lines": task}.items()}
    changes[r"\bask_command\b"] = f"{names.word}_command"
    for old, new in changes.items():
        text = re.sub(old, new, text)
    return text


def _module(names: Names, kind: str, kinds: Sequence[str]) -> str:
    code = _source(f"kinds/{kind}.py.in").partition("\n")[2]
    return f'"""A plugin of one file: {_ENGLISH[kind]}"""\n\n{_own_words(names, code, kinds)}'


def _test(names: Names, kind: str, kinds: Sequence[str]) -> str:
    """The example's test: what it imports as a file of its own is a module of the package, and stands last."""
    code = _source(f"kinds/test_{kind}.py.in").partition("\n")[2]
    modules = {word: own for own, word in _MODULES.items() if re.search(rf"^import {word}$", code, re.MULTILINE)}
    code = re.sub(rf"^import ({'|'.join(modules)})\n+", "", code, flags=re.MULTILINE)
    for word, own in modules.items():
        code = re.sub(rf"(?<![\w\"./]){word}(?=[.,)\]])", own, code)
    head, below = re.split(r"\n\n(?=\n|[A-Z])", code, maxsplit=1)
    imported = f"from {names.package} import {', '.join(sorted(modules.values()))}"
    code = f"{head.rstrip()}\n\n{imported}\n\n{below}"
    return f'"""What is promised of the {kind} holds."""\n\n{_own_words(names, code, kinds).lstrip()}'


_ENGLISH = {
    "loader": "reads data in another layout.",
    "template": "puts questions in another form.",
    "check": "looks at the rows before they are trained on.",
    "exporter": "writes adapters in another format.",
    "family": "loads another kind of base model.",
    "task": "another kind of run, with the loader and the template that it needs.",
    "command": "one more command of the command line.",
    "observer": "is told what happens in a run.",
}


def about(kind: str) -> str:
    """What a kind of plugin does, in the user's language."""
    return {
        "loader": say("a data loader: reads data in another layout"),
        "template": say("a template: puts questions in another form"),
        "check": say("a check: looks at the rows before they are trained on"),
        "exporter": say("an exporter: writes adapters in another format"),
        "family": say("a model family: loads another kind of base model"),
        "task": say("a task: another kind of run, with its loader and its template"),
        "command": say("a command: one more beside train and check"),
        "observer": say("an observer: is told what happens in a run"),
    }[kind]


def use(names: Names, kind: str, kinds: Sequence[str]) -> str:
    """The command line that uses what was made."""
    name = names.plugin
    task = name if "task" in kinds else "text"
    return command("loraforge", *{
        "loader": ("check", "text", "my.yaml", "--set", f"data_loader={name}"),
        "template": ("check", "text", "my.yaml", "--set", f"prompt_template={name}", "--show", "2"),
        "check": ("check", "text", "my.yaml"),
        "exporter": ("export", "output/my-run", "--to", name),
        "family": ("check", task, "my.yaml", "--set", f"base_model={name}"),
        "task": ("train", task, "my.yaml", "--set", f"base_model={name}"),
        "command": (name, "--help"),
        "observer": ("train", "text", "my.yaml"),
    }[kind])  # fmt: skip


def write_package(names: Names, kinds: Sequence[str], place: Path) -> Path:
    """Writes the package into a new folder of ``place``.

    Raises:
        PluginError: if something stands there.
        OSError: what the disk refuses, with the folder's name; nothing is left then.
    """
    folder = place / names.given
    if os.path.lexists(folder):
        raise PluginError(_occupied(folder))
    with writing(folder):
        partial = Path(tempfile.mkdtemp(prefix=f".{names.given}.", dir=place))
        try:
            for name, text in files_of(names, kinds).items():
                file = partial / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", newline="\n")
            settle(partial)
            os.rename(partial, folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # somebody was quicker
                raise PluginError(_occupied(folder)) from None
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _occupied(folder: Path) -> str:
    return say("{path} is there already; nothing was written. Choose another name, or another place (cd).", path=folder)
