# SPDX-License-Identifier: Apache-2.0
"""Loads a base model, whole or not at all. Imports torch and transformers inside its functions."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, ModelError, first_few, speaker

from ..base_files import read_base
from .stored_weights import refuse_unusable, stored_as

if TYPE_CHECKING:
    import torch

say = speaker(__name__)

# What does not fit is reported rather than raised, so that it can be told in our words.
_REPORTED: Mapping[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "local_files_only": True}


def load_model(folder: Path, precision: str, device: torch.device) -> Any:
    """The base, on ``device``, in the wanted precision. Only safetensors are read, and no code of the model's own is run. Weights that are
    stored in fewer bits are given back as numbers, unless they are to stay in 4.

    Raises:
        ModelError: if there are no such weights, if they are not whole or not this model's, or transformers cannot load them.
        ConfigError: if bitsandbytes is needed and is not there.
    """
    import torch
    from transformers import AutoModelForCausalLM

    _require_safetensors(folder)
    refuse_unusable(read_base(folder), precision)
    kind = stored_as(read_base(folder).config)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "4bit": torch.bfloat16}
    settings: dict[str, Any] = {"dtype": kinds[precision], "use_safetensors": True, "trust_remote_code": False}
    if precision == "4bit" or kind == "bitsandbytes":
        _require_bitsandbytes(precision)
    if precision == "4bit":
        settings |= {"device_map": {"": device}} | ({} if kind else {"quantization_config": _four_bit()})
    elif kind:
        settings |= _restored(kind, device)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(folder, **_REPORTED, **settings)
        if kind and precision != "4bit":
            model = _plain(model, kind, kinds[precision])
    except Exception as error:  # a config that is damaged in one way or another raises nearly anything
        raise ModelError(_not_loaded(folder, error)) from None
    _require_whole(folder, model, info)
    for module in model.modules() if precision == "4bit" else ():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Measured once without gradients, such a layer packs its weights in a form through which no gradient passes.
            module.support_avx512bf16_for_cpu = False
    return model if precision == "4bit" else model.to(device)


def outline(folder: Path, tensors: Mapping[str, tuple[int, ...]] | None) -> Any:
    """The base as ``load_model`` would put it together, on torch's meta device: with shapes and without numbers.

    Args:
        tensors: the shapes of the weights by name; None: they are not looked at.

    Returns:
        The model; None where it cannot be put together without numbers.

    Raises:
        ModelError: where ``load_model`` would raise it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except RuntimeError:  # numbers were wanted
        return None
    except Exception as error:
        raise ModelError(_not_loaded(folder, error)) from None
    if tensors is None:
        return model
    state = {name: torch.empty(shape, device="meta") for name, shape in tensors.items()}
    try:
        model, info = type(model).from_pretrained(None, config=config, state_dict=state, device_map="meta", **_REPORTED)
    except Exception:
        return None
    _require_whole(folder, model, info)
    return model


