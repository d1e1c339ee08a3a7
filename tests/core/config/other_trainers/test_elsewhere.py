# SPDX-License-Identifier: Apache-2.0
"""Keys of other trainers that mean nothing here: each has a sentence of its own, never a wild guess."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.other_trainers import KEYS

from loraforge import ConfigError
from loraforge.config.explanations import unknown_key
from loraforge.config.other_trainers.aliases import all_aliases, dismiss, rename
from loraforge.config.other_trainers.elsewhere import ELSEWHERE, elsewhere
from loraforge.config.schema import fields, validate
from loraforge.config.yaml_reader import read
from loraforge.plan import make_plan, owners_of
from loraforge.plugin_api.host import PluginHost

HOST = PluginHost(blocked=())
OWNERS = {task: [owner for _, owner in owners_of(HOST, HOST.task(task))] for task in ("text", "image")}


def told(tmp_path: Path, text: str, task: str = "text") -> tuple[list[str], list[str]]:
    """Notes and problems of a config that is sound but for these lines."""
    file = tmp_path / "c.yaml"
    file.write_text(f"{text}\ntrain_data_dir: .\nbase_model: tiny-chat\n", encoding="utf-8")
    source = dismiss(rename(read(file), OWNERS[task]), fields(OWNERS[task]))
    strip = str(file)
    try:
        validate(source, OWNERS[task])
        problems: tuple[str, ...] = ()
    except ConfigError as error:
        problems = error.problems
    return [n.replace(strip, "c.yaml") for n in source.notes], [p.replace(strip, "c.yaml") for p in problems]


@pytest.mark.parametrize("program", list(KEYS))
@pytest.mark.parametrize("task", list(OWNERS))
def test_no_key_of_another_program_is_taken_for_something_else(task, program):
    """Where a guess is offered, it is the same word in another spelling."""
    known, aliases = fields(OWNERS[task]), all_aliases(OWNERS[task])
    spelt = {"caption_extention": "caption_extension", "flip_aug": "flip", "num_repeats": "repeats"}
    for name in "".join(KEYS[program]).split():
        if name in known or name in aliases or elsewhere(name):
            continue
        hint = unknown_key(name, 1, known, aliases)
        assert hint == "" or spelt.get(name, "?") in hint, (name, hint)


@pytest.mark.parametrize("program", ["kohya", "lora_scripts"])
def test_every_key_of_these_is_answered(program):
    known, aliases = fields(OWNERS["image"]), all_aliases(OWNERS["image"])
    left = {"debug_dataset", "general", "huber_scale", "ip_noise_gamma_random_strength", "network_multiplier", "num_repeats", "dropout",
            "caption_extention", "trainer_file"}  # fmt: skip
    silent = {n for n in "".join(KEYS[program]).split() if not (n in known or n in aliases or elsewhere(n))}
    assert silent <= left


@pytest.mark.parametrize("task", list(OWNERS))
def test_a_slip_in_one_of_our_keys_is_not_taken_for_another_programs(task):
    """Each key with two neighbouring letters exchanged, and with one left out."""
    known, aliases = fields(OWNERS[task]), all_aliases(OWNERS[task])
    for key in (key for key in known if len(key) > 4):
        for i in range(1, len(key) - 1):
            for slip in (key[:i] + key[i + 1] + key[i] + key[i + 2 :], key[:i] + key[i + 1 :]):
                if slip in known or slip in aliases:
                    continue
                assert elsewhere(slip) is None, slip
                assert f"'{key}'" in unknown_key(slip, 1, known, aliases), slip


def test_a_slip_in_another_programs_key_gives_ours(tmp_path):
    assert told(tmp_path, "netwrok_dim: 8")[1] == ["c.yaml:1: unknown key 'netwrok_dim'. Did you mean 'lora_rank'?"]
    assert told(tmp_path, "max_train_epoch: 8")[1] == ["c.yaml:1: unknown key 'max_train_epoch'. Did you mean 'epochs'?"]


@pytest.mark.parametrize("name", [name for name, row in ELSEWHERE.items() if row.unless is None])
def test_what_changes_nothing_is_a_note(tmp_path, name):
    if name == "cache_dir":
        return  # a key of the image task
    notes, problems = told(tmp_path, f"{name}: 10")
    assert problems == [] and len(notes) == 1 and notes[0].startswith(f"c.yaml:1: {name}: not used here. ")


@pytest.mark.parametrize("name", [name for name, row in ELSEWHERE.items() if row.unless is not None])
def test_what_would_change_something_stops_with_what_there_is(tmp_path, name):
    name = name.replace("*", "x")
    notes, problems = told(tmp_path, f"{name}: 31")
    assert notes == [] and len(problems) == 1 and problems[0].startswith(f"c.yaml:1: there is no key '{name}' here. ")
    assert told(tmp_path, f"{name}:")[1] == []  # an empty line asks for nothing
    for harmless in (elsewhere(name).unless or "").split():
        notes, problems = told(tmp_path, f"{name}: {harmless}")
        assert problems == [] and len(notes) == 1, harmless


def test_a_note_gathers_the_lines_that_it_is_about(tmp_path):
    notes, _ = told(tmp_path, "logging_steps: 5\nseed: 1\nplot_loss: true\nreport_to: none")
    assert len(notes) == 1 and notes[0].startswith("c.yaml:1, 3, 4: logging_steps, plot_loss, report_to: not used here. Every step")


@pytest.mark.parametrize("section", ["model_arguments:\n  seed: 1", "datasets_of_mine:\n  - path: x\n    type: alpaca"])
def test_sections_are_told_to_be_flat(tmp_path, section):
    _, problems = told(tmp_path, section)
    assert len(problems) == 1 and problems[0].startswith("c.yaml:1: unknown key") and "The file is flat" in problems[0]


LORA_SCRIPTS = """\
pretrained_model_name_or_path: tiny-sd
model_train_type: sd-lora
train_data_dir: {data}
resolution: "512,512"
enable_bucket: true
network_module: networks.lora
network_dim: 32
network_alpha: 16
unet_lr: 1e-4
text_encoder_lr: 1e-5
lr_scheduler: cosine_with_restarts
lr_warmup_steps: 0
lr_scheduler_num_cycles: 1
optimizer_type: AdamW8bit
train_batch_size: 1
max_train_epochs: 10
mixed_precision: fp16
xformers: true
lowram: false
cache_latents: true
shuffle_caption: false
max_token_length: 225
seed: 1337
clip_skip: 2
network_train_unet_only: false
output_name: aki
logging_dir: ./logs
log_with: tensorboard
save_model_as: safetensors
save_precision: fp16
reg_data_dir: ""
"""


def test_a_config_of_lora_scripts_is_taken_line_by_line(tmp_path):
    """The forms of its web page with their defaults, less those that are refused with what there is instead."""
    (tmp_path / "pictures").mkdir()
    file = tmp_path / "c.yaml"
    file.write_text(LORA_SCRIPTS.format(data=tmp_path / "pictures"), encoding="utf-8")
    plan = make_plan(HOST, "image", file)
    flat = plan.keys.flat()
    wanted = {"lora_rank": 32, "lora_alpha": 16, "learning_rate": 1e-4, "text_encoder_lr": 1e-5, "lr_scheduler": "cosine_with_restarts", "warmup": 0,
              "optimizer": "adamw_8bit", "batch_size": 1, "epochs": 10, "precision": "fp16", "resolution": 512, "max_caption_tokens": 225,
              "train_text_encoder": True, "output_name": "aki", "clip_skip": 2, "caption_shuffle": False, "prior_data_dir": None}  # fmt: skip
    assert {key: flat[key] for key in wanted} == wanted


@pytest.mark.parametrize(("written", "side"), [("512,512", 512), ("768x768", 768), ("1024", 1024), ("512，512", 512), ("640 × 640", 640)])
def test_a_resolution_of_two_equal_sides(tmp_path, written, side):
    file = tmp_path / "c.yaml"
    file.write_text(f'resolution: "{written}"\ntrain_data_dir: .\nbase_model: tiny-sd\n', encoding="utf-8")
    assert validate(read(file), OWNERS["image"]).flat()["resolution"] == side


def test_a_resolution_of_two_sides_says_the_same_area(tmp_path):
    assert "The same area is 627; got '512,768'" in told(tmp_path, 'resolution: "512,768"', "image")[1][0]


@pytest.mark.parametrize(
    ("line", "switch", "advised"),
    [("text_encoder_lr: 1e-5", "train_text_encoder: true", True), ("keep_tokens: 1", "caption_shuffle: true", True), ("keep_tokens: 1", "tag_dropout: 0.1", True), ("text_encoder_lr: 0", "seed: 1", False),
     ("huber_c: 0.2", "loss_type: huber", True), ("multires_noise_discount: 0.2", "multires_noise_iterations: 6", True),
     ("keep_tokens: 0", "caption_shuffle: true", False), ("prior_loss_weight: 0.5", "prior_data_dir: .", True)],
)  # fmt: skip
def test_a_key_whose_switch_is_off_is_told(tmp_path, line, switch, advised):
    file = tmp_path / "c.yaml"
    for more, wanted in (("", advised), (switch + "\n", False)):
        file.write_text(f"train_data_dir: .\nbase_model: tiny-sd\n{line}\n{more}", encoding="utf-8")
        said = [remark for remark in make_plan(HOST, "image", file).advice if "does nothing here" in remark]
        key, needed = line.partition(":")[0], switch.partition(":")[0]
        needed = "caption_shuffle or tag_dropout" if key == "keep_tokens" else needed
        assert said == ([f"{file}:3: {key} does nothing here without {needed}."] if wanted else [])
