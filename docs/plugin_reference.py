"""Makes docs/plugin-api.md: every public name that a plugin may import, with its signature and its docstring."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

# What a plugin may import, by module, in the order of the page; None: its ``__all__``.
PUBLIC: dict[str, tuple[str, ...] | None] = {
    "loraforge": None,
    "loraforge.testing": None,
    "loraforge.testing.fixtures": None,
    "loraforge.adapters.lora": ("inject", "load_adapters", "set_adapter", "read_peft", "write_peft", "probe"),
    "loraforge.kernels.frozen": ("replace", "recompute"),
    "loraforge.kernels.program": ("digest",),
    "loraforge_text.records": ("Conversation", "Message", "TextKeys", "TextSampling"),
    "loraforge_image.records": ("Picture", "ImageKeys", "ImageSampling"),
    "loraforge_image.families": None,
    "loraforge_image.testing": ("check_drawing",),
}
_SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:")


def names_of(module: str) -> list[str]:
    """The public names of a module, classes first."""
    own = PUBLIC[module]
    names = importlib.import_module(module).__all__ if own is None else own
    return [name for name in sorted(names, key=lambda name: (not name[0].isupper(), name.lower())) if not name.startswith("__")]


def page() -> str:
    """The page."""
    lines = [
        "# What a plugin may import",
        "",
        "<!-- Written by docs/generate.py; edit the docstrings in the code instead. -->",
        "",
        "Every public name with what its code says of it. How they are used stands in [Writing plugins](writing-plugins.md), the hooks in",
        "[Hooks](hooks.md). What is not on this page may change without notice.",
    ]
    for module in PUBLIC:
        lines += ["", f"## {module}"]
        for name in names_of(module):
            lines += ["", f"### {name}", "", *_entry(module, name)]
    return "\n".join(lines) + "\n"


def _entry(module: str, name: str) -> Iterator[str]:
    value = getattr(importlib.import_module(module), name)
    value = getattr(value, "__wrapped__", value) if callable(value) and not inspect.isclass(value) else value
    if inspect.isclass(value) and issubclass(value, BaseModel):
        yield from (*_text(value), "", "Its fields are YAML keys or settings: see [config.md](config.md).")
    elif inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isfunction(value):
        yield from ("```text", f"{name}{_signature(value)}", "```", "", *_text(value))
    else:
        yield _CONSTANTS[name]


# What is no class and no function has no docstring of its own.
_CONSTANTS = {
    "Batch": "What a trainable model makes of several examples: names to tensors or plain values. Only the model looks inside.",
    "Example": "What a trainable model makes of one record: names to plain values or tensors. Only the model looks inside.",
    "Severity": "How bad a finding is: `error`, `warning` or `hint`.",
    "FLOOR": "The least number of features of a text from which another that contains nearly all of them is near-identical to it.",
    "LARGEST": "The most bytes that `read_file` and `read_text` take unless they are told otherwise.",
    "REVIEW_COLUMNS": "The columns of a table that say what people decided of a row, by the field of `Review`.",
    "UNSEEN": "What a reader does not see, for the inside of a character class of a regular expression.",
    "hookimpl": "Marks a function, or a method, as a hook: `@hookimpl`.",
    "Conditioning": "What a network reads of captions: a mapping of names to tensors, made by `embed` and put together by `join`.",
}


def _class(name: str, kind: type) -> Iterator[str]:
    bases = [base.__name__ for base in kind.__bases__ if base.__module__.startswith("loraforge")]
    if dataclasses.is_dataclass(kind) or bases or not inspect.isabstract(kind):
        shown = _signature(kind) if dataclasses.is_dataclass(kind) else ""
        yield from ("```text", f"{name}{shown}" + (f"  # a {', '.join(bases)}" if bases else ""), "```", "")
    yield from _text(kind)
    for method, value in vars(kind).items():
        plain = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if method.startswith("_") or not inspect.isfunction(plain) or not plain.__doc__:
            continue
        head = f"{method}{_signature(plain)}" if not isinstance(value, property) else method
        yield from ("", f"#### {name}.{method}", "", "```text", head, "```", "", *_text(plain))


def _signature(value: Any) -> str:
    """As it is written in the code, whatever Python makes the page; a long one with a line for each argument."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    parts, star = [], False
    for one in found.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not star:
            parts.append("*")
        star = star or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        text = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "") + one.name
        text += f": {_plain(one.annotation)}" if one.annotation is not one.empty else ""
        parts.append(text + (f" = {_default(one.default)}" if one.default is not one.empty else ""))
    end = ")" if inspect.isclass(value) or found.return_annotation is found.empty else f") -> {_plain(found.return_annotation)}"
    short = f"({', '.join(parts)}{end}"
    return short if len(short) < 100 else "(\n" + "".join(f"    {part},\n" for part in parts) + end


def _plain(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(value: Any) -> str:
    plain = value is None or isinstance(value, str | int | float | tuple)
    return repr(value) if plain else "..."


def _text(value: Any) -> list[str]:
    """A docstring as Markdown: its sections as lists, code in single backticks."""
    lines: list[str] = []
    section = False
    for line in (inspect.getdoc(value) or "").replace("``", "`").splitlines():
        if line.strip() in _SECTIONS:
            section = True
            lines += [f"**{line.strip(' :')}**", ""]
        elif section and (found := re.match(r" {4}([\w*, ]+): (.*)", line)):
            lines.append(f"- `{found[1]}`: {found[2]}")
        elif section and line.startswith("    "):
            lines.append(line.strip() if not line.startswith("        ") else f"  {line.strip()}")
        else:
            section = section and not line.strip()
            lines.append(line)
    return lines
