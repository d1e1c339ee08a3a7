# SPDX-License-Identifier: Apache-2.0
"""Configs of kohya's sd-scripts, and of lora-scripts, which starts them, in our keys: the training config and the one of its data.

What they take where nothing is said was read in the definitions of sd-scripts' options and in LyCORIS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loraforge import Given, LoraForgeError, OtherTrainer, Translation, read_text, speaker

from .sd_datasets import data_sets

say = speaker(__name__)

_MARKS = frozenset(
    re.findall(
        r"\w+",
        "pretrained_model_name_or_path network_module network_dim network_alpha network_args unet_lr text_encoder_lr optimizer_type "
        "train_batch_size max_train_epochs max_train_steps resolution enable_bucket min_bucket_reso max_bucket_reso caption_extension "
        "cache_latents mixed_precision shuffle_caption keep_tokens datasets dataset_config model_train_type clip_skip lr_warmup_steps "
        "model_prediction_type timestep_sampling",
    )
)
_DEFAULTS: Mapping[str, Any] = {
    "lora_rank": 4,
    "lora_alpha": 1,
    "lora_dropout": 0.0,
    "batch_size": 1,
    "learning_rate": 2e-6,
    "lr_scheduler": "constant",
    "warmup": 0.0,
    "precision": "fp32",
    "eval_ratio": 0.0,
    "save_steps": 0,
    "caption_extension": ".caption",
    "train_text_encoder": True,
}
_LORA = ("networks.lora", "networks.lora_flux", "networks.lora_sd3", "networks.lora_lumina", "networks.lora_anima")
_DECAYS = {"adamw": 0.01, "adamw8bit": 0.01, "pagedadamw": 0.01, "pagedadamw8bit": 0.01, "pagedadamw32bit": 0.01, "": 0.01}
_TURNS = ("true", "1", "yes", "on")


def translate(given: Given) -> Translation:
    """See ``OtherTrainer.translate``."""
    values: dict[str, Any] = {key: value for key, value in given.values.items() if value not in (None, "", [])}
    origins: dict[str, str] = {}
    lost: dict[str, str] = {}
    notes: list[str] = []
    defaults = dict(_DEFAULTS)
    data_sets(values, given, origins, lost, notes)
    _network(values, origins, lost, defaults)
    _optimizer(values, origins, lost, defaults)
    _rates(values, origins, lost, defaults)
    _steps(values, origins, lost, defaults, notes)
    _pictures(values, given, lost, notes)
    if values.get("save_every_n_epochs") or values.get("save_every_n_steps"):
        del defaults["save_steps"]
    if not values.get("validation_split"):
        notes.append(say("eval_ratio: 0: sd-scripts holds nothing out. With 0.2 a fifth is, and adapter and base are compared at the end."))
    used = [key for key in ("network_args", "network_args_custom", "lr_scheduler_args") if list(_pairs(given.values.get(key)))]
    used += [key for key in ("datasets", "dataset_config") if key in given.values and key not in lost]
    return Translation(values, defaults, origins, used, lost, notes)


def _pairs(listed: Any) -> Iterable[tuple[str, Any]]:
    """``["conv_dim=4", ...]``, or the same with spaces between, by name."""
    words = listed.split() if isinstance(listed, str) else listed if isinstance(listed, list) else []
    for word in words:
        name, equals, value = str(word).partition("=")
        if equals:
            yield name.strip(), _plain(value.strip().strip("\"'"))


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


def _network(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], defaults: dict[str, Any]) -> None:
    """``network_module`` and its arguments, each as a key of its own."""
    for listed in ("network_args", "network_args_custom"):
        for name, value in _pairs(values.pop(listed, None)):
            name = "network_dropout" if name == "dropout" else name
            values.setdefault(name, value)
            origins.setdefault(name, listed)
    module = str(values.get("network_module") or "")
    kind = str(values.get("algo") or values.get("lycoris_algo") or "").casefold()
    if module in _LORA:
        del values["network_module"]
        origins["lora_variant"] = "network_module"
        values["lora_variant"] = "lora"
    elif module.startswith("lycoris") and kind in ("", "lora", "locon"):
        values.pop("algo", None)
        values.pop("lycoris_algo", None)
        del values["network_module"]
        origins["lora_variant"] = "network_module"
        values["lora_variant"] = "lora"
    rank = values.get("network_dim", defaults["lora_rank"])
    if module.startswith("lycoris"):  # its convolutions have the rank and alpha of the rest unless something else is said
        values.setdefault("conv_dim", rank)
        origins.setdefault("conv_dim", "network_module")
        values.setdefault("conv_alpha", values.get("network_alpha", 1))
    elif "conv_dim" in values:
        values.setdefault("conv_alpha", 1)
    origins.setdefault("conv_alpha", origins.get("conv_dim", "conv_alpha"))
    if values.get("network_alpha") in (0, 0.0, "0", "none", "None"):
        values["network_alpha"] = rank
    _conv_alpha(values, rank)
    if _yes(values.pop("full_matrix", None)):
        lost["full_matrix"] = say("LoKr's second factor is always in two matrices here.")


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


def _optimizer(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], defaults: dict[str, Any]) -> None:
    """The arguments that are keys here, and the decay that its optimizers have by themselves."""
    for listed in ("optimizer_args", "optimizer_args_custom"):
        entries = values.get(listed)
        pairs = dict(_pairs(entries))
        if "weight_decay" in pairs and isinstance(entries, list | str):
            values["weight_decay"], origins["weight_decay"] = pairs["weight_decay"], listed
            words = entries.split() if isinstance(entries, str) else entries
            left = [word for word in words if not str(word).strip().startswith("weight_decay")]
            values[listed] = left
            if not left:
                del values[listed]
    for name, value in _pairs(values.pop("lr_scheduler_args", None)):
        name = {"num_cycles": "lr_scheduler_num_cycles", "power": "lr_scheduler_power"}.get(name, name)
        values.setdefault(name, value)
        origins.setdefault(name, "lr_scheduler_args")
    named = str(values.get("optimizer_type") or "").rpartition(".")[2].casefold()
    if values.get("use_8bit_adam") or values.get("use_lion_optimizer"):
        named = "adamw" if values.get("use_8bit_adam") else "lion"
    defaults["weight_decay"] = _DECAYS.get(named, 0.0)
    if str(values.get("lr_scheduler") or "constant") == "constant" and values.pop("lr_warmup_steps", None):
        lost["lr_warmup_steps"] = say("with lr_scheduler: constant it does nothing there.")


def _rates(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], defaults: dict[str, Any]) -> None:
    """``learning_rate`` is for what has no rate of its own there: U-Net and text encoders."""
    own = _yes(values.get("network_train_unet_only")) or _yes(values.get("train_unet_only"))
    given = values.get("learning_rate", values.get("lr"))
    encoders = values.get("text_encoder_lr")
    if _yes(values.get("network_train_text_encoder_only")):
        for key in ("network_train_text_encoder_only", "network_train_unet_only"):
            values.pop(key, None)
        values |= {"train_unet": False, "train_text_encoder": True}
        origins |= {"train_unet": "network_train_text_encoder_only", "train_text_encoder": "network_train_text_encoder_only"}
        if values.pop("unet_lr", None) is not None:
            lost["unet_lr"] = say("the U-Net is not trained (network_train_text_encoder_only).")
        return
    values.pop("network_train_text_encoder_only", None)
    if own:
        if values.pop("text_encoder_lr", None) is not None:
            lost["text_encoder_lr"] = say("the text encoders are not trained (network_train_unet_only).")
    elif values.get("unet_lr") is not None and encoders is None and given is not None:
        values["text_encoder_lr"], origins["text_encoder_lr"] = given, "learning_rate"
    if values.get("unet_lr") is not None and given is not None:
        for key in ("learning_rate", "lr"):
            if values.pop(key, None) is not None and origins.get("text_encoder_lr") != key:
                lost[key] = say("every part has a rate of its own there (unet_lr), so that it is used for nothing.")


def _yes(value: Any) -> bool:
    return str(value).casefold() in _TURNS


def _steps(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], defaults: dict[str, Any], notes: list[str]) -> None:
    """Passes go before steps there; steps alone go on until they are made."""
    epochs = next((key for key in ("max_train_epochs", "max_train_epoches") if values.get(key)), "")
    if epochs:
        if values.pop("max_train_steps", None) is not None:
            lost["max_train_steps"] = say("{epochs} goes before it there.", epochs=epochs)
        return
    defaults |= {"epochs": 10000.0, "max_steps": 1600}
    if "max_train_steps" in values:
        values["max_steps"], origins["max_steps"] = values.pop("max_train_steps"), "max_train_steps"
    notes.append(say("epochs: 10000 is never reached: max_steps alone ends the run, as it does there."))


def _pictures(values: dict[str, Any], given: Given, lost: dict[str, str], notes: list[str]) -> None:
    """The size of pictures, and what is drawn at saves."""
    side = values.get("resolution")
    words = side if isinstance(side, list) else str(side or "").replace("x", ",").split(",")
    try:
        width, height = (int(str(word).strip()) for word in words)
    except ValueError:
        width = height = 0
    if width != height:
        values["resolution"] = round((width * height) ** 0.5)
        notes.append(
            say(
                "resolution: {width} x {height} is an area, and every picture keeps its own shape: here it is {side}, the side of a "
                "square of that area.",
                width=width, height=height, side=values["resolution"],
            )
        )  # fmt: skip
    elif width:
        values["resolution"] = width
    if values.get("max_token_length") == 255:  # what lora-scripts' page proposes; sd-scripts reads it in whole windows of 75
        values["max_token_length"] = 225
        notes.append(say("max_token_length: 255 makes three windows of 75 tokens there: 225."))
    if not _yes(values.get("enable_bucket", False)):
        values.pop("enable_bucket", None)
        lost["enable_bucket"] = say("without it sd-scripts cuts every picture to one shape. Here pictures keep their shapes, in buckets.")
    prompts = values.get("sample_prompts")
    if isinstance(prompts, str):
        values["sample_prompts"] = _prompts(given.find(prompts))
        if values["sample_prompts"] is None:
            del values["sample_prompts"]
            lost["sample_prompts"] = say("{file} was not found, or is no text. Write sample_prompts: [a prompt, another].", file=prompts)


def _prompts(file: Path | None) -> list[str] | None:
    """The prompts of a text file, one a line."""
    if file is None or file.suffix.lower() != ".txt":
        return None
    try:
        lines = read_text(file, 1_000_000).splitlines()
    except (OSError, ValueError, LoraForgeError):
        return None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


SD_SCRIPTS = OtherTrainer("sd-scripts / lora-scripts", _MARKS, translate)
