# SPDX-License-Identifier: Apache-2.0
"""What another program means by a line, where it differs here: it is taken, told, or refused with what to write; never in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loraforge import ConfigError, LoraForgeError, RunConfig
from loraforge.config.advice import steps_advice
from loraforge.config.other_trainers.aliases import aliases_of
from loraforge.plan import make_plan, owners_of
from loraforge.plugin_api.host import PluginHost
from loraforge.training.batching import schedule

HOST = PluginHost(blocked=())
OWNERS = {task: [owner for _, owner in owners_of(HOST, HOST.task(task))] for task in ("text", "image")}
BASES = {"text": "tiny-chat", "image": "tiny-sd"}


def plan_of(tmp_path: Path, task: str, text: str):
    given = {line.partition(":")[0] for line in text.splitlines()}
    more = {"train_data_dir": tmp_path, "base_model": BASES[task]}
    file = tmp_path / "c.yaml"
    file.write_text(text + "\n" + "".join(f"{key}: {value}\n" for key, value in more.items() if key not in given), encoding="utf-8")
    return make_plan(HOST, task, file)


def problems_of(tmp_path: Path, task: str, text: str) -> list[str]:
    with pytest.raises(LoraForgeError) as caught:
        plan_of(tmp_path, task, text)
    return [problem.replace(str(tmp_path / "c.yaml"), "c.yaml") for problem in caught.value.problems]


# --- steps


def advised(plan, examples: int, processes: int = 1) -> list[str]:
    planned = schedule(plan.config, examples, processes)
    return steps_advice(plan.config, plan.places, plan.names, planned.steps, planned.per_epoch)


@pytest.mark.parametrize("task", ["text", "image"])
@pytest.mark.parametrize(("examples", "batch", "processes"), [(20, 4, 1), (7, 2, 1), (1, 8, 1), (30, 3, 2)])
def test_exactly_so_many_steps_are_made_or_the_run_stops_with_what_to_write(tmp_path, task, examples, batch, processes):
    plan = plan_of(tmp_path, task, f"max_train_steps: 1600\nbatch_size: {batch}\n")
    with pytest.raises(ConfigError, match=r"c.yaml:1: max_train_steps: 1600 makes exactly 1600 steps") as caught:
        advised(plan, examples, processes)
    needed = caught.value.problems[0].partition("Write epochs: ")[2].partition(" ")[0]
    better = plan_of(tmp_path, task, f"max_steps: 1600\nepochs: {needed}\nbatch_size: {batch}\n")
    assert schedule(better.config, examples, processes).steps == 1600 and advised(better, examples, processes) == []


def test_our_own_ceiling_above_the_epochs_is_told(tmp_path):
    plan = plan_of(tmp_path, "text", "max_steps: 1600\n")
    assert [line.partition(": ")[2] for line in advised(plan, 20)] == [
        "max_steps is 1600, and the run ends after 50 steps: epochs is 10. For 1600 steps write epochs: 320."
    ]
    for text in ("max_steps: 50\n", "max_steps: 9\nepochs: 2\n", "max_train_steps: 50\n", "epochs: 3\n"):
        assert advised(plan_of(tmp_path, "text", text), 20) == []


@pytest.mark.parametrize(("line", "code"), [("max_steps", 0), ("max_train_steps", 2)])
def test_check_and_train_say_it(project, command, line, code):
    config = project(**{"epochs": ..., "max_steps": ..., line: 100_000})
    for verb in ("check", "train") if code else ("check",):
        found, out, err = command(verb, "text", config)
        assert found == code and f"{line}" in out + err and "rite epochs: " in out + err


# --- equal values under two names


EQUAL = [
    ("unet_lr: 1e-4", "learning_rate: 0.0001"), ("val_set_size: 0.05", "eval_ratio: 0.05"), ("r: 8", "lora_rank: 8"),
    ("train_batch_size: 2", "batch_size: 2"), ("num_train_epochs: 3.0", "max_train_epochs: 3"), ("mixed_precision: bf16", "bf16: true"),
    ("optim: adamw_torch", "optimizer_type: AdamW"), ("load_in_4bit: true", "quantization_bit: 4"), ("use_dora: 1", "lora_variant: dora"),
]  # fmt: skip
WITHIN = [("load_in_4bit: true", "bf16: auto"), ("load_in_4bit: true", "bf16: true"), ("precision: 4bit", "bf16: true"),
          ("quantization_bit: 4", "mixed_precision: bf16")]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [*EQUAL, *WITHIN])
def test_what_does_not_disagree_is_taken_in_either_order(tmp_path, one, other):
    alone = plan_of(tmp_path, "text", one).keys.flat()
    for text in (f"{one}\n{other}", f"{other}\n{one}"):
        plan = plan_of(tmp_path, "text", text)
        assert plan.keys.flat() == alone
        assert sum("adds nothing to" in note for note in plan.notes) == 1, plan.notes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("load_in_4bit: true", "fp16: true"),
        ("bf16: true", "fp16: true"),
        ("r: 8", "lora_rank: 9"),
        ("use_dora: true", "lora_variant: lora"),
    ],
)
def test_what_disagrees_stops(tmp_path, one, other):
    for text in (f"{one}\n{other}", f"{other}\n{one}"):
        assert "Keep one of them" in problems_of(tmp_path, "text", text)[0]


# --- switches


SWITCHES = [(task, alias, key, rules) for task, owners in OWNERS.items() for owner in owners for key, info in owner.model_fields.items()
            for alias, rules in aliases_of(info).items() if {"true", "false"} & set(rules)]  # fmt: skip


@pytest.mark.parametrize(("task", "alias", "key", "rules"), SWITCHES, ids=[f"{row[0]}-{row[1]}" for row in SWITCHES])
def test_a_switch_of_another_program_is_read_like_true_and_false(tmp_path, task, alias, key, rules):
    for word, ways in (("true", ("1", "yes", "'true'", "'1'", "on", "True")), ("false", ("0", "no", "'false'", "off"))):
        wanted = plan_of(tmp_path, task, f"{alias}: {word}\nexport: []").keys.flat()
        for written in ways:
            assert plan_of(tmp_path, task, f"{alias}: {written}\nexport: []").keys.flat() == wanted, written
    nothing = plan_of(tmp_path, task, "export: []").keys.flat()
    for written in ("", "''", "[]"):
        assert plan_of(tmp_path, task, f"{alias}: {written}\nexport: []").keys.flat() == nothing
    assert problems_of(tmp_path, task, f"{alias}: perhaps") == [f"c.yaml:1: {alias}: perhaps: must be true or false."]


BLANK = [(task, key) for task, owners in OWNERS.items() for owner in owners for key, info in owner.model_fields.items()
         if info.annotation in (int, float, bool, int | None, float | None)]  # fmt: skip


@pytest.mark.parametrize(("task", "key"), BLANK)
def test_an_empty_text_says_nothing_where_no_text_is_taken(tmp_path, task, key):
    assert plan_of(tmp_path, task, f"{key}: ''").keys.flat() == plan_of(tmp_path, task, "").keys.flat()


# --- defaults that differ


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("network_dim: 32", "write lora_alpha: 1."), ("r: 16", "write lora_alpha: 8."), ("network_dim: 32\nnetwork_alpha: 16", ""),
     ("network_alpha: 16\nnetwork_dim: 32", ""), ("lora_alpha: 64\nr: 16", ""), ("lora_r: 16", ""), ("lora_rank: 16", "")],
)  # fmt: skip
def test_the_default_of_the_other_programs_alpha_is_told(tmp_path, text, wanted):
    """sd-scripts: ``--network_alpha`` is 1 by default; peft: LoraConfig.lora_alpha is 8."""
    said = [note for note in plan_of(tmp_path, "text", text).notes if "Without lora_alpha" in note]
    assert (len(said) == 1 and said[0].endswith(wanted)) if wanted else said == []


def test_pefts_default_alpha_is_that_of_peft():
    from peft import LoraConfig

    rules = aliases_of(RunConfig.model_fields["lora_rank"])["r"]
    assert rules["assumes"] == {"lora_alpha": LoraConfig().lora_alpha}


@pytest.mark.parametrize(
    ("text", "told"),
    [("lr_scheduler: constant\nwarmup: 0.1", True), ("lr_scheduler_type: constant", True), ("lr_scheduler_type: constant\nwarmup_ratio: 0.1", True),
     ("lr_scheduler: constant", False), ("lr_scheduler_type: constant\nwarmup_steps: 0", False), ("lr_scheduler: constant_with_warmup\nwarmup: 9", False),
     ("lr_scheduler_type: cosine\nwarmup: 0.1", False)],
)  # fmt: skip
def test_constant_with_a_warmup_is_told(tmp_path, text, told):
    assert any("write warmup: 0" in line for line in plan_of(tmp_path, "text", text).advice) is told


# --- what is said


SAID = [
    ("text", "base_model: tiny-sd", "is a base of image"),
    ("image", "base_model: tiny-chat", "is a base of text"),
    ("image", "network_alpha: 0.5", "Write lora_alpha: 1"),
    ("text", "lora_alpha: 16.5", "Write lora_alpha: 16"),
    ("image", "unet_lr: 0", "train_unet: false trains the text encoders alone"),
    ("image", "learning_rate: 0.0", "A rate of 0 trains nothing"),
    ("text", "val_size: 100", "0.1 is a tenth"),
    ("text", "val_set_size: 20", "0.1 is a tenth"),
    ("text", "lora_dropout: 5", "0.1 is a tenth"),
    ("text", "quantization_bit: 8", "write precision: 4bit"),
    ("image", "optimizer_type: DAdaptAdam", "write optimizer: prodigy and learning_rate: 1"),
    ("image", "optimizer_type: PRODIGY_PLUS_SCHEDULE_FREE", "or optimizer: schedule_free"),
    ("image", "optimizer_type: prodigy8bit", "write optimizer: prodigy"),
    ("image", "optimizer_type: RAdamScheduleFree", "write optimizer: schedule_free"),
    ("image", "optimizer_type: CAME_8BIT", "write optimizer: came"),
    ("image", "optimizer_type: SGDNesterov", "Write optimizer: adamw"),
    ("text", "optim: galore_adamw_8bit", "Write optimizer: adamw"),
    ("text", "lr_scheduler_type: inverse_sqrt", "Nearest is cosine"),
    ("text", "save_strategy: no", "save_steps: 0 saves at the end only"),
    ("text", "adam_beta2: 0.95", "optimizer_args: [betas=0.9,0.99"),
    ("text", "lr_scheduler_kwargs: '{\"power\": 2}'", "lr_scheduler_power"),
    ("text", "optim: paged_adamw_32bit", "write optimizer: adamw."),
    ("text", "optim: paged_adamw_8bit", "write optimizer: adamw_8bit."),
    ("image", "optimizer_type: Lion8bit", "write optimizer: lion"),
    ("image", "seed: -1", "leave the line out"),
    ("image", "flip_aug_p: 0.5", "mirrors half"),
    ("text", "学习率: 2e-4", "'learning_rate'"),
    ("text", "批次大小: 2", "'batch_size'"),
    ("image", "分辨率: 512", "'resolution'"),
    ("text", "resolution: 512", "is a key of image"),
    ("text", "flip_aug: true", "is a key of image"),
    ("image", "cutoff_len: 512", "is a key of text"),
    ("text", "export: [peft, onnx]", "c.yaml:1: export: there is no exporter 'onnx'"),
    ("text", "export: [llama.cpp]", "write export: [gguf]"),
]


@pytest.mark.parametrize(("task", "line", "words"), SAID, ids=[f"{row[0]}-{row[1]}" for row in SAID])
def test_a_refusal_says_what_to_do_in_both_languages(tmp_path, monkeypatch, task, line, words):
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    english = problems_of(tmp_path, task, line)
    assert len(english) == 1 and english[0].startswith("c.yaml:1: ") and words in english[0]
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    chinese = problems_of(tmp_path, task, line)[0]
    # Nothing is left of the English but keys, values and commands.
    bare = re.sub(r"`[^`]*`|'[^']*'|\w+: *[\w.-]+|\[.*?\]", "", chinese)
    assert re.search("[\u4e00-\u9fff]", chinese) and not re.search(r"[a-z]+ [a-z]+ [a-z]+", bare), bare


@pytest.mark.parametrize(
    ("data", "english", "chinese"),
    [(b"epochs: 3\n---\nepochs: 4\n", "another document below it", "下面是另一份文档"),
     ("system_prompt: 妳是律師，請說繁體\n".encode("big5"), "Save it as UTF-8", "请另存为 UTF-8")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_so_in_both_languages(tmp_path, monkeypatch, data, english, chinese):
    file = tmp_path / "c.yaml"
    file.write_bytes(data)
    for language, words in (("en", english), ("zh", chinese)):
        monkeypatch.setenv("LORAFORGE_LANG", language)
        with pytest.raises(ConfigError, match=words):
            make_plan(HOST, "text", file)


def test_folders_that_have_changed_places(tmp_path):
    problems = problems_of(tmp_path, "text", f"train_data_dir: tiny-chat\nbase_model: {tmp_path}")
    assert any("they have changed places" in line for line in problems)
    (tmp_path / "my" / "rows").mkdir(parents=True)
    problems = problems_of(tmp_path, "text", f"train_data_dir: my/rows\nbase_model: {tmp_path}")
    assert not any("they have changed places" in line for line in problems)


@pytest.mark.parametrize("written", ["CAUSAL_LM", "causal_lm", "text-generation", "Text-Generation", "text"])
def test_pefts_word_for_the_task(tmp_path, written):
    plan_of(tmp_path, "text", f"task_type: {written}")
    assert "task_type" in problems_of(tmp_path, "image", f"task_type: {written}")[0]
