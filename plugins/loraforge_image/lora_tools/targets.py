# SPDX-License-Identifier: Apache-2.0
"""What each layout calls a module: of a transformer by its table, of a U-Net and the text encoders by their canonical names."""

from __future__ import annotations

import re

from ..families.stable_diffusion.kohya_names import of_canonical, original_name
from ..families.stable_diffusion.published import PUBLISHED
from ..lora_files.webui_format import Layer

LAYOUTS = ("webui", "diffusers", "comfyui")

# Words of paths, the longer before what they begin with: canonical names have underscores where the paths have dots.
_WORDS = (
    *("transformer_blocks", "down_blocks", "up_blocks", "mid_block", "attentions", "resnets", "downsamplers", "upsamplers"),
    *("time_emb_proj", "time_embedding", "add_embedding", "conv_shortcut", "conv_in", "conv_out", "conv1", "conv2", "conv"),
    *("linear_1", "linear_2", "proj_in", "proj_out", "proj", "attn1", "attn2", "to_q", "to_k", "to_v", "to_out", "ff", "net"),
    *("text_projection", "encoder", "layers", "layer", "block", "self_attn", "mlp", "fc1", "fc2"),
    *("q_proj", "k_proj", "v_proj", "out_proj", "SelfAttention", "DenseReluDense", "wi_0", "wi_1", "wi", "wo", "q", "k", "v", "o"),
)
_WORD = re.compile("(" + "|".join(_WORDS) + r"|\d+)(?:_|$)")
# Inside a residual block: the flat original name -> the dotted one.
_RESNET = {"in_layers_2": "in_layers.2", "emb_layers_1": "emb_layers.1", "out_layers_3": "out_layers.3"}


def dotted(flat: str) -> str:
    """``down_blocks_0_attentions_0_proj_in`` -> ``down_blocks.0.attentions.0.proj_in``.

    Raises:
        ValueError: if a word is not known.
    """
    words, at = [], 0
    while at < len(flat):
        found = _WORD.match(flat, at)
        if not found:
            raise ValueError(flat)
        words.append(found[1])
        at = found.end()
    return ".".join(words)


def of_transformer(layer: Layer, path: str, layout: str) -> str:
    """A transformer's module in a layout.

    Args:
        path: diffusers' dotted path; ``webui`` and ``comfyui`` have the whole layer's original name.
    """
    if layout == "diffusers":
        return f"transformer.{path}"
    return "lora_unet_" + layer.original.replace(".", "_") if layout == "webui" else f"diffusion_model.{layer.original}"


def of_text(called: str, layout: str, family: str) -> str:
    """A text encoder's module in a layout, by its canonical name (``te1_encoder_layers_0_self_attn_q_proj``).

    Raises:
        ValueError: if the layout has no name for it.
    """
    found = re.fullmatch(r"te([123])_(.+)", called)
    if not found:
        raise ValueError(called)
    number, path = int(found[1]), dotted(found[2])
    t5 = "SelfAttention" in path or "DenseReluDense" in path
    if t5 and layout == "diffusers":
        raise ValueError(called)
    inside = path if t5 or path == "text_projection" else f"text_model.{path}"
    if layout == "diffusers":
        return f"text_encoder{f'_{number}' if number > 1 else ''}.{inside}"
    if layout == "comfyui":
        clip = "t5xxl" if t5 else "clip_g" if number == 2 else "clip_h" if family == "sd2" else "clip_l"
        return f"text_encoders.{clip}.transformer.{inside}"
    plain = family in PUBLISHED and len(PUBLISHED[family].encoders) == 1
    return f"lora_te{'' if plain else number}_{inside.replace('.', '_')}"


def of_unet(called: str, layout: str, family: str) -> str:
    """A U-Net's module, or its text encoder's, in a layout, by its canonical name.

    Raises:
        ValueError: if the layout has no name for it.
    """
    if not called.startswith("denoiser_"):
        return of_text(called, layout, family)
    path = called.removeprefix("denoiser_")
    if layout == "webui":
        return of_canonical(called, family)
    if layout == "diffusers":
        return f"unet.{dotted(path)}"
    return f"diffusion_model.{_original(path, family)}"


def _original(path: str, family: str) -> str:
    """The dotted original name of a U-Net's layer."""
    flat = original_name(path)
    if family != "sdxl" and re.fullmatch(r"up_blocks_0_upsamplers_0_conv", path):  # there is no attention before it
        flat = flat.replace("output_blocks_2_2_", "output_blocks_2_1_")
    found = re.fullmatch(r"(input_blocks|output_blocks)_(\d+)_(\d)_(.+)|(middle_block)_(\d)_(.+)", flat)
    if not found:
        raise ValueError(path)
    head = f"{found[1]}.{found[2]}.{found[3]}" if found[1] else f"{found[5]}.{found[6]}"
    rest = found[4] or found[7]
    if rest in _RESNET or rest in ("skip_connection", "op", "conv"):
        return f"{head}.{_RESNET.get(rest, rest)}"
    return f"{head}.{dotted(rest)}"
