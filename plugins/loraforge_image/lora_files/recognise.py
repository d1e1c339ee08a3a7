# SPDX-License-Identifier: Apache-2.0
"""For which base a LoRA file is made: by the shapes of its tensors, their names, or its metadata. Without torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .modules import Module
from .prefixes import split_prefix
from .tables import TABLES

_INTO = re.compile(r"attn2[._](processor\.)?to_k$")
# How metadata begin -> family, the longer before what they begin with.
_VERSIONS = (
    *(("sdxl", "sdxl"), ("sd_v1", "sd15"), ("sd_v2", "sd2"), ("sd3", "sd3"), ("chroma", "chroma"), ("flux2", "flux2"), ("flux.2", "flux2")),
    *(("flux", "flux1"), ("zimage", "z-image"), ("z-image", "z-image"), ("z_image", "z-image"), ("qwen-image", "qwen-image")),
    *(("qwen_image", "qwen-image"), ("qwenimage", "qwen-image")),
)
_ARCHITECTURES = (
    *(("stable-diffusion-xl", "sdxl"), ("stable-diffusion-v1", "sd15"), ("stable-diffusion-v2", "sd2"), ("stable-diffusion-3", "sd3")),
    *(
        ("stable-diffusion-v3", "sd3"),
        ("flux-2", "flux2"),
        ("flux.2", "flux2"),
        ("flux2", "flux2"),
        ("chroma", "chroma"),
        ("flux", "flux1"),
    ),
    *(("z-image", "z-image"), ("zimage", "z-image"), ("z_image", "z-image"), ("qwen-image", "qwen-image"), ("qwen_image", "qwen-image")),
)
# Signs of one family in the flat path of a module, the first that fits. Other models are built from the same blocks.
_SIGNS: tuple[tuple[str, str | None], ...] = (
    (r"(img|txt)_mlp_fc|(img|txt)_mod_linear|joint_transformer_blocks|token_refiner", None),  # HunyuanVideo, AuraFlow
    (r"^transformer_blocks_\d+_(img|txt)_(mlp_net|mod_1)", "qwen-image"),
    (r"^(noise_refiner|context_refiner|layers)_\d+_(attention_(to_(q|k|v|out)|qkv|out)|feed_forward_w[123]|adaLN_modulation_0)", "z-image"),
    (r"attn_to_qkv_mlp_proj|_ff(_context)?_linear_(in|out)|stream_modulation|time_guidance_embed", "flux2"),
    (r"^single_transformer_blocks_\d+_attn_to_out$", "flux2"),
    (r"distilled_guidance_layer", "chroma"),
    (r"(^|_)attn1_", None),  # LTX, PixArt, Sana, Cosmos
    (r"^joint_blocks_\d+_|^transformer_blocks_\d+_attn2_add_[qkv]_proj$", "sd3"),
)
# What the config of an adapter folder says of its base: its name, or the class in diffusers.
_BASES = (
    *((r"chroma", "chroma"), (r"flux\.?-?2", "flux2"), (r"flux", "flux1"), (r"z-?image", "z-image"), (r"qwen-?image", "qwen-image")),
    (r"stable-diffusion-3|sd3", "sd3"),
)
_DOUBLE = re.compile(r"^(double|single)_blocks_\d+_|^single_transformer_blocks_\d+_")
_SECOND = re.compile(r"^transformer_blocks_\d+_attn2_to_[qkv]$")
_SD3 = (1536, 2432)
_NUMBER = re.compile(r"^(double_blocks|transformer_blocks|single_blocks|single_transformer_blocks)_(\d+)_")
_LUMINA = 2304  # Lumina 2 has the names of Z-Image, whose width is 3840
_WIDE = (4096, 6144)  # FLUX.2 klein 9B and dev; klein 4B is as wide as FLUX.1


def claims_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """What each metadata key says about the family."""
    claims = {}
    for key, starts in (("ss_base_model_version", _VERSIONS), ("modelspec.architecture", _ARCHITECTURES)):
        found = next((family for start, family in starts if metadata.get(key, "").lower().startswith(start)), None)
        if found:
            claims[key] = found
    if metadata.get("ss_v2") == "True":
        claims["ss_v2"] = "sd2"
    return claims


def base_of(config: Mapping[str, Any]) -> str | None:
    """The family that an adapter's config names; None if it names none."""
    mapping = config.get("auto_mapping")
    told = [config.get("base_model_name_or_path"), mapping.get("base_model_class") if isinstance(mapping, dict) else None]
    text = " ".join(one for one in told if isinstance(one, str)).lower()
    return next((family for pattern, family in _BASES if re.search(pattern, text)), None)


