# SPDX-License-Identifier: Apache-2.0
"""An adapter in a folder of PEFT's layout, checked against what was trained. Imports torch when it is imported."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor

from ..errors import ExportError, RunError
from ..files import read_file, read_text, require_file
from ..messages import speaker
from ..plugin_api.types import Adapter
from ..terminal import first_few
from . import lycoris_factors
from .lycoris_factors import OPTIONS

say = speaker(__name__)

# Below this relative error a written file counts as what was trained: far above float32 rounding, far below any wrong scale.
TOLERANCE = 1e-4
_PROBES = 16


def probe(name: str, delta: Tensor) -> Tensor:
    """Sixteen numbers that tell one weight change from another: a fixed random projection of what it does to a fixed random input.

    Args:
        name: the module's name, which seeds the projection.
        delta: (out, in).
    """
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    x = torch.randn(delta.shape[1], generator=generator)
    projection = torch.randn(_PROBES, delta.shape[0], generator=generator)
    return projection @ (delta @ x)


_PREFIX = "base_model.model."


def write_peft(adapter: Adapter, folder: Path) -> None:
    """Writes ``adapter_config.json`` (sorted: peft's own differs from run to run) and ``adapter_model.safetensors``, with what
    LoRAForge knows beside them in ``loraforge.json``; then reads the file back and compares it with the probes.

    Raises:
        ExportError: if what the file says is not what was trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(adapter)
    (folder / "adapter_config.json").write_text(
        json.dumps(dict(sorted(config.items())), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    # One metadata key only: safetensors writes several in random order, and two equal runs must give equal bytes.
    tensors = {_PREFIX + name: tensor for name, tensor in adapter.tensors.items()}
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    own = {
        "base_model": adapter.base_model,
        "facts": {key: value for key, value in adapter.facts.items() if key != "config"},  # paths of this machine stay here
        "files": sorted(adapter.files),
        "probes": {name: [float(f"{float(x):.9g}") for x in values] for name, values in sorted(adapter.probes.items())},
    }
    (folder / "loraforge.json").write_text(json.dumps(own, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, data in adapter.files.items():
        (folder / name).write_bytes(data)
    verify(read_peft(folder))


def _config(adapter: Adapter) -> dict[str, Any]:
    """``adapter_config.json``: what all kinds say, then what each calls its own way."""
    config = {
        "base_model_name_or_path": adapter.base_folder or adapter.base_model,
        "inference_mode": True,
        "modules_to_save": None,
        "peft_type": adapter.kind.upper(),
        "peft_version": metadata.version("peft"),
        "r": adapter.rank,
        "revision": adapter.facts.get("revision"),
        "target_modules": [name for name in adapter.targets if name not in adapter.parameters],
        "task_type": adapter.facts.get("peft_task_type"),
        "rank_pattern": dict(sorted(adapter.ranks.items())),
        "alpha_pattern": {name: rank * adapter.alpha / adapter.rank for name, rank in sorted(adapter.ranks.items())},
    }
    if adapter.kind != "lora":
        return {**config, "alpha": adapter.alpha, "init_weights": True, "module_dropout": 0.0, "rank_dropout": 0.0, **adapter.options}
    config |= {
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "use_dora": adapter.dora,
        "use_rslora": False,
    }
    if adapter.parameters:
        config["target_parameters"] = [f"{name}.weight" for name in adapter.parameters]
    return config


def verify(adapter: Adapter) -> None:
    """Compares what an adapter's tensors say with what the trained model did.

    Raises:
        ExportError: naming the modules that differ.
    """
    wrong = [name for name in adapter.modules if differs(adapter, name, adapter.delta(name))]
    refuse(wrong)


def differs(adapter: Adapter, name: str, delta: Tensor) -> bool:
    """Whether ``delta`` (out, in) is another weight change than the one that was trained on module ``name``; unknown without probes."""
    if name not in adapter.probes:
        return False
    got, wanted = probe(name, delta), adapter.probes[name]
    error = float((got - wanted).norm() / wanted.norm().clamp_min(1e-12))
    return not error <= TOLERANCE  # not a number differs too


def refuse(wrong: Sequence[str]) -> None:
    """Raises ExportError if there are modules that differ."""
    if wrong:
        raise ExportError(
            say(
                "the file would not do what was trained; nothing was written. Modules that differ: {names}",
                names=first_few(wrong),
            )
        )


def read_peft(folder: Path) -> Adapter:
    """The adapter in a folder of PEFT's layout, ours or anybody's.

    Raises:
        RunError: if it is of another kind, is damaged, or has scales that an ``Adapter`` cannot hold.
    """
    try:
        config = json.loads(read_text(folder / "adapter_config.json"))
        require_file(folder / "adapter_model.safetensors")
        loaded = safetensors.torch.load_file(folder / "adapter_model.safetensors")
        own_file = folder / "loraforge.json"
        own = json.loads(read_text(own_file)) if own_file.exists() else {}
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = Path(error.filename).name if error.filename else "adapter_model.safetensors"
        raise RunError(say("{folder} is no adapter folder: it has no {file}.", folder=folder, file=missing)) from None
    except Exception as error:  # safetensors and json raise several kinds; each means the same to the user
        raise _unreadable(folder, error) from None
    _require_form(folder, config, own)
    unusable = [key for key in ("modules_to_save", "layer_replication") if config.get(key)]
    kind = str(config.get("peft_type")).lower()
    if kind not in OPTIONS or unusable:
        raise RunError(
            say(
                "{folder}: only LoRA, LoKr and LoHa adapters can be read; this one has {what}.",
                folder=folder,
                what=", ".join(unusable) or config.get("peft_type"),
            )
        )
    named = {name.removeprefix(_PREFIX): tensor for name, tensor in loaded.items()}
    rank = int(config["r"])
    whole = max(1, round(_scale(config, "", rank) * rank))
    options = {name: config.get(name, usual) for name, usual in OPTIONS[kind].items()}
    if kind == "lora":
        _require_pairs(folder, config, named)
        tensors, ranks = _pairs(config, named, (rank, whole))
    else:
        tensors, ranks = _factors(folder, config, named, (rank, whole))
    targets = config.get("target_modules") or []
    parameters = tuple(sorted(name.removesuffix(".weight") for name in config.get("target_parameters") or ()))
    return Adapter(
        tensors=dict(sorted(tensors.items())),
        rank=rank,
        alpha=whole,
        targets=tuple(sorted([*targets, *parameters])) if not isinstance(targets, str) else (targets,),
        probes={name: torch.tensor(values) for name, values in own.get("probes", {}).items()},
        base_model=own.get("base_model") or config.get("base_model_name_or_path") or "",
        base_folder=config.get("base_model_name_or_path"),
        dora=bool(config.get("use_dora")),
        ranks=dict(sorted(ranks.items())),
        parameters=parameters,
        facts=cast(Mapping[str, Any], own.get("facts", {})),
        files=_files(folder, own.get("files", [])),
        kind=kind,
        options=options,
    )


def _pairs(config: Mapping[str, Any], named: Mapping[str, Tensor], scale: tuple[int, int]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """A LoRA's tensors with one scale for all modules, and the ranks of those that have another.

    Args:
        scale: rank and alpha.
    """
    rank, alpha = scale
    tensors, ranks = {}, {}
    for name, tensor in named.items():
        module, _, part = name.partition(".lora_")
        value = tensor.float()
        if part == "B.weight":
            rows = int(tensor.shape[1])
            if rows != rank:
                ranks[module] = rows
            factor = _scale(config, module, rows) / (alpha / rank)
            value = value * factor if factor != 1 else value  # one scale for all modules: what differs goes into B
        tensors[name] = value
    return tensors, ranks


def _factors(
    folder: Path, config: Mapping[str, Any], named: Mapping[str, Tensor], scale: tuple[int, int]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The same of a LoKr or LoHa.

    Raises:
        RunError: if its factors do not make a whole.
    """
    rank, alpha = scale

    def rank_of(module: str) -> int:
        return int(_for_module(config.get("rank_pattern"), module, rank))

    fault = next(lycoris_factors.faults(str(config["peft_type"]).lower(), named, rank_of), None)
    if fault is not None:
        raise _unreadable(folder, fault)
    return lycoris_factors.with_one_scale(named, rank, rank_of, lambda module, own: _scale(config, module, own) / (alpha / rank))


def _unreadable(folder: Path, error: object) -> RunError:
    return RunError(say("{folder}: the adapter cannot be read: {error}", folder=folder, error=error))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _patterns(value: Any) -> bool:
    """Whether this is a mapping from what ends a module's name, as a regular expression, to a number."""
    try:
        return all(_number(number) and re.compile(pattern) for pattern, number in (value or {}).items())
    except (AttributeError, TypeError, re.error, RecursionError):
        return False


def _probes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(row, list) and len(row) == _PROBES and all(isinstance(x, int | float) for x in row) for row in value.values()
    )


# What an entry must look like, by file.
_FORMS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "adapter_config.json": {
        "r": lambda value: _number(value) and isinstance(value, int),
        "lora_alpha": _number,
        "alpha_pattern": _patterns,
        "rank_pattern": _patterns,
        "target_modules": lambda value: value is None or isinstance(value, str) or _texts(value),
        "target_parameters": lambda value: value is None or _texts(value),
        "base_model_name_or_path": lambda value: isinstance(value, str | None),
    },
    "loraforge.json": {
        "probes": lambda value: value is None or _probes(value),
        "files": lambda value: value is None or _texts(value),
        "facts": lambda value: isinstance(value, dict | None),
        "base_model": lambda value: isinstance(value, str | None),
    },
}


def _require_form(folder: Path, config: Any, own: Any) -> None:
    """Raises RunError, naming the file and the entry, if one of the files beside the weights is not of the usual form."""
    for (file, entries), found in zip(_FORMS.items(), (config, own), strict=True):
        if not isinstance(found, dict):
            raise _unreadable(folder, say("{file} is no JSON object", file=file))
        kind = str(found.get("peft_type", "LORA")).lower()
        if kind not in OPTIONS:
            return  # another kind has other entries; it is named as such
        for key, fits in entries.items():
            key = "alpha" if key == "lora_alpha" and kind != "lora" else key
            if not fits(found.get(key)):
                raise _unreadable(folder, say("'{key}' in {file} is {value}", key=key, file=file, value=repr(found.get(key))[:80]))


def _require_pairs(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raises RunError, naming a tensor, if the weights are not whole pairs of the rank that the config names, or hold no numbers."""
    parts = ("A.weight", "B.weight", "magnitude_vector")
    odd = next((name for name in sorted(tensors) if name.partition(".lora_")[2] not in parts), None)
    if odd is not None:
        raise RunError(say("{folder}: only plain LoRA adapters can be read; this one has {what}.", folder=folder, what=odd[:200]))
    modules = sorted({name.partition(".lora_")[0] for name in tensors})
    if not modules:
        raise _unreadable(folder, say("there is no tensor in it"))
    for module in modules:
        a, b = (tensors.get(f"{module}.lora_{part}") for part in parts[:2])
        rank = int(_for_module(config.get("rank_pattern"), module, config["r"]))
        if (
            a is None
            or b is None
            or a.ndim not in (2, 4)
            or b.ndim != a.ndim
            or not a.shape[0] == b.shape[1] == rank
            or not a.numel() * b.numel()
        ):
            shapes = " x ".join(str(tuple(t.shape)) if t is not None else "-" for t in (b, a))
            raise _unreadable(folder, say("the pair of {module} is {shapes}, not of rank {rank}", module=module, shapes=shapes, rank=rank))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.float()).all()):
            raise _unreadable(folder, say("{name} holds values that are not numbers", name=name))


def _files(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The small files beside an adapter; a name that leads out of the folder is not followed."""
    return {name: read_file(folder / name) for name in names if Path(name).name == name and (folder / name).is_file()}


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """What peft multiplies B @ A of a module by."""
    usual = config["lora_alpha"] if "lora_alpha" in config else config["alpha"]
    alpha = float(_for_module(config.get("alpha_pattern"), module, usual))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _for_module(patterns: Mapping[str, Any] | None, module: str, usual: Any) -> Any:
    """The value of the first pattern that fits the end of a module's name, as peft chooses it; or the usual one."""
    fits = (value for pattern, value in (patterns or {}).items() if module and re.match(rf"(.*\.)?({pattern})$", module))
    return next(fits, usual)
