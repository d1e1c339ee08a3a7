# SPDX-License-Identifier: Apache-2.0
"""Configs of LLaMA-Factory, of its first kind and of its second (``peft_config``), in our keys.

What it takes where nothing is said was read in its ``hparams`` and in transformers' ``TrainingArguments``; for the second kind in its
``v1/config/training_args.py``, ``v1/core/base_trainer.py`` and ``v1/plugins/model_plugins/peft.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import Given, OtherTrainer, Translation, first_few, speaker

from ..data.dataset_info import NAME

say = speaker(__name__)

_MARKS = frozenset(
    re.findall(
        r"\w+",
        "model_name_or_path finetuning_type stage do_train dataset dataset_dir template cutoff_len per_device_train_batch_size lora_target "
        "num_train_epochs lr_scheduler_type warmup_ratio val_size quantization_bit peft_config model_class train_dataset overwrite_cache "
        "plot_loss preprocessing_num_workers",
    )
)
_DEFAULTS: Mapping[str, Any] = {
    "lora_rank": 8,
    "lora_dropout": 0.0,
    "batch_size": 8,
    "learning_rate": 5e-5,
    "epochs": 3.0,
    "lr_scheduler": "linear",
    "warmup": 0.0,
    "max_seq_length": 2048,
    "save_steps": 500,
    "eval_ratio": 0.0,
    "gradient_checkpointing": True,
}
_SECOND_DEFAULTS: Mapping[str, Any] = {
    **_DEFAULTS,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "batch_size": 1,
    "learning_rate": 1e-4,
    "lr_scheduler": "constant",
    "weight_decay": 0.01,
    "precision": "bf16",
    "save_steps": 0,
}
_SECOND_MARKS = ("model", "model_class", "peft_config", "train_dataset", "dist_config", "micro_batch_size")
_SECOND_KIND = {"model": "model_name_or_path", "r": "lora_rank", "name": "finetuning_type", "target_modules": "lora_target"}
_PREFERENCES = ("dpo", "kto", "orpo", "simpo")


def translate(given: Given) -> Translation:
    """See ``OtherTrainer.translate``."""
    values: dict[str, Any] = dict(given.values)
    origins: dict[str, str] = {}
    lost: dict[str, str] = {}
    notes: list[str] = []
    second = any(key in values for key in _SECOND_MARKS)
    _second_kind(values, origins, lost)
    _stage(values, lost)
    _data(values, given, origins, lost)
    defaults = dict(_SECOND_DEFAULTS if second else _DEFAULTS)
    _saves(values, lost, defaults, notes)
    if values.get("quantization_bit") and values.get("fp16"):
        del values["fp16"]
        lost["fp16"] = say("with precision: 4bit it is bf16 that is computed in here.")
    if values.get("lr_scheduler_type") == "constant":  # has no warm-up in transformers, whatever is asked for
        for key in ("warmup_ratio", "warmup_steps"):
            if values.pop(key, None):
                lost[key] = say("with lr_scheduler_type: constant it does nothing there.")
    elif values.get("warmup_steps") and values.get("warmup_ratio") is not None:
        lost["warmup_ratio"] = say("warmup_steps goes before it there.")
        del values["warmup_ratio"]
    if values.get("val_size") and "load_best_model_at_end" not in values:
        defaults["adapter_from"] = "last"
    if values.get("max_steps") not in (None, -1):
        defaults["epochs"] = 10000.0
        notes.append(say("epochs: 10000 is never reached: max_steps alone ends the run, as it does there."))
        if values.pop("num_train_epochs", None) is not None:
            lost["num_train_epochs"] = say("max_steps goes before it there.")
    for key in ("bf16", "fp16"):
        if values.get(key) is False:  # asks for nothing
            del values[key]
    if "cutoff_len" in values or defaults:
        notes.append(say("Longer rows than max_seq_length are cut there; here they stop the run, or are left out with on_bad_row: skip."))
    return Translation(values, defaults, origins, ("dataset_dir",) if given.values.get("dataset") else (), lost, notes)


def _saves(values: dict[str, Any], lost: dict[str, str], defaults: dict[str, Any], notes: list[str]) -> None:
    """When it saves: each pass, every so many steps, or never; what is held out is looked at then here."""
    when = str(values.get("save_strategy") or "steps").casefold()
    for key in ("eval_strategy", "evaluation_strategy"):
        if str(values.get(key) or when).casefold() != when:
            lost[key] = say("the held-out loss comes with every checkpoint: save_steps, or save_epochs.")
            del values[key]
    if when in ("no", "false"):  # YAML takes a bare no for false
        del values["save_strategy"]
        lost["save_strategy"] = say("save_steps: 0 saves at the end only.")
    if when in ("no", "false", "epoch"):
        defaults["save_steps"] = 0
        if values.pop("save_steps", None) is not None:
            lost["save_steps"] = say("save_strategy: {when} goes before it there.", when=when)
    if not values.get("save_total_limit") and (values.get("save_steps") or when == "epoch" or defaults["save_steps"]):
        notes.append(say("save_total_limit: all checkpoints are kept there, and here the last 5."))


def _second_kind(values: dict[str, Any], origins: dict[str, str], lost: dict[str, str]) -> None:
    """The names of its second version, whose adapter has a section of its own."""
    peft = values.pop("peft_config", None)
    inner = [("peft_config", str(key), value) for key, value in peft.items()] if isinstance(peft, dict) else []
    for origin, key, value in [*inner, *((key, key, values.pop(key)) for key in ("model",) if key in values)]:
        name = _SECOND_KIND.get(key, key)
        values.setdefault(name, value)
        origins[name] = origin
    whole, part = values.get("global_batch_size"), values.get("micro_batch_size", 1)
    if isinstance(whole, int) and isinstance(part, int) and 0 < part <= whole:
        values.pop("global_batch_size")
        values["gradient_accumulation"], origins["gradient_accumulation"] = whole // part, "global_batch_size"
        if whole % part:
            lost["global_batch_size"] = say("{whole} is no multiple of {part}.", whole=whole, part=part)
    if "enable_activation_checkpointing" in values:
        values["gradient_checkpointing"] = values.pop("enable_activation_checkpointing")
        origins["gradient_checkpointing"] = "enable_activation_checkpointing"
    if "train_dataset" in values:
        values.setdefault("dataset", values.pop("train_dataset"))
        origins["dataset"] = "train_dataset"


def _stage(values: dict[str, Any], lost: dict[str, str]) -> None:
    """Other stages than learning from answers."""
    stage = str(values.get("stage") or "sft")
    if stage in _PREFERENCES:
        del values["stage"]
        lost["stage"] = say(
            "{stage} compares answers. Here the chosen ones are learned, and columns: says which those are; of the rejected ones "
            "nothing is learned.",
            stage=stage,
        )
    elif stage == "pt":
        del values["stage"]
        lost["stage"] = say("pt learns whole texts. Here answers are learned, and what stands before them is read.")
    elif stage in ("rm", "ppo"):
        del values["stage"]
        lost["stage"] = say("{stage} trains no model that answers, or needs one that judges. Here answers are learned.", stage=stage)


def _data(values: dict[str, Any], given: Given, origins: dict[str, str], lost: dict[str, str]) -> None:
    """The data sets, which are names that ``dataset_info.json`` explains, as our folder or file."""
    named = values.pop("dataset", None)
    named_folder = values.pop("dataset_dir", None)
    names = (
        [part.strip() for part in named.split(",")]
        if isinstance(named, str)
        else [str(one) for one in named]
        if isinstance(named, list)
        else []
    )
    names = [name for name in names if name]
    key = origins.get("dataset", "dataset")
    origins["train_data_dir"] = origins["metadata_path"] = key
    if not names:
        return
    where = str(named_folder or "data")
    if len(names) == 1 and (there := given.find(names[0])) is not None and there.suffix.lower() not in (".yaml", ".yml"):
        values["train_data_dir"] = str(there.parent if there.is_file() else there)
        if there.is_file():
            values["metadata_path"] = str(there)
        return
    info = _described(given, names, where)
    folder = given.find(where) or Path(where)
    if info is None:
        values["train_data_dir"] = where
        lost[key] = say(
            "{names}: the {file} that explains such names was not found in {folder}. Write metadata_path: the file that is meant.",
            names=first_few(names), file=NAME, folder=where,
        )  # fmt: skip
        return
    files: list[str] = []
    for name, entry in info.items():
        file = next((entry[place] for place in ("file_name", "path") if isinstance(entry.get(place), str)), None)
        if file is not None and (given.find(str(folder / file)) or given.find(file) or "." in Path(file).name) and not _elsewhere(entry):
            files.append(file)
        else:
            lost[key] = say("'{name}' is no file beside {file}: download it, and put it into a folder.", name=name, file=NAME)
    if len(files) == len(info) == 1:
        values["train_data_dir"] = str(folder)
        values["metadata_path"] = str(given.find(files[0]) or folder / files[0])
    elif files:
        values["train_data_dir"] = "./data"
        lost[key] = say(
            "it names several files, and one folder is read here: put {files} into ./data beside this config.",
            files=first_few([str(folder / file) for file in (*files, NAME)], 12),
        )
    else:
        values["train_data_dir"] = "./data"


def _described(given: Given, names: list[str], where: str) -> Mapping[str, Mapping[str, Any]] | None:
    """What is said of each data set: in ``dataset_info.json``, or in the file that its second version names."""
    if len(names) == 1 and names[0].lower().endswith((".yaml", ".yml", ".json")):
        found = given.read(names[0])
        names = list(found or ())
    else:
        found = given.read(os.path.join(where, NAME))
    if found is None:
        return None
    return {name: entry if isinstance(entry := found.get(name), dict) else {} for name in names}


def _elsewhere(entry: Mapping[str, Any]) -> bool:
    """Whether the data lie on a hub."""
    return "hub" in str(entry.get("source", "")) or any(
        key.endswith("_hub_url") or key in ("script_url", "cloud_file_name") for key in entry
    )


LLAMA_FACTORY = OtherTrainer("LLaMA-Factory", _MARKS, translate)
