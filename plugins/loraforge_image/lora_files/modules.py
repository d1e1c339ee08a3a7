"""The modules of a LoRA file: which of its tensors make one, which layers of which model they change."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
            *("diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "oft_diag", "on_input"),
        )
    }
    | {
        ".oft_R.weight": "oft_r",
        ".lora_B.bias": "bias",
        ".lora_up.bias": "bias",
        **{f".{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
    }
)
# XLabs' trainer has two pairs in one attention.
_XLABS = re.compile(r"(.+_lora[12])\.(down|up)\.weight$")


_INTO = re.compile(r"attn2[._](processor\.)?to_k$")
_UNET = re.compile(
    r"(down|up|mid)_blocks?[._]|(in|out)put_blocks[._]|middle_block[._]|"
    r"^(lora_unet_|unet\.)(conv_(in|out|norm_out)|time_embed|add_embed|class_embed|label_emb|out_\d)"
)


@dataclass(frozen=True)
class Module:
    """What a file holds for one layer of the base.

    Attributes:
        name: without the tensors' endings.
        part: attention, convolution, te1, te2, te3, transformer, language or other.
        block: where it is: "down 0", "mid", "te1 3"; "other" if that is not to be seen.
        kind: lora, loha, lokr, full, oft, oftv2 (OneTrainer's), ia3 or glora.
        shapes: of its tensors, by what they are ("down", "up", "alpha", ...).
        dora, mid: whether it has a magnitude vector, a middle convolution.
        rank, alpha: None where the kind has none or the file does not say.
        scale: what the product of its factors is multiplied by.
        norm: the Frobenius norm of the change to the layer (for DoRA: before normalising); None if it cannot be had.
        fault: "", "incomplete" (a factor lacks) or "shapes" (they do not fit).
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
    """kohya, diffusers, peft or bare (no prefix, or that of the original model)."""
    heads = Counter(
        "kohya" if m.name.startswith(("lora_unet_", "lora_te")) else
        "peft" if m.name.startswith("base_model.model.") else
        "diffusers" if m.name.startswith(("unet.", "text_encoder.", "text_encoder_", "transformer.")) else "bare"
        for m in modules
    )  # fmt: skip
    return heads.most_common(1)[0][0]


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
    if re.search(r"(double|single|joint)_blocks|^transformer\.|transformer_blocks", name):
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
    found = re.search(r"(double|single|joint)_(?:transformer_)?blocks[._](\d{1,3})|transformer_blocks[._](\d{1,3})", name)
    return (f"{found[1]} {found[2]}" if found[1] else f"block {found[3]}") if found else "other"


def claims_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """What each metadata key says about the family."""
    claims = {}
    rules = (
        ("ss_base_model_version", (("sdxl", "sdxl"), ("sd_v1", "sd15"), ("sd_v2", "sd2"), ("sd3", "sd3"), ("flux", "flux"))),
        (
            "modelspec.architecture",
            (
                *(("stable-diffusion-xl", "sdxl"), ("stable-diffusion-v1", "sd15"), ("stable-diffusion-v2", "sd2")),
                *(("stable-diffusion-3", "sd3"), ("flux", "flux")),
            ),
        ),
    )
    for key, starts in rules:
        for start, family in starts:
            if metadata.get(key, "").lower().startswith(start):
                claims[key] = family
                break
    if metadata.get("ss_v2") == "True":
        claims["ss_v2"] = "sd2"
    return claims


def family_of(modules: Sequence[Module], original: bool, claims: Mapping[str, str], naming: str) -> tuple[str, str, int | None]:
    """Family, evidence, width of the cross-attention."""
    names = [m.name for m in modules]
    parts = {m.part for m in modules}
    claimed = Counter(claims.values()).most_common(1)[0][0] if claims else None
    if "transformer" in parts:
        family = _transformer(modules)
        return (
            (family, "names", None) if family else (claimed, "metadata", None) if claimed in ("flux", "sd3") else ("unknown", "names", None)
        )
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


def _transformer(modules: Sequence[Module]) -> str | None:
    """flux or sd3; None for the many others that are built from the same blocks."""
    names = " ".join(m.name for m in modules)
    if re.search(r"img_mlp[._](fc|net)|img_mod[._](linear|1)", names):  # HunyuanVideo, Qwen-Image
        return None
    if re.search(r"double_blocks|single_blocks|single_transformer_blocks", names):
        return "flux"
    if (
        "ff_context" in names
        and _commonest(w for m in modules if m.name.endswith(("attn.to_q", "attn_to_q")) and (w := _inputs(m))) == 3072
    ):
        return "flux"  # the first blocks alone
    if "joint_blocks" in names:
        return "sd3"
    width = _commonest(m.shapes["down"][1] for m in modules if m.name.endswith("attn.to_q") and len(m.shapes.get("down", ())) > 1)
    return "sd3" if width in (1536, 2432) else None


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
