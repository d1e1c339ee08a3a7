# SPDX-License-Identifier: Apache-2.0
"""``inspect RUN`` and folders: which LoRA is meant, and what else is there."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora(file, peft=False):
    file.parent.mkdir(parents=True, exist_ok=True)
    name = "base_model.model.unet.mid_block.attentions.0.proj_in" if peft else NAME
    parts = ("lora_A", "lora_B") if peft else ("lora_down", "lora_up")
    save_file({f"{name}.{parts[0]}.weight": torch.ones(2, 8), f"{name}.{parts[1]}.weight": torch.ones(8, 2)}, file)
    if peft:
        (file.parent / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}), encoding="utf-8")


def looked(command, path):
    code, out, err = command("inspect", path, "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_run_is_its_webui_file_then_its_adapter_then_its_newest_checkpoint(command, tmp_path):
    run = tmp_path / "run"
    for step in (50, 100):
        lora(run / f"checkpoints/step-{step:06d}/adapter/adapter_model.safetensors", peft=True)
    assert looked(command, run)["path"].endswith("step-000100/adapter/adapter_model.safetensors")
    lora(run / "adapter" / "adapter_model.safetensors", peft=True)
    assert looked(command, run)["path"] == str(run / "adapter" / "adapter_model.safetensors")
    lora(run / "export" / "diffusers" / "pytorch_lora_weights.safetensors")
    lora(run / "export" / "webui" / "neon.safetensors")
    (run / "export" / "merged" / "unet").mkdir(parents=True)
    (run / "export" / "merged" / "model_index.json").write_text("{}")
    (run / "export" / "merged" / "model.safetensors").write_bytes(b"")
    found = looked(command, run)
    assert found["path"] == str(run / "export" / "webui" / "neon.safetensors")
    assert found["others"] == [str(run / "export" / "diffusers" / "pytorch_lora_weights.safetensors"), str(run / "adapter")]
    _, out, _ = command("inspect", run)
    assert f"Also here: {run / 'adapter'}" in out


def test_a_folder_with_one_file_is_that_file_and_with_several_or_none_a_sentence(command, tmp_path):
    lora(tmp_path / "one" / "a.safetensors")
    assert looked(command, tmp_path / "one")["path"] == str(tmp_path / "one" / "a.safetensors")
    lora(tmp_path / "one" / "b.safetensors")
    code, _, err = command("inspect", tmp_path / "one")
    assert code == 2 and "a.safetensors, b.safetensors" in err
    (tmp_path / "none").mkdir()
    code, _, err = command("inspect", tmp_path / "none")
    assert code == 2 and "neither a run" in err
