"""The modules of a LoRA file: which layers of which model they change, and how strongly."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Module:
    """What a file holds for one layer of the base.

    Attributes:
        name: without the tensors' endings.
        part: attention, convolution, te1, te2, te3, transformer, language or other.
        block: where it is: "down 0", "mid", "te1 3"; "other" if that is not to be seen.
        kind: lora, loha, lokr, full or oft.
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


def naming_of(modules: Sequence[Module]) -> str:
    """kohya, diffusers, peft or bare (no prefix, or that of the original model)."""
    heads = Counter(
        "kohya" if m.name.startswith(("lora_unet_", "lora_te")) else
        "peft" if m.name.startswith("base_model.model.") else
        "diffusers" if m.name.startswith(("unet.", "text_encoder", "transformer.")) else "bare"
        for m in modules
    )  # fmt: skip
    return heads.most_common(1)[0][0]


def part_of(name: str) -> str:
    """attention, convolution, te1, te2, te3, transformer, language or other."""
    text = re.match(r"(?:base_model\.model\.)?(?:lora_te|text_encoder)_?([123]?)[._]", name)
    if text:
        return f"te{text[1] or 1}"
    if "text_model.encoder." in name:
        return "te1"
    if re.search(r"(double|single|joint)_blocks|^transformer\.|single_transformer_blocks", name):
        return "transformer"
    if re.search(r"attn[12][._]|transformer_blocks|proj_(in|out)$", name):
        return "attention"
    if name.startswith(("lora_unet_", "unet.")) or re.search(r"(down|up|mid)_blocks?[._]|(in|out)put_blocks|middle_block", name):
        return "convolution"
    return "language" if re.search(r"(^|\.)(layers|h|blocks|lm_head|embed_tokens)(\.|$)", name) else "other"


def block_of(name: str) -> str:
    """Where a module is: "down 0", "mid", "te1 3", "layer 7", or "other"."""
    part = part_of(name)
    layer = re.search(r"(?:layers|resblocks)[._](\d+)|(?:^|\.)(?:h|blocks|block)\.(\d+)", name)
    if part.startswith("te") or part == "language":
        return f"{part if part != 'language' else 'layer'} {layer[1] or layer[2]}" if layer else "other"
    for pattern, word in ((r"down_blocks[._](\d+)", "down"), (r"up_blocks[._](\d+)", "up")):
        found = re.search(pattern, name)
        if found:
            return f"{word} {found[1]}"
    if re.search(r"mid_block|middle_block", name):
        return "mid"
    found = re.search(r"(in|out)put_blocks[._](\d+)", name)
    if found and (found[1] == "out" or found[2] != "0"):
        return f"down {(int(found[2]) - 1) // 3}" if found[1] == "in" else f"up {int(found[2]) // 3}"
    found = re.search(r"(double|single|joint)_(?:transformer_)?blocks[._](\d+)|transformer_blocks[._](\d+)", name)
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
    if any("double_blocks" in n or "single_blocks" in n or "single_transformer_blocks" in n for n in names):
        return "flux", "names", None
    if any("joint_blocks" in n for n in names) or any("transformer_blocks" in m.name for m in modules if m.part == "transformer"):
        return "sd3" if any("joint_blocks" in n for n in names) else next(iter(claims.values()), "sd3"), "names", None
    if modules and all(m.part in ("language", "other") for m in modules):
        return ("language", "names", None) if naming in ("peft", "bare") else ("unknown", "names", None)
    crossing = [
        m.shapes["down"][1] for m in modules if re.search(r"attn2[._](processor\.)?to_k$", m.name) and len(m.shapes.get("down", ())) > 1
    ]
    width = Counter(crossing).most_common(1)[0][0] if crossing else None
    known = {768: "sd15", 1024: "sd2", 2048: "sdxl"}.get(width or 0)
    if known:
        return known, "shapes", width
    large = any(m.part == "te2" for m in modules) or any(re.search(r"transformer_blocks[._][1-9]", n) for n in names)
    if large:
        return "sdxl", "names", width
    text = {m.shapes["down"][-1] for m in modules if m.part == "te1" and m.name.endswith("q_proj") and "down" in m.shapes}
    if not width and not original and text & {768, 1024} and not any(n.startswith("lora_te1_") for n in names):
        return ("sd15" if 768 in text else "sd2"), "shapes", None
    if claims:
        return Counter(claims.values()).most_common(1)[0][0], "metadata", width
    return ("sdxl" if original and not any("blocks_1_1_" in n for n in names) else "sd15"), "names", width


