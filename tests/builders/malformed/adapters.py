# SPDX-License-Identifier: Apache-2.0
"""Malformed adapters."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builders.malformed.bases import _NO_JSON, _TRAIN, _damaged_weights
from builders.malformed.case import Case, sound

# An entry of adapter_config.json with a wrong value (... takes it away).
ADAPTER_ENTRIES: dict[str, dict[str, Any]] = {
    "another kind": {"peft_type": "IA3"}, "no kind": {"peft_type": ...}, "a kind that is a list": {"peft_type": ["LORA"]}, "no rank": {"r": ...},
    "a rank of 0": {"r": 0}, "a rank below 0": {"r": -4}, "a rank that is text": {"r": "four"}, "a rank that is null": {"r": None},
    "a rank that is a list": {"r": [4]}, "a rank of 10^400": {"r": 10**400}, "a rank that is no number": {"r": float("nan")},
    "a rank that is a fraction": {"r": 4.5}, "another rank than the tensors": {"r": 64}, "true as rank": {"r": True},
    "no alpha": {"lora_alpha": ...}, "alpha of 0": {"lora_alpha": 0}, "alpha below 0": {"lora_alpha": -8}, "alpha that is text": {"lora_alpha": "x"},
    "alpha that is no number": {"lora_alpha": float("nan")}, "infinite alpha": {"lora_alpha": float("inf")}, "alpha that is null": {"lora_alpha": None},
    "alpha that is a list": {"lora_alpha": [8]}, "patterns that are a list": {"alpha_pattern": [1]}, "a pattern that is none": {"alpha_pattern": {"(": 3}},
    "a pattern of text": {"alpha_pattern": {"q_proj": "x"}}, "a pattern that never ends": {"alpha_pattern": {"(a+)+$x": "y"}},
    "targets that are a number": {"target_modules": 7}, "targets of numbers": {"target_modules": [1, "a"]}, "targets that are an object": {"target_modules": {"a": [1]}},
    "other modules too": {"modules_to_save": ["lm_head"]}, "repeated layers": {"layer_replication": [[0, 1]]},
    "a base that is a list": {"base_model_name_or_path": [1]}, "a base that is an object": {"base_model_name_or_path": {}},
}  # fmt: skip


LORAFORGE_ENTRIES: dict[str, Any] = {
    "a list": [], "a number": 7, "probes that are a list": {"probes": [1]}, "probes of text": {"probes": {"a": "x"}}, "probes of text in lists": {"probes": {"a": ["x"]}},
    "probes of null": {"probes": {"a": None}}, "files that are a number": {"files": 3}, "files of numbers": {"files": [1]}, "facts that are a list": {"facts": [1]},
    "a base that is a list": {"base_model": [1]},
}  # fmt: skip


def _adapter_with(change: Callable[[Path], Any]) -> Callable[[Path, Path, Path], None]:
    def build(here: Path, base: Path, run: Path) -> None:
        sound(here, base, init_from_adapter=str(here / "adapter"))
        change(shutil.copytree(run / "adapter", here / "adapter"))
        os.symlink(run, here / "run")

    return build


def _rewrite(name: str, change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def go(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(change(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")

    return go


def _entry(changes: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda old: {key: value for key, value in {**old, **changes}.items() if value is not ...}


def _tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def go(folder: Path) -> None:
        import safetensors.torch

        file = folder / "adapter_model.safetensors"
        safetensors.torch.save_file(change(safetensors.torch.load_file(file)), file)

    return go


def _first(change: Callable[[Any], Any], part: str = "lora_A") -> Callable[[Path], Any]:
    """The first tensor of a kind is exchanged."""

    def on(tensors: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in sorted(tensors) if part in name)
        return {**tensors, name: change(tensors[name]).contiguous()}

    return _tensors(on)


TENSORS: dict[str, Callable[[Path], Any]] = {
    "a tensor is missing": _tensors(lambda t: dict(sorted(t.items())[1:])),
    "nothing in it": _tensors(lambda t: {}),
    "not a number": _first(lambda t: t * float("nan")),
    "infinite": _first(lambda t: t + float("inf"), "lora_B"),
    "whole numbers": _first(lambda t: t.long()),
    "booleans": _first(lambda t: t > 0),
    "one dimension": _first(lambda t: t.flatten()),
    "one dimension, B": _first(lambda t: t.flatten(), "lora_B"),
    "no dimension, B": _first(lambda t: t.sum(), "lora_B"),
    "another width": _first(lambda t: t[:, :3]),
    "another height, B": _first(lambda t: t[:3], "lora_B"),
    "no rows": _first(lambda t: t[:0]),
    "no columns, B": _first(lambda t: t[:, :0], "lora_B"),
    "other names": _tensors(lambda t: {f"x{i}": value for i, value in enumerate(t.values())}),
    "a module that the base has not": _tensors(lambda t: {name.replace("layers.0", "layers.9"): value for name, value in t.items()}),
    "three dimensions": _first(lambda t: t[None]),
}  # fmt: skip


def _adapter_cases() -> Iterator[Case]:
    ask = ("sample", "run", "试用期？", "--adapter", "adapter", "--max-tokens", "1")
    changes: dict[str, Callable[[Path], Any]] = {
        **{f"adapter_config.json: {n}": lambda f, w=w: (f / "adapter_config.json").write_bytes(w if isinstance(w, bytes) else w.encode()) for n, w in _NO_JSON.items()},
        **{f"adapter_config.json: {n}": _rewrite("adapter_config.json", _entry(e)) for n, e in ADAPTER_ENTRIES.items()},
        **{f"loraforge.json: {n}": _rewrite("loraforge.json", lambda old, v=v: {**old, **v} if isinstance(v, dict) else v) for n, v in LORAFORGE_ENTRIES.items()},
        "loraforge.json: no JSON": lambda f: (f / "loraforge.json").write_text("{"),
        "no config": lambda f: (f / "adapter_config.json").unlink(),
        "no weights": lambda f: (f / "adapter_model.safetensors").unlink(),
        "pickled weights": lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "empty folder": lambda f: [p.unlink() for p in f.iterdir()],
        "a folder where the weights belong": lambda f: ((f / "adapter_model.safetensors").unlink(), (f / "adapter_model.safetensors").mkdir()),
        **{f"tensors: {name}": change for name, change in TENSORS.items()},
    }  # fmt: skip
    for name, change in changes.items():
        yield Case("adapter", name, _adapter_with(change), ("adapter",), ask)
    for name in sorted(
        _damaged_weights(struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + bytes(4))
    ):

        def damage(folder: Path, name: str = name) -> None:
            file = folder / "adapter_model.safetensors"
            file.write_bytes(_damaged_weights(file.read_bytes())[name])

        yield Case("adapter", f"weights: {name}", _adapter_with(damage), ("adapter",), ask)
    for name in (
        "tensors: not a number",
        "tensors: another width",
        "tensors: a tensor is missing",
        "adapter_config.json: a rank of 0",
        "no weights",
    ):
        yield Case("adapter", f"continued: {name}", _adapter_with(changes[name]), ("adapter",), _TRAIN)
