# SPDX-License-Identifier: Apache-2.0
"""``kernels: auto`` says what it replaced in a U-Net; ``kernels: off`` replaces nothing; both give the same losses."""

from __future__ import annotations

import json

import pytest
from builders.tiny_images import draw_pictures
from builders.tiny_text import write_config


@pytest.fixture
def train(tmp_path):
    """Trains with one setting; what the log says and every loss in it."""
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost

    draw_pictures(tmp_path / "data", 4)

    def run(kernels):
        config = write_config(
            tmp_path / f"{kernels}.yaml",
            train_data_dir=str(tmp_path / "data"),
            base_model="tiny-sd",
            output_dir=str(tmp_path / kernels),
            resolution=64,
            lora_rank=2,
            lora_dropout=0.0,
            max_steps=3,
            eval_ratio=0,
            learning_rate=0.01,
            sample_prompts=[],
            kernels=kernels,
        )
        host = PluginHost(blocked=())
        run_training(make_plan(host, "image", config), host)
        events = [json.loads(line) for line in (tmp_path / kernels / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        stages = [event for event in events if event["event"] == "StageStarted" and event["stage"] == "kernels"]
        return stages, [event["loss"] for event in events if event["event"] == "StepFinished"]

    return run


def test_the_key_turns_everything_off_and_the_log_says_what_is_on(train):
    (stage,), fast = train("auto")
    assert all(part in stage["detail"] for part in ("LoRA layers", "blocks", "frozen layers")), stage
    none, plain = train("off")
    assert not none
    assert len(fast) == 3 and fast == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("changed", ["forward", "gelu"])
def test_a_gate_that_diffusers_writes_otherwise_is_left_alone(monkeypatch, changed):
    import torch
    from diffusers.models.activations import GEGLU
    from loraforge_image.kernels import fast_unet

    before = getattr(GEGLU, changed)

    def other(self, *given):
        return before(self, *given).clamp(-1, 1)

    assert fast_unet.replace(torch.nn.Sequential(GEGLU(8, 8).requires_grad_(False))) == 1
    monkeypatch.setattr(GEGLU, changed, other)
    assert fast_unet.replace(torch.nn.Sequential(GEGLU(8, 8).requires_grad_(False))) == 0