def measure(tensors: Mapping[str, Any], stored: float | None, rooted: bool) -> dict[str, Any]:
    """Kind, rank, alpha, scale and norm of one module.

    Args:
        tensors: by what they are ("down", "up", "alpha", ...).
        stored: the alpha that the adapter's config has for it.
        rooted: whether alpha is divided by the rank's root (PEFT's rsLoRA).

    Returns:
        Values for ``Module``. The norm is exact: ``||B A||^2`` is the sum of ``(B^T B) * (A A^T)``, without a matrix of the layer's size.
    """
    alpha = float(tensors["alpha"]) if "alpha" in tensors and tensors["alpha"].numel() == 1 else stored
    figures: dict[str, Any] = {
        "kind": _kind(tensors), "dora": "dora" in tensors, "mid": bool({"mid", "hada_t1", "lokr_t2"} & set(tensors)),
        "rank": None, "alpha": alpha, "scale": None, "norm": None, "fault": "",
    }  # fmt: skip
    if not _complete(tensors, figures["kind"]):
        return {**figures, "fault": "incomplete"}
    rank = _rank(tensors, figures["kind"])
    # Where nothing was factored there is no rank to divide by.
    scale = 1.0 if alpha is None or rank is None else alpha / max(math.sqrt(rank) if rooted else rank, 1)
    if "scale" in tensors and tensors["scale"].numel() == 1:
        scale = float(tensors["scale"])
    figures.update(rank=rank, scale=scale if math.isfinite(scale) else None)
    try:
        size = _size({name: t.double() for name, t in tensors.items()}, figures["kind"])
    except (RuntimeError, IndexError, ValueError):  # shapes that do not belong together
        return {**figures, "fault": "shapes"}
    norm = abs(scale) * size if size is not None else None
    return {**figures, "norm": norm if norm is not None and math.isfinite(norm) else None}


def _kind(tensors: Mapping[str, Any]) -> str:
    if any(t.startswith("hada_") for t in tensors):
        return "loha"
    if any(t.startswith("lokr_") for t in tensors):
        return "lokr"
    if any(t.startswith("oft_") for t in tensors):
        return "oft"
    return "full" if set(tensors) & {"diff", "diff_b", "w_norm", "b_norm"} else "lora"


def _complete(tensors: Mapping[str, Any], kind: str) -> bool:
    has = set(tensors)
    if kind == "lora":
        return {"down", "up"} <= has
    if kind == "loha":
        return {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= has
    if kind == "lokr":
        return all({f"lokr_{w}"} <= has or {f"lokr_{w}_a", f"lokr_{w}_b"} <= has for w in ("w1", "w2"))
    return True


def _rank(tensors: Mapping[str, Any], kind: str) -> int | None:
    """The number that alpha is divided by; None where nothing is factored."""
    carrier = {"lora": ("down",), "loha": ("hada_w1_b",), "lokr": ("lokr_w1_b", "lokr_w2_b")}.get(kind, ())
    found = next((tensors[name] for name in carrier if name in tensors), None)
    return int(found.shape[0]) if found is not None and found.dim() else None


def _size(tensors: Mapping[str, Any], kind: str) -> float | None:
    """The Frobenius norm before scaling; None for kinds whose change depends on the base."""
    if kind == "lora" and "mid" in tensors:
        up, mid, down = tensors["up"].flatten(1), tensors["mid"].flatten(2), tensors["down"].flatten(1)
        # Sum over the kernel's places of ||U M D||^2 = tr(M^T (U^T U) M (D D^T)).
        return _root(_einsum("npk,nm,mqk,pq->", mid, up.T @ up, mid, down @ down.T))
    if kind == "lora":
        return _product(tensors["up"].flatten(1), tensors["down"].flatten(1))
    if kind == "loha":
        return _hadamard(tensors)
    if kind == "lokr":  # the norm of a Kronecker product is the product of the norms
        return _factor(tensors, "w1") * _factor(tensors, "w2")
    if kind == "full":
        return math.sqrt(sum(float(tensors[n].square().sum()) for n in ("diff", "diff_b", "w_norm", "b_norm") if n in tensors))
    return None


def _root(square: Any) -> float:
    return math.sqrt(max(float(square), 0.0))


def _einsum(equation: str, *operands: Any) -> Any:
    import torch

    return torch.einsum(equation, *operands)


def _product(up: Any, down: Any) -> float:
    """``||up @ down||`` for [out, r] and [r, in], by whichever way makes the smaller matrices."""
    if up.shape[1] != down.shape[0]:
        raise ValueError
    if up.shape[1] ** 2 > up.shape[0] * down.shape[1]:
        return float((up @ down).norm())
    return _root(((up.T @ up) * (down @ down.T)).sum())


def _hadamard(tensors: Mapping[str, Any]) -> float:
    """LoHa: the norm of ``(w1_a w1_b) * (w2_a w2_b)``, in bands of rows."""
    a1, b1, a2, b2 = (tensors[f"hada_{name}"] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    if "hada_t1" in tensors and "hada_t2" in tensors:
        whole = [_einsum("ijkl,jr,ip->prkl", tensors[f"hada_t{n}"], b, a) for n, a, b in ((1, a1, b1), (2, a2, b2))]
        return float((whole[0] * whole[1]).norm())
    b1, b2 = b1.flatten(1), b2.flatten(1)
    if a1.shape[1] != b1.shape[0] or a2.shape[1] != b2.shape[0] or a1.shape[0] != a2.shape[0] or b1.shape[1] != b2.shape[1]:
        raise ValueError
    band = max(1, 4_000_000 // max(1, b1.shape[1]))
    return _root(sum(float(((a1[i : i + band] @ b1) * (a2[i : i + band] @ b2)).square().sum()) for i in range(0, a1.shape[0], band)))


def _factor(tensors: Mapping[str, Any], name: str) -> float:
    """The norm of one factor of a LoKr, which may itself be factored."""
    if f"lokr_{name}" in tensors:
        return float(tensors[f"lokr_{name}"].norm())
    a, b = tensors[f"lokr_{name}_a"], tensors[f"lokr_{name}_b"]
    if name == "w2" and "lokr_t2" in tensors:
        return float(_einsum("ijkl,jr,ip->prkl", tensors["lokr_t2"], b, a).norm())
    return _product(a.flatten(1), b.flatten(1))
