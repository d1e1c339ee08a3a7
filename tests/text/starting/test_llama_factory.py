# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory's configs in our keys, by what its own ``hparams`` say."""

from __future__ import annotations

import json

import pytest
import yaml

from loraforge.data.dataset import load_data
from loraforge.plan import make_plan
from loraforge.plugin_api.host import PluginHost
from loraforge.starting.config_text import config_file
from loraforge.starting.translating import translate

HOST = PluginHost(blocked=())
FIRST = {"model_name_or_path": "tiny-chat", "stage": "sft", "do_train": True, "finetuning_type": "lora"}


def told(tmp_path, **values):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({**FIRST, **values}, allow_unicode=True), encoding="utf-8")
    return translate(HOST, file, None, tmp_path / "my.yaml")


def values_of(tmp_path, **values) -> dict:
    return {line.key: line.value for line in told(tmp_path, **values).lines}


def test_what_it_takes_where_nothing_is_said_is_written_out(tmp_path):
    """model_args, finetuning_args, data_args and transformers' TrainingArguments; what equals ours stays out."""
    values = values_of(tmp_path)
    expected = {"lora_rank": 8, "lora_dropout": 0.0, "batch_size": 8, "learning_rate": 5e-5, "epochs": 3.0, "lr_scheduler": "linear"}
    expected |= {"warmup": 0.0, "max_seq_length": 2048, "save_steps": 500, "eval_ratio": 0.0, "gradient_checkpointing": True}
    assert {key: values[key] for key in expected} == expected and not {"seed", "weight_decay", "lora_alpha"} & values.keys()


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (
            {"lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.1, "lora_target": "all"},
            {"lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.1, "lora_target": "all"},
        ),
        ({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}, {"batch_size": 1, "gradient_accumulation": 8}),
        (
            {"num_train_epochs": 2.5, "learning_rate": 1e-4, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1},
            {"epochs": 2.5, "learning_rate": 1e-4, "lr_scheduler": "cosine", "warmup": 0.1},
        ),
        ({"bf16": True}, {"precision": "bf16"}),
        ({"quantization_bit": 4, "bf16": True, "double_quantization": True}, {"precision": "4bit"}),
        ({"use_dora": True}, {"lora_variant": "dora"}),
        ({"use_rslora": True}, {"lora_variant": "rslora"}),
        ({"pissa_init": True}, {"lora_variant": "pissa"}),
        ({"loraplus_lr_ratio": 16.0}, {"lora_plus_ratio": 16.0}),
        ({"val_size": 0.1}, {"eval_ratio": 0.1, "adapter_from": "last"}),
        ({"val_size": 0.1, "load_best_model_at_end": True}, {"eval_ratio": 0.1, "adapter_from": "best"}),
        ({"max_steps": 300, "num_train_epochs": 3.0}, {"max_steps": 300, "epochs": 10000.0}),
        ({"disable_gradient_checkpointing": True}, {"gradient_checkpointing": False}),
        ({"lr_scheduler_type": "constant", "warmup_ratio": 0.1}, {"lr_scheduler": "constant", "warmup": 0.0}),
        ({"warmup_steps": 20, "warmup_ratio": 0.1}, {"warmup": 20}),
        ({"optim": "adamw_bnb_8bit"}, {"optimizer": "adamw_8bit"}),
        ({"optim": "paged_adamw_32bit"}, {"optimizer": "adamw"}),
        ({"quantization_bit": 4, "fp16": True}, {"precision": "4bit"}),
        ({"fp16": True, "quantization_bit": 4}, {"precision": "4bit"}),
        ({"save_strategy": "epoch"}, {"save_epochs": 1, "save_steps": 0}),
        ({"save_strategy": "no", "save_steps": 100}, {"save_epochs": None, "save_steps": 0}),
        ({"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 100}, {"save_epochs": None, "save_steps": 100}),
        ({"save_strategy": "epoch", "eval_strategy": "no"}, {"save_epochs": 1}),
        (  # v1: LoraParams, TrainingArguments, and base_trainer's torch.optim.AdamW and LambdaLR of 1
            {"peft_config": {"r": 32}, "micro_batch_size": 2, "global_batch_size": 16},
            {
                "lora_rank": 32,
                "lora_alpha": 16,
                "gradient_accumulation": 8,
                "learning_rate": 1e-4,
                "lr_scheduler": "constant",
                "weight_decay": 0.01,
                "precision": "bf16",
                "save_steps": 0,
            },
        ),
        (
            {"peft_config": {"name": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all"}, "micro_batch_size": 2},
            {"lora_rank": 4, "lora_alpha": 8, "batch_size": 2},
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_values_are_converted(tmp_path, given, ours):
    values = values_of(tmp_path, **given)
    assert {key: values.get(key) for key in ours} == ours


@pytest.mark.parametrize(
    ("given", "key", "why"),
    [
        ({"stage": "dpo", "pref_beta": 0.1}, "stage", "the chosen ones are learned"),
        ({"stage": "pt"}, "stage", "whole texts"),
        ({"stage": "rm"}, "stage", "judges"),
        ({"finetuning_type": "full"}, "finetuning_type", "adapters"),
        ({"packing": True}, "packing", "never mixed"),
        ({"template": "qwen3"}, "template", "own chat template"),
        ({"deepspeed": "x.json"}, "deepspeed", "accelerate"),
        ({"quantization_bit": 4, "fp16": True}, "fp16", "bf16"),
        ({"save_strategy": "epoch", "eval_strategy": "steps"}, "eval_strategy", "every checkpoint"),
        ({"micro_batch_size": 3, "global_batch_size": 16}, "global_batch_size", "no multiple"),
        ({"dataset": "a,b"}, "dataset", "dataset_info.json"),
    ],
)
def test_what_has_no_counterpart_is_named_with_the_reason(tmp_path, given, key, why):
    assert why in told(tmp_path, **given).lost[key]


def test_what_adds_nothing_to_other_lines_is_not_called_lost(tmp_path):
    """A switch beside the one that says more, and values that say what is so anyway."""
    given = {"bf16": True, "quantization_bit": 4, "save_strategy": "steps", "eval_strategy": "steps", "max_steps": -1}
    found = told(tmp_path, **given)
    assert not given.keys() & found.lost.keys()
    assert all(any(key in text for text in (*found.unneeded, *found.taken)) for key in given)


@pytest.mark.parametrize(("more", "said"), [({}, True), ({"save_total_limit": 2}, False), ({"save_strategy": "no"}, False)])
def test_how_many_checkpoints_are_kept_is_told(tmp_path, more, said):
    assert any("save_total_limit" in note for note in told(tmp_path, **more).notes) == said


ENTRY = {
    "file_name": "说话.json",
    "formatting": "sharegpt",
    "columns": {"messages": "talk"},
    "tags": {"role_tag": "who", "content_tag": "said", "user_tag": "client", "assistant_tag": "lawyer"},
}


def test_a_data_set_is_looked_up_and_read_as_it_is_described(tmp_path):
    """Names of columns, keys and roles that nobody would guess: only ``dataset_info.json`` knows them."""
    (tmp_path / "data").mkdir()
    rows = [{"talk": [{"who": "client", "said": f"问题{i}？"}, {"who": "lawyer", "said": f"答案{i}。"}]} for i in range(12)]
    (tmp_path / "data" / "说话.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "data" / "other.json").write_text(json.dumps([{"instruction": "no", "output": "no"}]), encoding="utf-8")
    info = {"mine": ENTRY, "other": {"file_name": "other.json"}, "far": {"hf_hub_url": "a/b"}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info, ensure_ascii=False), encoding="utf-8")
    found = told(tmp_path, dataset="mine", dataset_dir="data")
    assert "dataset" in found.taken and "dataset_dir" in found.taken and "dataset" not in found.lost
    (tmp_path / "my.yaml").write_text(config_file([], found.lines), encoding="utf-8")
    data = load_data(make_plan(HOST, "text", tmp_path / "my.yaml"))
    assert [record.question for record in data.records] == [f"问题{i}？" for i in range(12)]
    both = told(tmp_path, dataset="mine,other")
    assert "说话.json" in both.lost["dataset"] and "other.json" in both.lost["dataset"]
    assert "download it" in told(tmp_path, dataset="far").lost["dataset"]
