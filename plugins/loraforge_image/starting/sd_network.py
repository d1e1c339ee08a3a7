# SPDX-License-Identifier: Apache-2.0
"""``network_module`` and its arguments in our keys: sd-scripts' own networks, and LyCORIS.

What LyCORIS takes where nothing is said, and where its presets put the adapter, was read in its ``kohya.py``, ``config.py`` and ``modules``
of version 3: convolutions have rank and alpha of the rest, and an alpha of 0 is the rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loraforge import speaker

say = speaker(__name__)

_LORA = tuple(f"networks.lora{kind}" for kind in ("", "_flux", "_sd3", "_lumina", "_anima", "_hunyuan_image"))
_TURNS = ("true", "1", "yes", "on")
_LINEAR = ("full-lin", "attn-mlp", "attn-only", "unet-transformer-only", "ia3")  # presets of LyCORIS without convolutions
_UNET = ("unet-only", "unet-transformer-only", "unet-convblock-only")
_PRESETS = {"full", *_LINEAR, *_UNET}
_RANK = (0, 0.0, "0")  # alphas that mean the rank
_LARGEST = 512  # of our ranks


def pairs(listed: Any) -> Iterable[tuple[str, Any]]:
    """``["conv_dim=4", ...]``, or the same with spaces between, by name."""
    words = listed.split() if isinstance(listed, str) else listed if isinstance(listed, list) else []
    for word in words:
        name, equals, value = str(word).partition("=")
        if equals:
            yield name.strip(), _plain(value.strip().strip("\"'"))


def yes(value: Any) -> bool:
    """Whether a switch is on."""
    return str(value).casefold() in _TURNS


def _plain(text: str) -> Any:
    """A value as YAML has it."""
    if text.casefold() in ("true", "false"):
        return text.casefold() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def network(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], defaults: dict[str, Any]) -> None:
    """``network_module`` and its arguments, each as a key of its own."""
    for listed in ("network_args", "network_args_custom"):
        for name, value in pairs(values.pop(listed, None)):
            if name not in values:
                values[name], origins[name] = value, listed
    module = str(values.get("network_module") or "")
    kind = str(values.get("algo") or values.get("lycoris_algo") or "").casefold()
    lycoris = module.startswith("lycoris")
    if module in _LORA or (lycoris and kind in ("", "lora", "locon")):
        kind = "lora"
        for name in ("algo", "lycoris_algo") if lycoris else ():
            values.pop(name, None)
        del values["network_module"]
        values["lora_variant"], origins["lora_variant"] = "lora", "network_module"
    rank = values.get("network_dim", defaults["lora_rank"])
    _drops(values, origins, lost, lycoris, kind)
    if lycoris:
        _relatives(values, origins, lost, kind)
        rank = _whole(values, lost, rank, kind)
    if lycoris:
        _preset(values, origins, lost, rank)
    elif "conv_dim" in values:
        values.setdefault("conv_alpha", 1)
    if values.get("network_alpha") in (*_RANK, "none", "None"):
        values["network_alpha"] = rank
    if values.get("conv_alpha") in _RANK and "conv_dim" in values:
        values["conv_alpha"] = values["conv_dim"]
    origins.setdefault("conv_alpha", origins.get("conv_dim", "conv_alpha"))
    _conv_alpha(values, rank)
    if yes(values.pop("full_matrix", None)):
        lost["full_matrix"] = say("LoKr's second factor is always in two matrices here.")


def _named(name: str, origins: dict[str, str]) -> str:
    """A key as the other config has it, within the value that it stands in."""
    origin = origins.get(name, name)
    return name if origin == name else f"{origin} ({name})"


def _drops(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], lycoris: bool, kind: str) -> None:
    """``dropout``, which is what LyCORIS calls sd-scripts' ``network_dropout``."""
    if "dropout" in values:
        values.setdefault("network_dropout", values.pop("dropout"))
        origins.setdefault("network_dropout", origins.get("dropout", "dropout"))
    if not lycoris or values.get("network_dropout") in (None, 0, 0.0, "0"):
        return
    del values["network_dropout"]
    why = say("LoHa and LoKr drop nothing there. lora_dropout acts on the input of the adapter.")
    if kind == "lora":
        why = say("In LyCORIS it acts on what the adapter adds, lora_dropout on its input. Set that, or leave it out.")
    lost[_named("network_dropout", origins)] = why


def _relatives(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], kind: str) -> None:
    """DoRA and rsLoRA, which are switches there."""
    for name, variant in (("dora_wd", "dora"), ("rs_lora", "rslora")):
        if not yes(values.pop(name, None)):
            continue
        if kind == "lora" and values["lora_variant"] == "lora":
            values["lora_variant"], origins["lora_variant"] = variant, origins.get(name, name)
        else:
            lost[_named(name, origins)] = say("a run has one lora_variant, and {variant} is one of them.", variant=variant)


def _whole(values: dict[str, Any], lost: dict[str, str], rank: Any, kind: str) -> Any:
    """LoKr with a rank beyond every layer's size, which there means factors that are whole, and the scale 1 whatever alpha says."""
    if kind != "lokr" or not isinstance(rank, int) or rank <= _LARGEST:
        return rank
    values |= {"network_dim": _LARGEST, "network_alpha": _LARGEST}
    lost["network_dim"] = say(
        "a rank beyond the size of the layers means there that LoKr's second factor is whole, with the scale 1. Here it is always in two "
        "matrices: {rank} is the largest rank, and lora_alpha the same for the scale 1.",
        rank=_LARGEST,
    )
    return _LARGEST


def _preset(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], rank: Any) -> None:
    """Where LyCORIS puts the adapter: without a preset on convolutions too."""
    preset = str(values.pop("preset", "") or "full")
    if preset not in _PRESETS:
        lost[_named("preset", origins)] = say("it is a file that says where the adapter sits: lora_target and block_ranks do that here.")
    if preset == "attn-only":
        values["lora_target"], origins["lora_target"] = "attention", origins.get("preset", "preset")
    if preset == "unet-convblock-only":
        lost[_named("preset", origins)] = say("here an adapter on convolutions has one on the transformers too.")
    if preset in _UNET and not yes(values.get("network_train_unet_only")):
        values["network_train_unet_only"] = True
        origins["network_train_unet_only"] = origins.get("preset", "preset")
    if preset in _LINEAR:
        values.pop("conv_alpha", None)
        if values.pop("conv_dim", None):
            lost[_named("conv_dim", origins)] = say("with preset={preset} convolutions are left alone there.", preset=preset)
        return
    if "conv_dim" not in values:
        values["conv_dim"], origins["conv_dim"] = rank, "network_module"
    values.setdefault("conv_alpha", values.get("network_alpha", 1))


def _conv_alpha(values: dict[str, Any], rank: Any) -> None:
    """Away with an alpha of convolutions that makes the same scale as that of the rest."""
    try:
        scale, other = float(values.get("network_alpha", 1)) / float(rank), float(values["conv_alpha"]) / float(values["conv_dim"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        if not values.get("conv_dim"):
            values.pop("conv_alpha", None)
        return
    if scale == other or not values["conv_dim"]:
        del values["conv_alpha"]
