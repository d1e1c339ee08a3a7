# SPDX-License-Identifier: Apache-2.0
"""The modules of a LoRA file: which of its tensors make one, which layers of which model they change."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .prefixes import naming_of_name, split_prefix

# What follows a module's name -> what it is. The longest endings come first, since some end others.
_ENDINGS = (
    {
        ".lora_linear_layer.down.weight": "down",
        ".lora_linear_layer.up.weight": "up",
        ".lora_A.default.weight": "down",
        ".lora_B.default.weight": "up",
        ".lora_A.weight": "down",
        ".lora_B.weight": "up",
        ".lora_down.weight": "down",
        ".lora_up.weight": "up",
        ".lora_mid.weight": "mid",
        ".lora.down.weight": "down",
        ".lora.up.weight": "up",
        "_lora.down.weight": "down",
        "_lora.up.weight": "up",
        ".lora_embedding_A": "down",
        ".lora_embedding_B": "up",
        ".lora_magnitude_vector.default.weight": "dora",
        ".lora_magnitude_vector.weight": "dora",
        ".lora_magnitude_vector": "dora",
        ".dora_scale": "dora",
        ".alpha": "alpha",
        ".scale": "scale",
    }
    | {
        f".{name}": name
        for name in (
            *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
            *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
            *("diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "oft_diag", "rescale", "on_input"),
        )
    }
    | {
        ".oft_R.weight": "oft_r",
        ".oft_R.default.weight": "oft_r",
        ".boft_R": "boft_r",
        ".boft_s": "boft_s",
        ".lora_B.bias": "bias",
        ".lora_up.bias": "bias",
        **{f".{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
    }
)
# XLabs' trainer has two pairs in one attention.
_XLABS = re.compile(r"(.+_lora[12])\.(down|up)\.weight$")


_UNET = re.compile(
    r"(down|up|mid)_blocks?[._]|(in|out)put_blocks[._]|middle_block[._]|"
    r"^(lora_unet_|unet\.)(conv_(in|out|norm_out)|time_embed|add_embed|class_embed|label_emb|out_\d)"
)


# Z-Image's blocks; language models have such names behind a level "model" only.
_REFINED = re.compile(
    r"(noise|context)_refiner[._]\d|layers[._]\d+[._](attention[._](to_(q|k|v|out)|qkv|out)|feed_forward[._]w[123]|adaLN_modulation)([._]|$)"
)


@dataclass(frozen=True)
class Module:
    """What a file holds for one layer of the base.

    Attributes:
        name: without the tensors' endings.
        part: attention, convolution, te1, te2, te3, transformer, language or other.
        block: where it is: "down 0", "mid", "te1 3"; "other" if that is not to be seen.
        kind: lora, loha, lokr, full, oft, boft, oftv2 (OneTrainer's and PEFT's), ia3 or glora.
        shapes: of its tensors, by what they are ("down", "up", "alpha", ...).
        dora, mid: whether it has a magnitude vector, a middle convolution.
        rank, alpha: None where the kind has none or the file does not say.
        scale: what the product of its factors is multiplied by.
        norm: the Frobenius norm of the change to the layer (for DoRA: before normalising); None if it cannot be had.
        fault: "", "incomplete" (a factor lacks) or "shapes" (they do not fit).
        down: how the file calls the first of two factors: "lora_down", "lora_A", "lora_A.default" and so on; empty where there is none.
    """

    name: str
    part: str
    block: str
    kind: str
    shapes: Mapping[str, tuple[int, ...]]
    dora: bool = False
    mid: bool = False
    rank: int | None = None
    alpha: float | None = None
    scale: float | None = None
    norm: float | None = None
    fault: str = ""
    down: str = ""


def grouped(names: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tensor names by module and by what they are; and the others. Bundled embeddings are neither."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    leftover = []
    names = sorted(names)
    scaled = {key.removesuffix(".on_input") for key in names if key.endswith(".on_input")}  # (IA)^3 calls its vector "weight"
    glora = {key.removesuffix(".a1.weight") for key in names if key.endswith(".a1.weight")}
    for key in names:
        other = _XLABS.match(key)
        if other and other[2] not in groups[other[1]]:
            groups[other[1]][other[2]] = key
            continue
        if key.removesuffix(".weight") in scaled:
            groups[key.removesuffix(".weight")]["ia3"] = key
            continue
        ending = next((e for e in _ENDINGS if key.endswith(e) and len(key) > len(e)), None)
        if ending and _ENDINGS[ending] in ("a2", "b1", "b2", "a1") and key[: -len(ending)] not in glora:
            ending = None
        if ending and _ENDINGS[ending] not in groups[key[: -len(ending)]]:
            groups[key[: -len(ending)]][_ENDINGS[ending]] = key
        elif not key.startswith("bundle_emb."):
            leftover.append(key)
    # An alpha or a scale alone makes no module: many other networks have tensors of that name.
    for name in [n for n, tensors in groups.items() if set(tensors) <= {"alpha", "scale", "bias"}]:
        leftover += groups.pop(name).values()
    return dict(groups), leftover


def naming_of(modules: Sequence[Module]) -> str:
    """That of most modules: kohya, diffusers, comfyui, peft, onetrainer, lycoris or bare (no prefix)."""
    return Counter(naming_of_name(m.name) for m in modules).most_common(1)[0][0]


def part_of(name: str) -> str:
    """attention, convolution, te1, te2, te3, transformer, language or other."""
    text = re.match(r"(?:base_model\.model\.)?(?:lora_te|text_encoder)_?([123]?)[._]", name)
    if text:
        return f"te{text[1] or 1}"
    if re.match(r"(?:text_encoders?[._])?clip_g[._]", name):
        return "te2"
    if "text_model.encoder." in name:
        return "te1"
    if _UNET.search(name):
        return "attention" if re.search(r"attn[12][._]|transformer_blocks|proj_(in|out)$", name) else "convolution"
    if re.search(r"(double|single|joint)_blocks|^transformer\.|^lora_transformer_|transformer_blocks", name) or _REFINED.match(
        split_prefix(name)[1]
    ):
        return "transformer"
    # LoRAs of video and other picture models name their layers as language models do.
    language = (
        r"(^|\.)(layers|h|blocks|lm_head|embed_tokens)(\.|$)" if name.startswith("base_model.") else r"^(model\.)?(layers|h)\.|lm_head"
    )
    return "language" if re.search(language, name) else "other"


def block_of(name: str) -> str:
    """Where a module is: "down 0", "mid", "te1 3", "layer 7", or "other"."""
    part = part_of(name)
    layer = re.search(r"(?:layers|resblocks)[._](\d{1,3})|(?:^|\.)(?:h|blocks|block)\.(\d{1,3})", name)
    if part.startswith("te") or part == "language":
        return f"{part if part != 'language' else 'layer'} {layer[1] or layer[2]}" if layer else "other"
    for pattern, word in ((r"down_blocks[._](\d{1,3})", "down"), (r"up_blocks[._](\d{1,3})", "up")):
        found = re.search(pattern, name)
        if found:
            return f"{word} {found[1]}"
    if re.search(r"mid_block|middle_block", name):
        return "mid"
    found = re.search(r"(in|out)put_blocks[._](\d{1,3})", name)
    if found and (found[1] == "out" or found[2] != "0"):
        return f"down {(int(found[2]) - 1) // 3}" if found[1] == "in" else f"up {int(found[2]) // 3}"
    found = re.search(r"(noise|context)_refiner[._](\d{1,3})", name)
    if found:
        return f"{found[1]} {found[2]}"
    if part == "transformer" and layer and layer[1]:
        return f"layer {layer[1]}"
    found = re.search(r"(double|single|joint)_(?:transformer_)?blocks[._](\d{1,3})|transformer_blocks[._](\d{1,3})", name)
    return (f"{found[1]} {found[2]}" if found[1] else f"block {found[3]}") if found else "other"
