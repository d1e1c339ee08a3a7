# SPDX-License-Identifier: Apache-2.0
"""Bases whose weights are stored in fewer bits, written by hand as the formats' descriptions say, with what they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from builders.small_bases import make_base

_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # E2M1, the sign in the highest bit (OCP Microscaling Formats, version 1.0)


def _llama(width: int = 128) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2}
    return AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=97, num_attention_heads=4, num_key_value_heads=4, eos_token_id=2, **sizes)
    )


def _say(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}), encoding="utf-8")


def fp8(folder: Path) -> dict[str, torch.Tensor]:
    """DeepSeek's form: float8 with one factor for each block of 128 x 128."""
    make_base("llama", folder, _llama())
    stored, meant = {}, {}
    for name, weight in safetensors.torch.load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            stored[name] = weight
            continue
        rows, columns = weight.shape[0] // 128, weight.shape[1] // 128
        blocks = weight.view(rows, 128, columns, 128)
        factor = blocks.abs().amax((1, 3)) / 448
        small = (blocks / factor[:, None, :, None]).to(torch.float8_e4m3fn)
        stored[name], stored[f"{name}_scale_inv"] = small.reshape(weight.shape), factor
        meant[name] = (small.float() * factor[:, None, :, None]).reshape(weight.shape)
    safetensors.torch.save_file(stored, folder / "model.safetensors", {"format": "pt"})
    _say(folder, quant_method="fp8", activation_scheme="dynamic", weight_block_size=[128, 128], fmt="e4m3")
    return meant


def mxfp4(folder: Path) -> dict[str, torch.Tensor]:
    """gpt-oss's form: the experts in 4 bits, 32 numbers with one power of two; two numbers in a byte, the first in the low half."""
    from transformers import AutoModelForCausalLM, GptOssConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = GptOssConfig(vocab_size=97, head_dim=8, num_local_experts=4, num_experts_per_tok=2, eos_token_id=2, pad_token_id=0, **sizes)
    make_base("gpt_oss", folder, AutoModelForCausalLM.from_config(config))
    stored, meant = {}, {}
    generator = torch.Generator().manual_seed(3)
    for name, weight in safetensors.torch.load_file(folder / "model.safetensors").items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            stored[name] = weight
            continue
        experts, inputs, outputs = weight.shape
        codes = torch.randint(0, 16, (experts, outputs, inputs // 32, 32), generator=generator)
        powers = torch.randint(-6, -3, (experts, outputs, inputs // 32), generator=generator)
        values = torch.tensor([*_FP4, *(-x for x in _FP4)])[codes] * 2.0 ** powers[..., None]
        stored[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        stored[f"{name}_scales"] = (powers + 127).to(torch.uint8)
        meant[name] = values.reshape(experts, outputs, inputs).transpose(1, 2).contiguous()
    safetensors.torch.save_file(stored, folder / "model.safetensors", {"format": "pt"})
    _say(folder, quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"])
    return meant


def bitsandbytes(folder: Path, bits: int) -> dict[str, torch.Tensor]:
    """A base that bitsandbytes has made smaller, as its own functions give it back."""
    import shutil

    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    whole = make_base("llama", folder.with_name(f"{folder.name}-whole"), _llama())
    settings = BitsAndBytesConfig(
        load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="float32"
    )
    model = AutoModelForCausalLM.from_pretrained(whole, quantization_config=settings, device_map={"": "cpu"})
    meant = {
        f"{name}.weight": dequantize_4bit(m.weight.data, m.weight.quant_state).float()
        if bits == 4
        else m.weight.data.float() * (m.weight.SCB if m.weight.SCB is not None else m.state.SCB)[:, None] / 127
        for name, m in model.named_modules()
        if type(m).__name__ in ("Linear4bit", "Linear8bitLt")
    }
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(whole / file, folder / file)
    return meant
