# SPDX-License-Identifier: Apache-2.0
"""``optimizer_args``: ``[name=value, ...]`` as sd-scripts has it, read into typed values and held against the optimizer's own signature.

The signature is read from the source of the installed package, so that ``check`` knows it without loading torch.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...messages import speaker
from ..explanations import did_you_mean, plain
from .profiles import PROFILES

say = speaker(__name__)

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf", re.IGNORECASE)
_ENTRY = re.compile(r"(?:^|[\s,;，；]+)(?=[A-Za-z_]\w*\s*=)")  # what lies between two entries in one line
_WHOLE = ("slice_p", "min_8bit_size", "ns_steps")
_BOUNDS: Mapping[str, tuple[float, float]] = {  # the numbers between which a value lies, both of them excluded
    "eps": (0, math.inf),
    "d0": (0, math.inf),
    "d_coef": (0, math.inf),
    "clip_threshold": (0, math.inf),
    "slice_p": (0, math.inf),
    "ns_steps": (0, 100),
    "growth_rate": (1, math.nan),
}
_CHOICES = {"adjust_lr_fn": ("original", "match_rms_adamw")}


@dataclass(frozen=True)
class Argument:
    """One argument of an optimizer.

    Attributes:
        sort: "bool", "number", "whole", "text", "any", or "numbers" for a list of them.
        count: how many numbers a list has.
    """

    sort: str
    count: int = 0


def listed(value: Any) -> Any:
    """``a=1 b=2`` in one text and ``{a: 1}`` as the list that the key holds, and in a list what YAML took apart: ``[betas=0.9, 0.99]`` has
    two entries for it. Anything else as it is."""
    if isinstance(value, str):
        return [part.strip().rstrip(",;，；") for part in _ENTRY.split(value) if part.strip()]
    if isinstance(value, dict):
        return [f"{name}={_written(one)}" for name, one in value.items()]
    if not isinstance(value, list):
        return value
    joined: list[str] = []
    for part in value:
        if isinstance(part, dict) or (isinstance(part, str) and "=" in part):
            joined += listed(part)
        elif joined and "=" not in str(part):
            joined[-1] += f",{part}"
        else:
            joined.append(str(part))
    return joined


def _written(value: Any) -> str:
    return ",".join(map(_written, value)) if isinstance(value, list | tuple) else str(value)


def read(entries: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values by name, and what is wrong with the entries."""
    values: dict[str, Any] = {}
    problems = []
    for entry in entries:
        name, equals, text = (part.strip() for part in entry.partition("="))
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name) or not text:
            problems.append(say("optimizer_args: '{entry}' must be of the form name=value", entry=entry))
        elif name in values:
            problems.append(say("optimizer_args: {name} is given twice", name=name))
        else:
            values[name] = _value(text)
    return values, problems


def _value(text: str) -> Any:
    """A value as sd-scripts reads it: True, None, a number, several with commas between; everything else is text."""
    bare = text.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":
        return bare[1:-1]
    if len(bare) > 1 and (bare[0], bare[-1]) in (("(", ")"), ("[", "]")):
        return tuple(_value(part) for part in bare[1:-1].split(",") if part.strip())
    if "," in bare:
        return tuple(_value(part) for part in bare.split(",") if part.strip())
    word = bare.casefold()
    if word in ("true", "false"):
        return word == "true"
    if word in ("none", "null"):
        return None
    if re.fullmatch(r"[-+]?\d{1,18}", bare):
        return int(bare)
    return float(bare) if _NUMBER.fullmatch(bare) else bare


def problems(optimizer: str, entries: Sequence[str], weight_decay: float = 0.0) -> list[str]:
    """Everything that is wrong with the arguments of an optimizer.

    Args:
        weight_decay: what the key of that name says.
    """
    values, found = read(entries)
    known = signature(optimizer)
    for name, value in values.items():
        reserved = _reserved(optimizer, name, value)
        if reserved:
            found.append(f"optimizer_args: {name}: {reserved}")
        elif known is not None and name not in known:
            found.append(
                say(
                    "optimizer_args: {optimizer} has no '{name}'.{hint} It has: {names}.",
                    optimizer=optimizer,
                    name=name,
                    hint=did_you_mean(name, known),
                    names=", ".join(one for one in known if not _reserved(optimizer, one, None)),
                )
            )
        elif wrong := _wrong(optimizer, name, value, (known or {}).get(name, Argument("any"))):
            found.append(say("optimizer_args: {name}: {rule}; got {got}", name=name, rule=wrong, got=_shown(value)))
    if weight_decay and values.get("weight_decay", weight_decay) != weight_decay:
        found.append(
            say(
                "weight_decay: {key} here and {argument} in optimizer_args. Keep one of them.",
                key=plain(weight_decay),
                argument=_shown(values["weight_decay"]),
            )
        )
    return found


