# SPDX-License-Identifier: Apache-2.0
"""Z-Image: base and turbo. The two refiners are built like the layers; the context refiner is not told the time."""

from __future__ import annotations

from ..webui_format import WebuiTable

_BLOCKS = ("layers", "noise_refiner", "context_refiner")
_KEPT = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")  # both call them alike

Z_IMAGE = WebuiTable(
    architecture="z-image/lora",
    base_version="z-image",
    implementation="https://github.com/Tongyi-MAI/Z-Image",
    fused={f"{block}.{{i}}.attention.qkv": tuple(f"{block}.{{i}}.attention.to_{one}" for one in "qkv") for block in _BLOCKS},
    plain={
        **{f"{block}.{{i}}.attention.out": f"{block}.{{i}}.attention.to_out.0" for block in _BLOCKS},
        **{name: name for block in _BLOCKS for kept in _KEPT for name in (f"{block}.{{i}}.{kept}",)},
        **{name: name for block in _BLOCKS[:2] for name in (f"{block}.{{i}}.adaLN_modulation.0",)},
    },
    outside={
        "x_embedder": "all_x_embedder.2-1",
        "final_layer.linear": "all_final_layer.2-1.linear",
        "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
        "cap_embedder.1": "cap_embedder.1",
        "t_embedder.mlp.0": "t_embedder.mlp.0",
        "t_embedder.mlp.2": "t_embedder.mlp.2",
    },
)
