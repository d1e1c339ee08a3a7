# SPDX-License-Identifier: Apache-2.0
"""One name for a layer that every program calls differently: the part of the pipeline, then diffusers' path, with underscores.

``lora_unet_input_blocks_4_1_proj_in``, ``unet.down_blocks.1.attentions.0.proj_in`` and
``base_model.model.unet.down_blocks.1.attentions.0.proj_in`` are all ``denoiser_down_blocks_1_attentions_0_proj_in``. Without torch.

The namings are those of kohya's sd-scripts, LyCORIS, diffusers (of before 0.20 too), PEFT, ComfyUI, OneTrainer and SimpleTuner, read off
files that they wrote and off their own tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

DENOISER, TEXT = "denoiser", "te"
# How a name begins -> the part; the longest first. "te?" stands for T5, whose number depends on the model.
_PARTS: tuple[tuple[str, str], ...] = (
    (r"(?:text_encoders?[._])?(?:clip_[lh])[._](?:transformer[._])?", "te1"),
    (r"(?:text_encoders?[._])?(?:clip_g)[._](?:transformer[._])?", "te2"),
    (r"(?:text_encoders?[._])?(?:t5xxl|t5)[._](?:transformer[._])?", "te?"),
    (r"(?:lycoris_)?lora_te([123])_", "te"),
    (r"(?:lycoris_)?lora_te_", "te1"),
    (r"(?:lycoris_)?text_encoder_([123])[._]", "te"),
    (r"(?:lycoris_)?text_encoder[._]", "te1"),
    (r"te([123])[._]", "te"),
    (r"lora_unet_|lora_transformer_|lycoris_(?:unet_)?|unet[._]|model[._]diffusion_model[._]|diffusion_model[._]", DENOISER),
    # FLUX and SD3 of diffusers; "transformer_blocks" alone is a layer, not a part.
    (r"transformer(?:\.|_(?!blocks))", DENOISER),
)
_BARE = re.compile(
    r"(down|up|mid)_block|(in|out)put_blocks|middle_block|(double|single|joint)_blocks|(single_)?transformer_blocks|time_embed|conv_(in|out)|"
    r"(layers|noise_refiner|context_refiner)[._]\d+[._](attention|feed_forward|adaLN_modulation)[._]"
)
_BARE_TEXT = re.compile(r"text_model[._]|encoder[._]layers[._]")
# Inside a residual block: the original name -> diffusers'.
_RESNET = {"in_layers_2": "conv1", "emb_layers_1": "time_emb_proj", "out_layers_3": "conv2", "skip_connection": "conv_shortcut"}


def canonical(name: str, t5: int = 3) -> str:
    """The name of a file's module, or of a pipeline's, as described above; what cannot be placed keeps its own name.

    Args:
        t5: which of the text encoders ComfyUI's ``t5xxl`` is: the second of FLUX, the third of Stable Diffusion 3.
    """
    plain = re.sub(r"^(?:(?:unet|transformer)\.)?base_model\.model\.", "", name)
    part, rest = _part(plain, t5)
    if not part:
        return name
    path = rest.replace(".", "_").replace("_processor_", "_")
    if part == DENOISER:
        return f"{DENOISER}_{_old_attention(to_diffusers(path))}"
    path = path.removeprefix("text_model_")
    path = re.sub(r"self_attn_to_(q|k|v)$", r"self_attn_\1_proj", path)
    return f"{part}_{re.sub(r'self_attn_to_out$', 'self_attn_out_proj', path)}"


def _part(name: str, t5: int) -> tuple[str, str]:
    """The part, and what follows; nothing if neither can be told."""
    for pattern, part in _PARTS:
        found = re.match(pattern, name)
        if found:
            number = found[1] if found.groups() else ""
            told = f"te{t5}" if part == "te?" else f"{part}{number}" if part == TEXT else part
            return told, name[found.end() :]
    if _BARE.match(name):
        return DENOISER, name
    return ("te1", name) if _BARE_TEXT.match(name) else ("", name)


def _old_attention(path: str) -> str:
    """diffusers before 0.20 called the layer after attention by its list: ``to_out``."""
    return re.sub(r"(attn\d?_to_out)$", r"\1_0", path)


def to_diffusers(path: str) -> str:
    """The diffusers name (with underscores) of a U-Net's layer that has its original one (sgm), for two layers a block; others stay."""
    found = re.fullmatch(r"(in|out)put_blocks_(\d+)_(\d)_(.+)", path)
    if found:
        return _from_blocks(found[1] == "in", int(found[2]), int(found[3]), found[4]) or path
    found = re.fullmatch(r"middle_block_([012])_(.+)", path)
    if found:
        place, rest = int(found[1]), found[2]
        return f"mid_block_attentions_0_{rest}" if place == 1 else f"mid_block_resnets_{place // 2}_{_RESNET.get(rest, rest)}"
    ends = {"time_embed_0": "time_embedding_linear_1", "time_embed_2": "time_embedding_linear_2", "out_2": "conv_out",
            "label_emb_0_0": "add_embedding_linear_1", "label_emb_0_2": "add_embedding_linear_2"}  # fmt: skip
    return ends.get(path, path)


def _from_blocks(entering: bool, number: int, place: int, rest: str) -> str:
    """A layer of an input or output block: its number, its place in the block, its name there. Nothing if it is none known."""
    if entering and number == 0:
        return "conv_in"
    level, layer = divmod(number - 1 if entering else number, 3)
    side = "down" if entering else "up"
    if entering and layer == 2:
        return f"down_blocks_{level}_downsamplers_0_conv" if rest in ("op", "conv") else ""
    if not entering and place and rest == "conv":  # behind the attention, or where there is none
        return f"up_blocks_{level}_upsamplers_0_conv"
    if place == 0 and rest in _RESNET:
        return f"{side}_blocks_{level}_resnets_{layer}_{_RESNET[rest]}"
    return f"{side}_blocks_{level}_attentions_{layer}_{rest}" if place == 1 else ""


def part_of_name(called: str) -> str:
    """The part of a canonical name: denoiser, te1, te2, te3; empty if it is none."""
    found = re.match(rf"({DENOISER}|te[123])_", called)
    return found[1] if found else ""


def of_network(module: str, denoiser: str) -> str:
    """The canonical name of a module of a pipeline, given as the part, then the path.

    Args:
        denoiser: what the pipeline calls its denoiser.
    """
    part, _, path = module.partition(".")
    return canonical(f"unet.{path}" if part == denoiser else module)


def fused(originals: Sequence[str], number: str) -> list[str]:
    """The canonical names that a layer of the original model, given in its parts' diffusers paths, stands for."""
    return [f"{DENOISER}_{path.replace('{i}', number).replace('.', '_')}" for path in originals]