def _not_loaded(folder: Path, error: Exception) -> str:
    """Why transformers does not load a base, in a sentence."""
    config = read_base(folder).config
    if "Unrecognized configuration class" in str(error):
        return say(
            "base_model {folder} is a {kind} model ({name} in config.json), which transformers does not load as a language model that "
            "writes text on (AutoModelForCausalLM). Take a base that is one.",
            folder=folder,
            kind=config.get("model_type"),
            name=", ".join(map(str, config.get("architectures") or ("?",))),
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if isinstance(error, KeyError):
        reason = say("transformers does not know {name}, which stands in config.json", name=reason)
    return say("base_model {folder} cannot be loaded: {error}", folder=folder, error=reason)


def _require_safetensors(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf", ".ckpt"))
    found = (
        say(
            "it has {files}, which are not read because such files can run code or hold no full weights; convert them to safetensors",
            files=", ".join(others),
        )
        if others
        else say("it has no weights at all")
    )
    raise ModelError(say("base_model {folder} has no .safetensors weights: {found}.", folder=folder, found=found))


def _require_bitsandbytes(precision: str) -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        return
    if precision == "4bit":
        raise ConfigError(say("precision: 4bit needs bitsandbytes: pip install 'loraforge[quantization]'"))
    raise ConfigError(say("this base is stored by bitsandbytes, which is needed to read it: pip install 'loraforge[quantization]'"))


def _four_bit() -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )


def _restored(kind: str, device: torch.device) -> dict[str, Any]:
    """What makes transformers give weights of this kind back as numbers; bitsandbytes' are given back afterwards."""
    import transformers

    if kind == "bitsandbytes":
        return {"device_map": {"": device}}
    settings = {"fp8": transformers.FineGrainedFP8Config, "mxfp4": transformers.Mxfp4Config}[kind]
    return {"quantization_config": settings(dequantize=True)}


def _plain(model: Any, kind: str, dtype: torch.dtype) -> Any:
    """A model whose weights are numbers, and that says so."""
    if kind == "bitsandbytes":
        model = model.dequantize()
    for mark in ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized"):
        if getattr(model, mark, False):
            setattr(model, mark, False)
    for config in (model.config, model.config.get_text_config()):
        if hasattr(config, "quantization_config"):
            del config.quantization_config
    return model.to(dtype)


def _require_whole(folder: Path, model: Any, info: Mapping[str, Any]) -> None:
    """
    Raises:
        ModelError: if transformers has filled tensors with random numbers, or left layers of the weights out.
    """
    own = set(model.state_dict())
    missing = sorted(set(info.get("missing_keys") or ()) & own)
    problems = []
    if missing:
        problems.append(
            say(
                "base_model {folder} is not whole: its weights lack {n} of the {all} tensors that config.json describes, and random "
                "numbers would stand there: {names}. Fetch it again; or config.json belongs to another model.",
                folder=folder,
                n=len(missing),
                all=len(own),
                names=first_few(missing),
            )
        )
    others = sorted(
        say("{name} is {found} in the file and {wanted} by config.json", name=name, found=_by(found), wanted=_by(wanted))
        for name, found, wanted in info.get("mismatched_keys") or ()
    )
    if others:
        problems.append(
            say(
                "base_model {folder}: {n} tensors have another shape than config.json describes: {names}. Take the config.json that "
                "belongs to these weights, or fetch both again.",
                folder=folder,
                n=len(others),
                names=first_few(others, 3, "; "),
            )
        )
    beyond = sorted(_beyond(set(info.get("unexpected_keys") or ()), own, _predicted(model.config)))
    if beyond:
        problems.append(
            say(
                "base_model {folder}: the weights have more layers than config.json describes; {n} tensors would be left out: {names}. "
                "Fetch config.json again; or it belongs to another model.",
                folder=folder,
                n=len(beyond),
                names=first_few(beyond),
            )
        )
    if problems:
        raise ModelError(problems)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _beyond(unexpected: Collection[str], own: Collection[str], predicted: int) -> Iterator[str]:
    """Those unexpected names that differ from names of the model by a number beyond its own alone.

    Args:
        predicted: how many layers there may be beyond the model's, for guessing several tokens ahead.
    """
    last: dict[str, int] = {}
    for name in own:
        for kind, number in _numbered(name):
            last[kind] = max(last.get(kind, -1), number)
    for name in unexpected:
        if any(number > last.get(kind, number) + predicted for kind, number in _numbered(name)):
            yield name


def _numbered(name: str) -> Iterator[tuple[str, int]]:
    """The name with each of its numbers left out in turn, and that number."""
    for found in re.finditer(r"(?<=\.)\d+(?=\.)", name):
        yield f"{name[: found.start()]}*{name[found.end() :]}", int(found.group())


def _predicted(config: Any) -> int:
    text = config.get_text_config()
    return max(int(getattr(text, name, 0) or 0) for name in ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers"))
