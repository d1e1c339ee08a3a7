# SPDX-License-Identifier: Apache-2.0
"""Configs of kohya's sd-scripts, and of lora-scripts, which starts them, in our keys: the training config and the one of its data.

What they take where nothing is said was read in the sources: options and schedules in ``library/train_util.py`` and ``train_network.py`` of
sd-scripts, what the pages write in lora-scripts' ``mikazuki/schema``; the network's part is in ``sd_network``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import Given, LoraForgeError, OtherTrainer, Translation, read_text, speaker

from .sd_datasets import data_sets
from .sd_network import network, pairs, yes

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
_LONGEST = 4  # the largest bucket_max_ratio
_DECAYS = {"adamw": 0.01, "adamw8bit": 0.01, "pagedadamw": 0.01, "pagedadamw8bit": 0.01, "pagedadamw32bit": 0.01, "": 0.01}


def translate(given: Given) -> Translation:
    """See ``OtherTrainer.translate``."""
    values: dict[str, Any] = {key: value for key, value in given.values.items() if value not in (None, "", [])}
    origins: dict[str, str] = {}
    lost: dict[str, str] = {}
    notes: list[str] = []
    defaults = dict(_DEFAULTS)
    data_sets(values, given, origins, lost, notes)
    network(values, origins, lost, defaults)
    _optimizer(values, origins, lost, defaults)
    _rates(values, origins, lost, defaults)
    _steps(values, origins, lost, defaults, notes)
    _pictures(values, given, lost, defaults, notes)
    if values.get("save_every_n_epochs") or values.get("save_every_n_steps"):
        del defaults["save_steps"]
        defaults["export_at_saves"] = True
        for key in ("save_last_n_epochs", "save_last_n_steps"):
            if values.pop(key, None) is not None:
                lost[key] = say("it deletes older files. export_at_saves keeps all; save_total_limit is for what --resume needs.")
    if not values.get("validation_split"):
        notes.append(say("eval_ratio: 0: sd-scripts holds nothing out. With 0.2 a fifth is, and adapter and base are compared at the end."))
    used = [key for key in ("network_args", "network_args_custom", "lr_scheduler_args") if list(pairs(given.values.get(key)))]
    used += [key for key in ("datasets", "dataset_config") if key in given.values and key not in lost]
    used += ["conv_alpha"] if "conv_alpha" in given.values and "conv_alpha" not in values else []  # the scale of the rest
    return Translation(values, defaults, origins, used, lost, notes)


def _optimizer(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], defaults: dict[str, Any]) -> None:
    """The arguments that are keys here, and the decay that its optimizers have by themselves."""
    for listed in ("optimizer_args", "optimizer_args_custom"):
        entries = values.get(listed)
        own = dict(pairs(entries))
        if "weight_decay" in own and isinstance(entries, list | str):
            values["weight_decay"], origins["weight_decay"] = own["weight_decay"], listed
            words = entries.split() if isinstance(entries, str) else entries
            left = [word for word in words if not str(word).strip().startswith("weight_decay")]
            values[listed] = left
            if not left:
                del values[listed]
    for name, value in pairs(values.pop("lr_scheduler_args", None)):
        name = {"num_cycles": "lr_scheduler_num_cycles", "power": "lr_scheduler_power"}.get(name, name)
        values.setdefault(name, value)
        origins.setdefault(name, "lr_scheduler_args")
    named = str(values.get("optimizer_type") or "").rpartition(".")[2].casefold()
    if values.get("use_8bit_adam") or values.get("use_lion_optimizer"):
        named = "adamw" if values.get("use_8bit_adam") else "lion"
    defaults["weight_decay"] = _DECAYS.get(named, 0.0)
    if str(values.get("lr_scheduler") or "constant") == "constant" and values.pop("lr_warmup_steps", None):
        lost["lr_warmup_steps"] = say("sd-scripts takes none with lr_scheduler: constant. constant_with_warmup has one, here too.")


def _rates(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str], defaults: dict[str, Any]) -> None:
    """``learning_rate`` is for what has no rate of its own there: U-Net and text encoders."""
    own = yes(values.get("network_train_unet_only")) or yes(values.get("train_unet_only"))
    given = values.get("learning_rate", values.get("lr"))
    encoders = values.get("text_encoder_lr")
    if _none(values.get("unet_lr")) and not own:
        del values["unet_lr"]
        values["train_unet"], origins["train_unet"] = False, "unet_lr"
        if encoders is not None:
            values["learning_rate"], origins["learning_rate"] = values.pop("text_encoder_lr"), "text_encoder_lr"
        return
    if yes(values.get("network_train_text_encoder_only")):
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


def _none(rate: Any) -> bool:
    """Whether a rate is given, and trains nothing."""
    try:
        return rate is not None and float(rate) == 0
    except (TypeError, ValueError):
        return False


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


def _pictures(values: dict[str, Any], given: Given, lost: dict[str, str], defaults: dict[str, Any], notes: list[str]) -> None:
    """The size of pictures, and what is drawn at saves."""
    side = values.get("resolution")
    words = side if isinstance(side, list) else str(side or "").replace("x", ",").split(",")
    words = [*words, *words] if len(words) == 1 else words
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
    if not yes(values.get("enable_bucket", False)):
        values.pop("enable_bucket", None)
        lost["enable_bucket"] = say(
            "without it sd-scripts cuts every picture to one shape. Here pictures keep their shapes, in buckets; bucket_max_ratio: 1 cuts "
            "all to squares."
        )
    else:
        _shapes(values, defaults)
    prompts = values.get("sample_prompts")
    if isinstance(prompts, str):
        values["sample_prompts"] = _prompts(given.find(prompts))
        if values["sample_prompts"] is None:
            del values["sample_prompts"]
            lost["sample_prompts"] = say("{file} was not found, or is no text. Write sample_prompts: [a prompt, another].", file=prompts)


def _shapes(values: Mapping[str, Any], defaults: dict[str, Any]) -> None:
    """The longest shape of the buckets there: those of one area whose sides lie between two bounds."""
    try:
        low, high = (int(values.get(key, bound)) for key, bound in (("min_bucket_reso", 256), ("max_bucket_reso", 1024)))
        defaults["bucket_max_ratio"] = float(min(_LONGEST, max(1.0, high / low)))
    except (TypeError, ValueError, ZeroDivisionError):
        return


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
