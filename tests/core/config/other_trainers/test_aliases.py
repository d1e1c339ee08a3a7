# SPDX-License-Identifier: Apache-2.0
"""Keys and values of other trainers that mean exactly the same: taken, with a note that names ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field

from loraforge import ConfigError, Keys, RunConfig
from loraforge.config.key_docs import describe, schema
from loraforge.config.other_trainers.aliases import aliases_of, all_aliases, rename
from loraforge.config.yaml_reader import read
from loraforge.plan import make_plan, owners_of
from loraforge.plugin_api.host import PluginHost

HOST = PluginHost(blocked=())
OWNERS = {task: [owner for _, owner in owners_of(HOST, HOST.task(task))] for task in ("text", "image")}
ALIASES = [(task, alias, key) for task, owners in OWNERS.items() for alias, key in all_aliases(owners).items()]


def renamed(tmp_path: Path, text: str, owners=(RunConfig,), *overrides: str):
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return rename(read(file, overrides), owners)


def found(tmp_path: Path, text: str, owners=(RunConfig,), *overrides: str) -> tuple[dict, list[str], list[str]]:
    source = renamed(tmp_path, text, owners, *overrides)
    strip = [line.replace(f"{tmp_path / 'c.yaml'}", "c.yaml") for line in (*source.notes, *source.problems.values())]
    return {k: v.value for k, v in source.values.items()}, strip[: len(source.notes)], strip[len(source.notes) :]


# What a line of the other program's config is here. Whose it is, and that it means the same, was read in the programs' own definitions.
LINES = [
    # kohya's sd-scripts, lora-scripts
    ("image", "pretrained_model_name_or_path: ./a.safetensors", "base_model", "./a.safetensors"),
    ("image", "pretrained_model: ./a.ckpt", "base_model", "./a.ckpt"),
    ("image", "network_dim: 32", "lora_rank", 32),
    ("image", "network_alpha: 16", "lora_alpha", 16),
    ("image", "max_train_epoches: 10", "epochs", 10),
    ("image", "max_train_epochs: 10", "epochs", 10),
    ("image", "max_train_steps: 1600", "max_steps", 1600),
    ("image", "train_batch_size: 2", "batch_size", 2),
    ("image", "gradient_accumulation_steps: 4", "gradient_accumulation", 4),
    ("image", "save_every_n_steps: 100", "save_steps", 100),
    ("image", "lr: 1e-4", "learning_rate", 1e-4),
    ("image", "unet_lr: 1e-4", "learning_rate", 1e-4),
    ("image", "lr_scheduler: cosine_with_hard_restarts", "lr_scheduler", "cosine_with_restarts"),
    ("image", "lr_warmup_steps: 0.05", "warmup", 0.05),
    ("image", "lr_warmup_steps: 100", "warmup", 100),
    ("image", "optimizer_type: AdamW8bit", "optimizer", "adamw_8bit"),
    ("image", "optimizer_type: AdamW", "optimizer", "adamw"),
    ("image", "use_8bit_adam: true", "optimizer", "adamw_8bit"),
    ("image", "optimizer_type: Prodigy", "optimizer", "prodigy"),
    ("image", "optimizer_type: prodigyopt.Prodigy", "optimizer", "prodigy"),
    ("image", "optimizer_type: Lion", "optimizer", "lion"),
    ("image", "optimizer_type: CAME", "optimizer", "came"),
    ("image", "optimizer_type: AdamWScheduleFree", "optimizer", "schedule_free"),
    ("image", "optimizer_type: SCHEDULE_FREE_ADAMW", "optimizer", "schedule_free"),
    ("image", "use_lion_optimizer: true", "optimizer", "lion"),
    ("text", "use_muon: true", "optimizer", "muon"),
    ("text", "optim: schedule_free_adamw", "optimizer", "schedule_free"),
    ("text", "optim: lion_32bit", "optimizer", "lion"),
    ("image", "lr_scheduler_num_cycles: 3", "lr_scheduler_cycles", 3),
    ("image", "lr_restart_cycles: 3", "lr_scheduler_cycles", 3),
    ("image", "lr_decay_steps: 0.3", "lr_scheduler_decay", 0.3),
    ("image", "save_every_n_epochs: 2", "save_epochs", 2),
    ("text", "save_strategy: epoch", "save_epochs", 1),
    ("text", "eval_strategy: epoch", "save_epochs", 1),
    ("text", "loraplus_lr_ratio: 16", "lora_plus_ratio", 16),
    ("image", "optimizer_args_custom: [decouple=True]", "optimizer_args", ["decouple=True"]),
    ("image", "mixed_precision: fp16", "precision", "fp16"),
    ("image", "mixed_precision: 'no'", "precision", "fp32"),
    ("image", "mixed_precision: no", "precision", "fp32"),
    ("image", "validation_split: 0.1", "eval_ratio", 0.1),
    ("image", "reg_data_dir: ./reg", "prior_data_dir", "./reg"),
    ("image", "bucket_reso_steps: 32", "bucket_step", 32),
    ("image", "flip_aug: true", "flip", True),
    ("image", "random_crop: true", "crop", "random"),
    ("image", "random_crop: false", "crop", "center"),
    ("image", "shuffle_caption: true", "caption_shuffle", True),
    ("image", "caption_dropout_rate: 0.1", "caption_dropout", 0.1),
    ("image", "max_token_length: 225", "max_caption_tokens", 225),
    ("image", "network_train_unet_only: true", "train_text_encoder", False),
    ("image", "network_train_unet_only: false", "train_text_encoder", True),
    ("image", "train_unet_only: 1", "train_text_encoder", False),
    ("image", "v_parameterization: true", "prediction_type", "v_prediction"),
    ("image", "conv_dim: 4", "conv_rank", 4),
    ("image", "save_precision: float", "save_precision", "fp32"),
    # LLaMA-Factory, transformers, TRL
    ("text", "model_name_or_path: Qwen/Qwen3-8B", "base_model", "Qwen/Qwen3-8B"),
    ("text", "model_revision: v1", "revision", "v1"),
    ("text", "adapter_name_or_path: ./a", "init_from_adapter", "./a"),
    ("text", "cutoff_len: 2048", "max_seq_length", 2048),
    ("text", "max_length: 1024", "max_seq_length", 1024),
    ("text", "per_device_train_batch_size: 1", "batch_size", 1),
    ("text", "num_train_epochs: 3.0", "epochs", 3.0),
    ("text", "lr_scheduler_type: cosine", "lr_scheduler", "cosine"),
    ("text", "lr_scheduler_type: cosine_with_restarts", "lr_scheduler", "cosine_with_restarts"),
    ("text", "lr_scheduler_type: WSD", "lr_scheduler", "warmup_stable_decay"),
    ("text", "warmup_ratio: 0.1", "warmup", 0.1),
    ("text", "warmup_steps: 20", "warmup", 20),
    ("text", "optim: adamw_torch", "optimizer", "adamw"),
    ("text", "optim: adamw_torch_fused", "optimizer", "adamw"),
    ("text", "optim: adamw_bnb_8bit", "optimizer", "adamw_8bit"),
    ("text", "bf16: true", "precision", "bf16"),
    ("text", "fp16: true", "precision", "fp16"),
    ("text", "quantization_bit: 4", "precision", "4bit"),
    ("text", "use_rslora: true", "lora_variant", "rslora"),
    ("text", "use_dora: true", "lora_variant", "dora"),
    ("text", "pissa_init: true", "lora_variant", "pissa"),
    ("text", "val_size: 0.1", "eval_ratio", 0.1),
    ("text", "default_system: 你是律师。", "system_prompt", "你是律师。"),
    ("text", "disable_gradient_checkpointing: true", "gradient_checkpointing", False),
    ("text", "early_stopping_steps: 3", "patience", 3),
    ("text", "load_best_model_at_end: true", "adapter_from", "best"),
    ("text", "load_best_model_at_end: false", "adapter_from", "last"),
    ("text", "lora_target_modules: [q_proj, v_proj]", "lora_target", ["q_proj", "v_proj"]),
    ("image", "fp8_base: true", "precision", "fp8"),
    # axolotl, unsloth, peft
    ("text", "lora_r: 32", "lora_rank", 32),
    ("text", "r: 16", "lora_rank", 16),
    ("text", "lora_model_dir: ./a", "init_from_adapter", "./a"),
    ("text", "lora_target_linear: true", "lora_target", "all-linear"),
    ("text", "sequence_len: 4096", "max_seq_length", 4096),
    ("text", "micro_batch_size: 2", "batch_size", 2),
    ("text", "num_epochs: 4", "epochs", 4),
    ("text", "optimizer: adamw_bnb_8bit", "optimizer", "adamw_8bit"),
    ("text", "load_in_4bit: true", "precision", "4bit"),
    ("text", "val_set_size: 0.05", "eval_ratio", 0.05),
    ("text", "peft_use_dora: true", "lora_variant", "dora"),
    ("text", "revision_of_model: v2", "revision", "v2"),
    ("text", "model_name: unsloth/Qwen3-8B", "base_model", "unsloth/Qwen3-8B"),
    ("text", "target_modules: [q_proj]", "lora_target", ["q_proj"]),
    ("text", "use_gradient_checkpointing: unsloth", "gradient_checkpointing", True),
    ("text", "early_stopping_patience: 2", "patience", 2),
]


@pytest.mark.parametrize(("task", "line", "key", "value"), LINES, ids=[f"{line[0]}-{line[1]}" for line in LINES])
def test_a_line_of_another_program_is_ours(tmp_path, task, line, key, value):
    values, notes, problems = found(tmp_path, f"seed: 1\n{line}\n", OWNERS[task])
    assert values == {"seed": 1, key: value} and problems == []
    assert len(notes) == 1 and notes[0].startswith("c.yaml:2: ") and line.partition(":")[0] in notes[0] and key in notes[0]


@pytest.mark.parametrize(
    ("line", "key"),
    [(f"{name}: false", "precision") for name in ("bf16", "fp16", "load_in_4bit")]
    + [(f"{name}: false", "lora_variant") for name in ("use_rslora", "use_dora", "pissa_init")]
    + [("max_steps: -1", "max_steps"), ("lora_target_linear: false", "lora_target"), ("use_8bit_adam: false", "optimizer")],
)
def test_what_asks_for_nothing_changes_nothing_and_is_said(tmp_path, line, key):
    assert found(tmp_path, line + "\n") == ({}, [f"c.yaml:1: {line} leaves '{key}' as it is."], [])


def test_one_step_is_not_minus_one(tmp_path):
    assert found(tmp_path, "max_steps: 1\n") == ({"max_steps": 1}, [], [])
    assert found(tmp_path, "max_train_steps: 1\n")[0] == {"max_steps": 1}


@pytest.mark.parametrize(("task", "alias", "key"), ALIASES, ids=[f"{task}-{alias}" for task, alias, _ in ALIASES])
def test_given_twice_is_an_error_in_either_order_and_set_wins(tmp_path, task, alias, key):
    owners = OWNERS[task]
    info = next(owner.model_fields[key] for owner in owners if key in owner.model_fields)
    theirs, ours = next(iter(aliases_of(info)[alias].items()), ("7", 7))
    theirs, ours = {"below": ("0.5", 0.5), "alone": ("7", 7), "assumes": ("7", 7)}.get(theirs, (theirs, ours))
    for text in (f"{key}: 9\n{alias}: {theirs}\n", f"{alias}: {theirs}\n{key}: 9\n"):
        _, _, problems = found(tmp_path, text, owners)
        assert len(problems) == 1 and "c.yaml:2: " in problems[0] and "c.yaml:1" in problems[0] and "Keep one" in problems[0], problems
        assert alias in problems[0] and f"'{key}'" in problems[0]
    assert found(tmp_path, f"{alias}: {theirs}\n", owners, f"{key}=9")[0] == {key: 9}
    assert found(tmp_path, f"{key}: 9\n", owners, f"{alias}={theirs}")[0] == {key: ours}
    assert found(tmp_path, f"{alias}:\n", owners) == ({}, [], [])  # nothing was asked for


def test_two_names_of_one_key_are_given_twice_too(tmp_path):
    _, _, problems = found(tmp_path, "num_train_epochs: 3\nmax_train_epochs: 10\n")
    assert problems == [
        "c.yaml:2: 'max_train_epochs' is 'epochs' here, which is given already, as 'num_train_epochs' at c.yaml:1. Keep one of them."
    ]


def test_what_is_switched_off_stands_beside_what_is_on(tmp_path):
    values, notes, problems = found(tmp_path, "bf16: true\nfp16: false\nload_in_4bit: false\nuse_dora: false\nuse_rslora: true\n")
    assert values == {"precision": "bf16", "lora_variant": "rslora"} and len(notes) == 5 and problems == []


def test_steps_beside_epochs_where_the_other_program_prefers_the_epochs(tmp_path):
    for text in ("max_train_steps: 9\nmax_train_epochs: 2\n", "epochs: 2\nmax_train_steps: 9\n"):
        assert len(found(tmp_path, text)[2]) == 1 and "gives way to" in found(tmp_path, text)[2][0]
    assert found(tmp_path, "max_steps: 9\nnum_train_epochs: 2\n")[2] == []  # in transformers the steps win, as here


def test_a_plugins_own_key_goes_before_another_keys_alias(tmp_path, host, project):
    from types import SimpleNamespace

    from loraforge_text.data.table_loader import TableLoader

    from loraforge import hookimpl

    class LrKeys(Keys):
        lr: str = Field("", description="mine")
        columns: dict[str, str] = Field(default_factory=dict, description="as the other's")
        encoding: str = Field("auto", description="as the other's")

    class LrLoader(TableLoader):
        name = "lr"
        keys = LrKeys

    host.register(SimpleNamespace(loraforge_data_loaders=hookimpl(lambda: [LrLoader()], specname="loraforge_data_loaders")), "mine")
    plan = make_plan(host, "text", project(data_loader="lr", lr="left to right"))
    assert plan.keys[LrKeys].lr == "left to right" and plan.config.learning_rate == 0.01
    other = make_plan(host, "text", project(learning_rate=..., lr=0.5))
    assert other.config.learning_rate == 0.5


def test_a_share_is_no_number_of_steps(tmp_path):
    assert "c.yaml:1: warmup_ratio: 1.5: must be less than 1. It is a share" in found(tmp_path, "warmup_ratio: 1.5\n")[2][0]


def test_no_alias_is_a_key_or_another_keys_alias():
    for owners in OWNERS.values():
        names = [alias for owner in owners for info in owner.model_fields.values() for alias in aliases_of(info)]
        assert len(names) == len(set(names)) and not {n for owner in owners for n in owner.model_fields} & set(names)


def test_errors_name_the_key_as_it_was_written(host, project):
    with pytest.raises(ConfigError, match=r"config.yaml:\d+: batch_size \('train_batch_size'\): must be 1 or more; got 0"):
        make_plan(host, "text", project(train_batch_size=0))


def test_a_run_trains_alike_under_either_name(host, project):
    ours = make_plan(host, "text", project("a.yaml", lora_rank=4, epochs=3, max_seq_length=256, warmup=0.1))
    theirs = make_plan(
        host, "text", project("b.yaml", lora_rank=..., network_dim=4, epochs=..., num_train_epochs=3, cutoff_len=256, warmup_ratio=0.1)
    )
    assert ours.keys.flat() == theirs.keys.flat() and len(theirs.notes) == 4 and ours.notes == ()


def test_notes_are_shown_by_check_and_train(project, command):
    config = project(lora_rank=..., network_dim=4, logging_steps=10)
    for arguments in (("check", "text", config), ("train", "text", config)):
        code, out, err = command(*arguments)
        assert code == 0 and "'network_dim' is 'lora_rank' here." in out + err and "logging_steps: not used here." in out + err
    assert any("network_dim" in note for note in json.loads(command("check", "text", config, "--json")[1])["notes"])


class _Mine(Keys):
    strength: float = Field(1.0, description="mine", json_schema_extra={"aliases": {"power": {"full": 1.0, "off": None}, "force": {}}})


def test_a_plugins_keys_declare_aliases_and_docs_and_schema_show_them(tmp_path):
    assert found(tmp_path, "power: full\n", [_Mine])[0] == {"strength": 1.0}
    assert found(tmp_path, "force: 0.5\n", [_Mine])[0] == {"strength": 0.5}
    assert describe("mine", _Mine)[0].aliases == ("power", "force")
    made = schema([_Mine])["properties"]
    assert made["power"] == {"description": "strength", "deprecated": True}
    assert made["force"] == {"type": "number", "description": "strength", "deprecated": True}


def test_keys_are_listed_with_their_other_names(command):
    assert "also: network_dim, lora_r, r" in command("keys", "text")[1]


@pytest.mark.parametrize("host_name", ["{hub}.co", "www.{hub}.co", "hf.test", "modelscope.test"])
@pytest.mark.parametrize("way", ["https://{host}/{models}Qwen/Qwen3-8B{end}", "{host}/{models}Qwen/Qwen3-8B{end}"])
@pytest.mark.parametrize("end", ["", "/", "/tree/main", "/tree/main/"])
def test_the_address_of_a_models_page_is_its_id(tmp_path, host_name, way, end):
    host = host_name.format(hub="hugging" + "face")
    scope = "modelscope" in host
    written = way.format(host=host, models="models/" if scope else "", end=end)
    values, notes, _ = found(tmp_path, f"base_model: {written}\n")
    wanted = "modelscope:Qwen/Qwen3-8B" if scope else "Qwen/Qwen3-8B"
    assert values == {"base_model": wanted} and notes == [f"c.yaml:1: base_model: {written} is base_model: {wanted} here."]


@pytest.mark.parametrize(
    ("end", "words"),
    [("/tree/v2", "base_model: Qwen/Qwen3-8B and revision: v2"), ("/blob/main/config.json", "base_model: Qwen/Qwen3-8B"),
     ("/resolve/main/model.gguf", "the address of one file")],
)  # fmt: skip
def test_the_address_of_a_revision_or_file_says_what_to_write(tmp_path, end, words):
    _, _, problems = found(tmp_path, f"base_model: https://{'hugging' + 'face'}.co/Qwen/Qwen3-8B{end}\n")
    assert len(problems) == 1 and problems[0].startswith("c.yaml:1: base_model: ") and words in problems[0]
