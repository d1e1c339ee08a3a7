# SPDX-License-Identifier: Apache-2.0
"""An adapter of a few modules, and the parts of a safetensors file."""

from __future__ import annotations

import json
import struct

from loraforge import Adapter


def make_adapter(family="sd15", modules=None, rank=4, alpha=2, config=None, **facts) -> Adapter:
    import torch

    from loraforge.adapters import lora

    torch.manual_seed(0)
    modules = modules or {
        "unet.down_blocks.0.attentions.0.proj_in": ((4, 8, 1, 1), (8, 4, 1, 1)),
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": ((4, 8), (8, 4)),
        "unet.down_blocks.0.resnets.0.conv1": ((2, 8, 3, 3), (8, 2, 1, 1)),
    }
    tensors, probes, ranks = {}, {}, {}
    for name, (down, up) in modules.items():
        a, b = torch.randn(down), torch.randn(up) * 1e-4
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        probes[name] = lora.probe(name, alpha / rank * b.flatten(1) @ a.flatten(1))
        if down[0] != rank:
            ranks[name] = down[0]
    told = {"name": "neon", "family": family, "config": config or {}, "training": {"steps": 12, "examples": 3}, **facts}
    return Adapter(tensors, rank, alpha, ("x",), probes, "tiny-sd", ranks=ranks, facts=told)


def read(file):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 : 8 + length], data[8 + length :]
