# SPDX-License-Identifier: Apache-2.0
"""``kernels: auto`` says what it replaced; ``kernels: off`` replaces nothing; both give the same losses."""

from __future__ import annotations

import json

import pytest
from builders.tiny_text import write_config, write_rows


@pytest.fixture
def train(tmp_path, base):
    """Trains with one setting; what the log says and every figure in it."""
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost

    def run(kernels):
        write_rows(tmp_path / "data" / "metadata.csv", 8)
        config = write_config(
            tmp_path / f"{kernels}.yaml",
            train_data_dir=str(tmp_path / "data"),
            base_model=str(base),
            output_dir=str(tmp_path / kernels),
            lora_rank=2,
            lora_dropout=0.0,
            epochs=2,
            learning_rate=0.01,
            kernels=kernels,
            eval_answers=0,
        )
        host = PluginHost(blocked=())
        run_training(make_plan(host, "text", config), host)
        events = [json.loads(line) for line in (tmp_path / kernels / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        stages = [event for event in events if event["event"] == "StageStarted" and event["stage"] == "kernels"]
        return stages, [event["loss"] for event in events if event["event"] == "StepFinished"]

    return run


def test_the_key_turns_everything_off_and_the_log_says_what_is_on(train):
    (stage,), fast = train("auto")
    assert all(part in stage["detail"] for part in ("14 LoRA layers", "5 norms", "2 gated blocks", "1 output head")), stage
    none, plain = train("off")
    assert not none
    assert fast == pytest.approx(plain, rel=1e-4)
