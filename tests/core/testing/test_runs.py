# SPDX-License-Identifier: Apache-2.0
"""finished_run: a real run, whole, sealed, and ready to be opened."""

from __future__ import annotations

from loraforge import load_run
from loraforge.testing import finished_run


def test_it_is_a_finished_run_that_can_be_opened_asked_and_verified(host, tmp_path, command):
    run = finished_run(tmp_path, max_steps=2, lora_variant="rslora")
    again = load_run(host, run.path)
    assert again.manifest["status"] == "finished" and again.config.lora_variant == "rslora" and again.path == tmp_path / "run"
    adapters = again.adapters()
    assert list(adapters) == ["run"] and adapters["run"].rank == 4
    answers = again.inference_model(adapters).generate([again.prompt("问？")], "run", max_tokens=2)
    assert len(answers) == 1 and (run.path / "export" / "peft" / "adapter_config.json").is_file()
    assert {p.name for p in (run.path / "checkpoints").iterdir()} and (run.path / "log.jsonl").is_file()
    code, out, err = command("verify", run.path)
    assert code == 0, out + err
