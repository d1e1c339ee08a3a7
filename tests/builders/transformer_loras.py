# SPDX-License-Identifier: Apache-2.0
"""Tiny transformers of every family, and a LoRA on them written as every program writes it."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Pair = tuple[Any, Any, float]

# Two heads of 8, and one block of each kind (two where the last is another), are enough for every name.
_SHAPE: dict[str, Any] = {"attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 12}
CLASSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "z-image": ("ZImageTransformer2DModel", "ZImagePipeline",
                {"dim": 16, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 12, "in_channels": 4,
                 "axes_dims": [2, 2, 4], "axes_lens": [32, 32, 32]}),
    "flux2": ("Flux2Transformer2DModel", "Flux2Pipeline",
              {**_SHAPE, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "timestep_guidance_channels": 8, "axes_dims_rope": (2, 2, 2, 2)}),
    "flux1": ("FluxTransformer2DModel", "FluxPipeline",
              {**_SHAPE, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "pooled_projection_dim": 6, "guidance_embeds": True,
               "axes_dims_rope": (2, 2, 4)}),
    "chroma": ("ChromaTransformer2DModel", "ChromaPipeline",
               {**_SHAPE, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "axes_dims_rope": (2, 2, 4),
                "approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1}),
    "qwen-image": ("QwenImageTransformer2DModel", "QwenImagePipeline", {**_SHAPE, "in_channels": 16, "out_channels": 4, "num_layers": 1,
                                                                        "axes_dims_rope": (2, 2, 4)}),
    "sd3": ("SD3Transformer2DModel", "StableDiffusion3Pipeline",
            {**_SHAPE, "sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 2, "caption_projection_dim": 16,
             "pooled_projection_dim": 6, "pos_embed_max_size": 8, "dual_attention_layers": (0,)}),
}  # fmt: skip
FAMILIES = tuple(CLASSES)
# What people train: the blocks. SD3's last modulation of the text has its halves exchanged, and other programs leave it alone.
BLOCKS = r"^(transformer_blocks|single_transformer_blocks|layers|noise_refiner|context_refiner)\.(?!.*norm1_context)"
# The layouts of the matrix: prefix, whether the original model's names, the factors' names, whether an alpha stands beside them.
LAYOUTS: dict[str, tuple[str, bool, str, bool]] = {
    "kohya": ("lora_unet_", True, "lora_down", True),
    "diffusers": ("transformer.", False, "lora_A", False),
    "comfyui": ("diffusion_model.", True, "lora_A", False),
    "comfyui with alpha": ("diffusion_model.", True, "lora_A", True),
    "ai-toolkit": ("diffusion_model.", False, "lora_A", False),
    "musubi": ("lora_unet_", False, "lora_down", True),
    "onetrainer": ("lora_transformer_", False, "lora_down", True),
    "onetrainer, dotted": ("transformer.", False, "lora_down", True),
    "lycoris": ("lycoris_", False, "lora_down", True),
    "bare": ("", False, "lora_A", False),
    "bare, original": ("", True, "lora_A", False),
    "peft": ("base_model.model.", False, "lora_A", True),
}


def tiny(family: str) -> Any:
    """The transformer of a family, 16 wide, with random weights."""
    import diffusers
    import torch

    torch.manual_seed(0)
    kind, _, options = CLASSES[family]
    return getattr(diffusers, kind)(**options).requires_grad_(False)


def lora_of(network: Any, chosen: str, rank: int = 2, mixed: bool = True) -> dict[str, Pair]:
    """(down, up, alpha) for every linear layer whose path ``chosen`` finds; ranks and alphas differ where ``mixed``."""
    import torch

    make = torch.Generator().manual_seed(1)
    found = {}
    for number, (name, module) in enumerate(network.named_modules()):
        if isinstance(module, torch.nn.Linear) and re.search(chosen, name):
            size = rank + (number % 3 if mixed else 0)
            down = torch.randn(size, module.in_features, generator=make)
            up = torch.randn(module.out_features, size, generator=make)
            found[name] = (down, up, float(1 + number % 4) if mixed else float(rank))
    return found


def delta(pair: Pair) -> Any:
    """What it adds to the weight, float64."""
    down, up, alpha = pair
    return alpha / down.shape[0] * up.double() @ down.double()


def fused(table: Any, lora: Mapping[str, Pair], network: Any) -> dict[str, Pair]:
    """The same by the original model's layers, in blocks by the definition: up (rows, ranks), zeros where another's rank is."""
    import torch

    found: dict[str, Pair] = {}
    for name, pair in lora.items():
        layer = table.find(name)
        if layer.part is None:
            down, up, alpha = pair
            if layer.halves and up.shape[0] == 2 * down.shape[1]:
                up = torch.cat(up.chunk(2)[::-1])
            found[layer.original] = (down, up, alpha)
        elif layer.original not in found:
            pieces = [(lora[p], p) if p in lora else (None, p) for p in layer.parts]
            ranks = sum(one[0].shape[0] for one, _ in pieces if one)
            blocks = [
                one[2] / one[0].shape[0] * one[1] if one else torch.zeros(network.get_submodule(p).out_features, 0) for one, p in pieces
            ]
            up, row, column = torch.zeros(sum(b.shape[0] for b in blocks), ranks), 0, 0
            for block in blocks:
                up[row : row + block.shape[0], column : column + block.shape[1]] = block
                row, column = row + block.shape[0], column + block.shape[1]
            found[layer.original] = (torch.cat([one[0] for one, _ in pieces if one]), up, float(ranks))
    return found


def write(layout: str, table: Any, lora: Mapping[str, Pair], network: Any, place: Path, metadata: Any = None) -> Path:
    """The file of a layout (``peft``: the folder)."""
    import json

    import torch
    from safetensors.torch import save_file

    prefix, original, factor, stored = LAYOUTS[layout]
    other = {"lora_down": "lora_up", "lora_A": "lora_B"}[factor]
    tensors: dict[str, Any] = {}
    pairs = fused(table, lora, network) if original else lora
    for name, (down, up, alpha) in pairs.items():
        called = prefix + (name if prefix.endswith(".") or not prefix else name.replace(".", "_"))
        tensors[f"{called}.{factor}.weight"] = down.clone()
        tensors[f"{called}.{other}.weight"] = up.clone() if stored else alpha / down.shape[0] * up
        if stored and layout != "peft":
            tensors[f"{called}.alpha"] = torch.tensor(alpha)
    if layout == "peft":
        place.mkdir()
        config = {"peft_type": "LORA", "auto_mapping": {"base_model_class": type(network).__name__}, "r": 1, "lora_alpha": 1, "target_modules": ["x"], "alpha_pattern": {n: p[2] for n, p in pairs.items()},
                  "rank_pattern": {n: p[0].shape[0] for n, p in pairs.items()}}  # fmt: skip
        (place / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file(tensors, place / "adapter_model.safetensors")
        return place
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place, metadata)
    return place


def sized(function: Callable[..., Any], numbers: Mapping[int, int]) -> Callable[..., Any]:
    """The function with other numbers in its code: FLUX's widths stand in diffusers' converters."""

    def replaced(code: types.CodeType) -> types.CodeType:
        def other(one: Any) -> Any:
            if isinstance(one, types.CodeType):
                return replaced(one)
            if isinstance(one, tuple):
                return tuple(map(other, one))
            return numbers.get(one, one) if type(one) is int else one

        return code.replace(co_consts=tuple(map(other, code.co_consts)))

    made = types.FunctionType(
        replaced(function.__code__), function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def read_by_diffusers(family: str, file: Path) -> dict[str, Any]:
    """What diffusers' own LoRA loader changes in the family's transformer, by module, float64. It raises what the loader raises.

    FLUX's hidden width of 3072 in the converters is this transformer's 16.
    """
    import diffusers
    import torch
    from diffusers.loaders import lora_conversion_utils, lora_pipeline
    from safetensors.torch import load_file

    network = tiny(family)
    before = {name: p.clone() for name, p in network.state_dict().items()}
    pipeline = getattr(diffusers, CLASSES[family][1])
    patched = {"_convert_kohya_flux_lora_to_diffusers": {3072: 16, 12288: 64}}
    kept = {name: getattr(lora_pipeline, name) for name in patched}
    for name, numbers in patched.items():
        setattr(lora_pipeline, name, sized(getattr(lora_conversion_utils, name), numbers))
    try:
        state, alphas, metadata = _state(pipeline, load_file(file))
    finally:
        for name, function in kept.items():
            setattr(lora_pipeline, name, function)
    pipeline.load_lora_into_transformer(state, transformer=network, adapter_name="x", metadata=metadata, **alphas)
    if getattr(network, "peft_config", None):
        network.fuse_lora(adapter_names=["x"])
        network.unload_lora()
    after = network.state_dict()
    names: Iterable[str] = (n.removesuffix(".weight") for n in before if n.endswith(".weight") and before[n].ndim == 2)
    return {
        n: d
        for n in names
        if (d := (after[f"{n}.weight"].double() - before[f"{n}.weight"].double())).abs().max() > torch.finfo(torch.float32).eps
    }


def _state(pipeline: Any, tensors: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    import inspect

    named = inspect.signature(pipeline.lora_state_dict.__wrapped__).parameters
    if "return_alphas" in named:
        state, alphas, metadata = pipeline.lora_state_dict(tensors, return_alphas=True, return_lora_metadata=True)
        return state, {"network_alphas": alphas}, metadata
    state, metadata = pipeline.lora_state_dict(tensors, return_lora_metadata=True)
    return state, {}, metadata


def changes(file: Path, table: Any, network: Any) -> dict[str, Any]:
    """What a file does to every module of the transformer, by the definition: alpha / rank * up @ down, rows by the layers' sizes."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(file)
    found: dict[str, Any] = {}
    for key in tensors:
        name, dot, end = key.partition(".lora_down.weight") if ".lora_down." in key else key.partition(".lora_A.weight")
        if not dot or end:
            continue
        up = tensors[name + (".lora_up.weight" if "down" in dot else ".lora_B.weight")].double()
        down = tensors[key].double()
        whole = float(tensors.get(f"{name}.alpha", torch.tensor(float(down.shape[0])))) / down.shape[0] * up @ down
        path = re.sub(r"^(lora_unet_|lora_transformer_|lycoris_|transformer\.|diffusion_model\.|base_model\.model\.)", "", name)
        layer = table.find(path)
        original = path.replace(".", "_") == layer.original.replace(".", "_")
        if original and layer.halves and whole.shape[0] == 2 * whole.shape[1]:
            whole = torch.cat(whole.chunk(2)[::-1])
        for part in layer.parts if layer.part is None else [layer.parts[layer.part]]:
            rows = network.get_submodule(part).out_features
            here, whole = whole[:rows], whole[rows:]
            if here.any():
                found[part] = here
    return found