def family_of(
    modules: Sequence[Module], original: bool, claims: Mapping[str, str], naming: str, base: str | None = None
) -> tuple[str, str, int | None]:
    """Family, evidence, width of the cross-attention.

    Args:
        base: see ``base_of``; it decides where the tensors fit several families of transformers.
    """
    names = [m.name for m in modules]
    parts = {m.part for m in modules}
    claimed = Counter(claims.values()).most_common(1)[0][0] if claims else None
    if "transformer" in parts:
        family, evidence = _transformer(modules, claimed or base)
        return family, evidence, None
    if parts <= {"language", "other"}:
        return "language" if "language" in parts or naming == "peft" else "unknown", "names", None
    width = _commonest(m.shapes["down"][1] for m in modules if _INTO.search(m.name) and len(m.shapes.get("down", ())) > 1)
    known = {768: "sd15", 1024: "sd2", 2048: "sdxl"}.get(width or 0)
    if known:
        return known, "shapes", width
    if "te2" in parts or any(re.search(r"transformer_blocks[._][1-9]", n) for n in names):
        return "sdxl", "names", width
    text = {m.shapes["down"][-1] for m in modules if m.part == "te1" and m.name.endswith("q_proj") and m.shapes.get("down")}
    if not width and not original and text & {768, 1024} and not any(n.startswith("lora_te1_") for n in names):
        return ("sd15" if 768 in text else "sd2"), "shapes", None
    if claimed:
        return claimed, "metadata", width
    return ("sdxl" if original and not any("blocks_1_1_" in n for n in names) else "sd15"), "names", width


def _transformer(modules: Sequence[Module], claimed: str | None) -> tuple[str, str]:
    """As ``_built``, but FLUX.1 and Chroma have 19 double and 38 single blocks: HunyuanVideo's, of the same width, are more."""
    family, evidence = _built(modules, claimed)
    if family in ("flux1", "chroma"):
        for module in modules:
            found = _NUMBER.match(split_prefix(module.name)[1].replace(".", "_"))
            if found and int(found[2]) > (37 if found[1].startswith("single") else 18):
                return "unknown", "names"
    return family, evidence


def _built(modules: Sequence[Module], claimed: str | None) -> tuple[str, str]:
    """The family of a transformer and what says so; unknown for the many others that are built from the same blocks."""
    paths = {re.sub(r"[._]processor(?=[._])", "", split_prefix(m.name)[1]).replace(".", "_"): m for m in modules}
    believed = claimed if claimed in TABLES else None
    for pattern, family in _SIGNS:
        found = [path for path in paths if re.search(pattern, path)]
        if found and family == "z-image" and _commonest(_inputs(paths[path]) for path in found) == _LUMINA:
            return "unknown", "shapes"
        if found:
            return (family, "names") if family else ("unknown", "names")
    second = [path for path in paths if _SECOND.search(path)]
    if second and (believed == "sd3" or any(re.search(r"_add_[qkv]_proj$", path) for path in paths)):
        return "sd3", "names"
    if second:
        return ("sd3", "shapes") if _commonest(_inputs(paths[path]) for path in second) in _SD3 else ("unknown", "shapes")
    if any(_DOUBLE.search(path) for path in paths):
        shaped = _flux_by_shape(paths)
        if shaped == "flux2":
            return "flux2", "shapes"
        return (
            ("chroma", "metadata")
            if believed == "chroma"
            else ("flux2", "metadata")
            if not shaped and believed == "flux2"
            else ("flux1", "names")
        )
    width = _commonest(w for path, m in paths.items() if path.endswith("attn_to_q") and (w := _inputs(m)))
    last = max((int(number[1]) for path in paths if (number := re.match(r"transformer_blocks_(\d+)_", path))), default=0)
    if width == 3072 and any("ff_context" in path for path in paths):  # the first blocks alone
        return (believed, "metadata") if believed == "chroma" else ("flux1", "names")
    if width == 3072 and last > 18 and any("add_q_proj" in path for path in paths):  # more blocks than FLUX has
        return "qwen-image", "names"
    if width in _SD3:
        return "sd3", "names"
    return (believed, "metadata") if believed else ("unknown", "names")


def _flux_by_shape(paths: Mapping[str, Module]) -> str:
    """flux1 (or Chroma, which is shaped alike) or flux2, by the ratio of the feed-forward parts to the rest; empty if open."""
    votes: Counter[str] = Counter()
    for path, module in paths.items():
        rows, inputs = _rows(module), _inputs(module)
        if not rows or not inputs or not path.startswith(("double_blocks", "single_blocks")):
            continue
        widened = {
            "mlp_0": (rows / inputs, 4, 6),
            "mlp_2": (inputs / rows, 4, 3),
            "linear1": (rows / inputs, 7, 9),
            "linear2": (inputs / rows, 5, 4),
        }
        for end, (ratio, first, second) in widened.items():
            if path.endswith(end) and ratio in (first, second):
                votes["flux1" if ratio == first else "flux2"] += 1
        if path.endswith("attn_qkv") and inputs in _WIDE:
            votes["flux2"] += 1
    return votes.most_common(1)[0][0] if votes else ""


def _rows(module: Module) -> int:
    """How many outputs the layer has; 0 if the shapes do not say."""
    last = module.shapes.get("up") or module.shapes.get("hada_w1_a")
    if last:
        return last[0]
    small, large = (module.shapes.get(f"lokr_{w}") or module.shapes.get(f"lokr_{w}_a") for w in ("w1", "w2"))
    return small[0] * large[0] if small and large else 0


def _inputs(module: Module) -> int:
    """How wide the layer's input is; 0 if the shapes do not say."""
    shapes = module.shapes
    last = shapes.get("down") or shapes.get("hada_w1_b")
    if last:
        return last[1] if len(last) > 1 else 0
    small, large = shapes.get("lokr_w1") or shapes.get("lokr_w1_b"), shapes.get("lokr_w2") or shapes.get("lokr_w2_b")
    return small[1] * large[1] if small and large and len(small) > 1 and len(large) > 1 else 0


def _commonest(widths: Iterable[int]) -> int | None:
    return next((width for width, _ in Counter(widths).most_common(1)), None)