def _shown(value: Any) -> str:
    return ",".join(map(_shown, value)) if isinstance(value, tuple) else plain(value)


def _reserved(optimizer: str, name: str, value: Any) -> str:
    """Why an argument is not given here though the optimizer has it; empty if it is."""
    if name == "lr":
        return say("that is the key learning_rate.")
    if name == "warmup_steps":
        return say("that is the key warmup, which means the same here.")
    if optimizer == "adafactor" and name in ("relative_step", "warmup_init") and value is not False:
        return say("learning_rate and lr_scheduler say what the rate is; write {name}=False, or leave it out.", name=name)
    if name in ("params", "args", "maximize", "capturable", "differentiable", "fsdp_in_use", "optim_bits", "amsgrad"):
        if name == "amsgrad" and optimizer == "adamw":
            return ""
        return say("it is not for training adapters: leave it out.")
    return ""


def _wrong(optimizer: str, name: str, value: Any, known: Argument) -> str:
    """What a value must be and is not; empty if it is."""
    if name in _CHOICES and value not in _CHOICES[name]:
        return say("must be one of {choices}", choices=", ".join(_CHOICES[name]))
    if known.sort in ("any", "text"):
        return ""
    if known.sort == "bool":
        return "" if isinstance(value, bool) or value is None else say("must be true or false")
    if known.sort == "numbers":
        if not isinstance(value, tuple) or not all(map(_is_number, value)):
            return say(
                "must be {n} numbers, like {example}", n=known.count or 2, example=", ".join(["0.9", "0.99", "0.999"][: known.count])
            )
        if known.count and len(value) != known.count:
            return say("must be {n} numbers, like {example}", n=known.count, example=", ".join(["0.9", "0.99", "0.999"][: known.count]))
    elif not _is_number(value):
        return say("must be a number")
    elif known.sort == "whole" and not float(value).is_integer():
        return say("must be a whole number")
    return next((rule for one in (value if isinstance(value, tuple) else (value,)) if (rule := _outside(optimizer, name, one))), "")


def _outside(optimizer: str, name: str, value: float) -> str:
    if re.fullmatch(r"betas?\d?|momentum", name):
        if value < 0 or (value == 0 and optimizer == "schedule_free"):
            return say("must be more than {bound}", bound=0) if optimizer == "schedule_free" else say("must be {bound} or more", bound=0)
        return say("must be less than {bound}", bound=1) if value >= 1 else ""
    if name == "weight_decay" and value < 0:
        return say("must be {bound} or more", bound=0)
    low, high = _BOUNDS.get(name, (-math.inf, math.inf))
    if value <= low and low > -math.inf:
        return say("must be more than {bound}", bound=plain(low))
    if math.isinf(value) and not math.isnan(high):
        return say("must be a finite number")
    return say("must be less than {bound}", bound=plain(high)) if value >= high else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- the signature -----------------------------------------------------------------------------------------------------------


def signature(optimizer: str) -> Mapping[str, Argument] | None:
    """The arguments of an optimizer by name, in its order, as the installed package has them; None if that cannot be told."""
    profile = PROFILES[optimizer]
    folder = profile.folder()
    return _signature(folder / profile.file, profile.kind) if folder is not None else None


@functools.lru_cache(maxsize=32)
def _signature(file: Path, kind: str) -> Mapping[str, Argument] | None:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == kind:
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                    return _arguments(inner.args)
    return None


def _arguments(given: ast.arguments) -> Mapping[str, Argument]:
    ordered = given.args[1:]
    padded: list[ast.expr | None] = [*([None] * (len(ordered) - len(given.defaults))), *given.defaults]
    pairs = [*zip(ordered, padded, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return {one.arg: _argument(one, default) for one, default in pairs if one.arg != "params"}


def _argument(one: ast.arg, default: ast.expr | None) -> Argument:
    """What sort of value an argument takes, by its default and its annotation."""
    written = ast.unparse(one.annotation) if one.annotation is not None else ""
    if isinstance(default, ast.Tuple):
        return Argument("numbers", len(default.elts))
    value = default.value if isinstance(default, ast.Constant) else None
    if isinstance(value, bool) or "bool" in written:
        return Argument("bool")
    if isinstance(value, str) or "str" in written:
        return Argument("text")
    if one.arg in _WHOLE:
        return Argument("whole")
    numeric = isinstance(value, int | float) or isinstance(default, ast.UnaryOp | ast.Call | ast.Name) or re.match("betas?[0-9]?$", one.arg)
    if numeric or "float" in written:
        return Argument("number")
    return Argument("any")
