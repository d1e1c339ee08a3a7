# SPDX-License-Identifier: Apache-2.0
"""One LoRA written as every program writes it: the names by rules of their own, not by ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

LAYOUTS = (
    "kohya",
    "kohya without te1",
    "diffusers",
    "old diffusers",
    "oldest diffusers",
    "peft file",
    "peft folder",
    "comfyui",
    "lycoris",
    "onetrainer",
)


def random_lora(network: Any, chosen: str, rank: int = 3, seed: int = 0, scales: bool = True) -> dict[str, tuple[Any, Any, float]]:
    """(down, up, alpha) for every layer of ``network`` whose name ``chosen`` finds; alphas differ where ``scales``."""
    import torch

    make = torch.Generator().manual_seed(seed)
    found = {}
    for number, (name, module) in enumerate(network.named_modules()):
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and re.search(chosen, name):
            weight = module.weight
            down = torch.randn(rank, *weight.shape[1:], generator=make)
            up = torch.randn(weight.shape[0], rank, *(1,) * (weight.ndim - 2), generator=make)
            found[name] = (down, up, float(1 + number % 3) if scales else float(rank))
    return found


def delta(pair: tuple[Any, Any, float]) -> Any:
    """What it adds to the layer's weight, float64, with a convolution's kernel flattened: (out, in)."""
    down, up, alpha = pair
    return alpha / down.shape[0] * up.double().flatten(1) @ down.double().flatten(1)


def sgm(path: str) -> str:
    """The original name of a U-Net's layer, dotted, by diffusers' own list of blocks: two layers a block."""
    inside = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    for level in range(4):
        for layer in range(3):
            for kind, place in (("resnets", 0), ("attentions", 1)):
                for start, new in (
                    (f"down_blocks.{level}.{kind}.{layer}.", f"input_blocks.{3 * level + layer + 1}.{place}."),
                    (f"up_blocks.{level}.{kind}.{layer}.", f"output_blocks.{3 * level + layer}.{place}."),
                    (f"mid_block.{kind}.{layer}.", f"middle_block.{1 if kind == 'attentions' else 2 * layer}."),
                ):
                    if path.startswith(start):
                        rest = path[len(start) :]
                        return new + (inside.get(rest, rest) if kind == "resnets" else rest)
        if path == f"down_blocks.{level}.downsamplers.0.conv":
            return f"input_blocks.{3 * level + 3}.0.op"
        if path == f"up_blocks.{level}.upsamplers.0.conv":
            return f"output_blocks.{3 * level + 2}.2.conv"
    raise ValueError(path)


def _text(path: str) -> str:
    return path if path.startswith("text_model.") else f"text_model.{path}"


def write(
    layout: str, lora: dict[str, tuple[Any, Any, float]], place: Path, *, xl: bool = False, dtype: Any = None, metadata: Any = None
) -> Path:
    """The file (or folder) of a layout, for modules named ``unet.down_blocks...`` and ``text_encoder.text_model...``."""
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    config = {"peft_type": "LORA", "r": 0, "lora_alpha": 1, "alpha_pattern": {}, "rank_pattern": {}, "target_modules": ["x"]}
    for module, (down, up, alpha) in lora.items():
        import torch

        part, _, path = module.partition(".")
        unet, number = part == "unet", 2 if part == "text_encoder_2" else 1
        scale = alpha / down.shape[0]
        flat = path.replace(".", "_") if unet else _text(path).replace(".", "_")
        if layout in ("kohya", "kohya without te1", "lycoris", "onetrainer"):
            te = f"lora_te{number}_" if xl or layout == "onetrainer" else "lora_te_"
            name = (f"lora_unet_{sgm(path).replace('.', '_') if xl and layout == 'kohya' else flat}") if unet else te + flat
            if layout == "lycoris" and unet:
                name = f"lycoris_{flat}"
            tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(alpha)}
        elif layout == "diffusers":
            name = f"{part}.{path if unet else _text(path)}"
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up * scale}
        elif layout in ("old diffusers", "oldest diffusers"):
            old = re.sub(r"(attn[12])\.(to_[qkv]|to_out)(\.0)?$", r"\1.processor.\2_lora", path)
            kept = old if old != path else path + ".lora"
            kept = kept if unet else _text(path) + ".lora_linear_layer"
            name = ("" if layout == "oldest diffusers" and unet else f"{part}.") + kept
            tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up * scale}
        elif layout in ("peft file", "peft folder"):
            name = f"base_model.model.{module}"
            config["alpha_pattern"][module], config["rank_pattern"][module] = alpha, down.shape[0]
            config["r"] = down.shape[0]
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        elif layout == "comfyui":
            clip = f"text_encoders.clip_{'g' if number == 2 else 'l'}.transformer."
            name = f"diffusion_model.{sgm(path)}" if unet else clip + _text(path)
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up, f"{name}.alpha": torch.tensor(alpha)}
    tensors = {name: tensor.to(dtype or tensor.dtype).contiguous().clone() for name, tensor in tensors.items()}
    if layout.startswith("peft"):
        place.mkdir(parents=True)
        (place / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file(tensors, place / "adapter_model.safetensors")
        return place / "adapter_model.safetensors" if layout == "peft file" else place
    save_file(tensors, place, metadata)
    return place
