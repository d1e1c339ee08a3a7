"""A LoRA file from anywhere, read without trusting it: its modules, their sizes and strengths, its family, its hashes."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import RunError, speaker

from .loramodules import Module, block_of, claims_of, family_of, measure, naming_of, part_of

say = speaker(__name__)

# The bound of the safetensors library itself.
_LONGEST_HEADER = 100_000_000
_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
# What follows a module's name -> what it is. The longest endings come first, since some end others.
_ENDINGS = {
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
} | {
    f".{name}": name
    for name in (
        *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
        *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
        *("diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "oft_diag"),
    )
}
_SIGNS = set("*+?[](){}|\\^$")


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file, read.

    Attributes:
        path: the .safetensors itself, also if a folder was given.
        naming: kohya, diffusers, peft or bare.
        original: whether U-Net modules have the original (sgm) names.
        config: the PEFT ``adapter_config.json``, or what diffusers stored in the header.
        dtypes: tensors by type.
        leftover: tensors that are no part of any module known here.
        nonfinite: tensors with infinities or NaN.
        quoted: whether the header begins with ``{"``, as A1111 wants it.
        family, evidence, width: sd15, sd2, sdxl, sd3, flux, language or unknown; "shapes", "names" or "metadata"; the cross-attention's
            width (None if no such module is there).
        claims: family by metadata key.
        sha256, body_sha256: of the file, of the bytes after its header.
    """

    path: Path
    size: int
    naming: str
    original: bool
    metadata: Mapping[str, str]
    config: Mapping[str, Any]
    modules: Sequence[Module]
    dtypes: Mapping[str, int]
    parameters: int
    leftover: Sequence[str]
    nonfinite: Sequence[str]
    quoted: bool
    family: str
    evidence: str
    width: int | None
    claims: Mapping[str, str]
    sha256: str
    body_sha256: str
    notes: Sequence[str]


def read_lora(path: Path) -> LoraFile:
    """Reads a LoRA file or an adapter folder.

    Raises:
        RunError: if there is none, or it is damaged, or not a LoRA, or a pickle.
    """
    notes: list[str] = []
    file, config = _locate(path)
    try:
        header, metadata, quoted, length = _header(file)
        groups, leftover = _grouped(header)
        if not groups:
            raise RunError(_foreign(file, header))
        config = config or _stored_config(metadata)
        modules, nonfinite = _modules(file, groups, leftover, config, notes)
        whole, body = _hashes(file, 8 + length)
        size = file.stat().st_size
    except OSError as error:
        raise RunError(say("{path}: cannot be read: {error}.", path=file, error=error.strerror or type(error).__name__)) from None
    claims = claims_of(metadata)
    original = any(re.match(r"lora_unet_(input|output)_blocks_|lora_unet_middle_block_", m.name) for m in modules)
    family, evidence, width = family_of(modules, original, claims, naming_of(modules))
    return LoraFile(
        path=file,
        size=size,
        naming=naming_of(modules),
        original=original,
        metadata=metadata,
        config=config,
        modules=modules,
        dtypes=Counter(str(entry["dtype"]) for entry in header.values()),
        parameters=sum(math.prod(entry["shape"]) for entry in header.values()),
        leftover=leftover,
        nonfinite=nonfinite,
        quoted=quoted,
        family=family,
        evidence=evidence,
        width=width,
        claims=claims,
        sha256=whole,
        body_sha256=body,
        notes=notes,
    )


def read_json(file: Path) -> dict[str, Any]:
    """The object in a small JSON file that somebody else may have written; empty if there is none."""
    try:
        if not file.is_file() or file.stat().st_size > 4_000_000:
            return {}
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _locate(path: Path) -> tuple[Path, dict[str, Any]]:
    config: dict[str, Any] = {}
    if path.is_dir():
        found = path / "adapter_model.safetensors"
        if not found.is_file():
            if (path / "adapter_model.bin").is_file():
                raise RunError(_pickle(path / "adapter_model.bin"))
            raise RunError(say("{path}: this folder holds no adapter_model.safetensors. Name the .safetensors file itself.", path=path))
        path = found
    if path.name == "adapter_model.safetensors" and (path.parent / "adapter_config.json").exists():
        config = read_json(path.parent / "adapter_config.json")
        if not config:
            raise RunError(
                say("{path}: not a JSON object; the adapter cannot be judged without it.", path=path.parent / "adapter_config.json")
            )
    if not path.exists():
        raise RunError(say("{path}: no such file.", path=path))
    if not path.is_file():
        raise RunError(say("{path}: not a file.", path=path))
    if path.suffix.lower() in _PICKLES:
        raise RunError(_pickle(path))
    return path, config


def _pickle(path: Path) -> str:
    return say(
        "{path}: a pickle (.pt, .ckpt, .bin). Such a file can run any code when it is opened, so it was not opened. "
        "Ask for the .safetensors version.",
        path=path,
    )


def _header(file: Path) -> tuple[dict[str, Any], dict[str, str], bool, int]:
    """Entries by tensor, metadata, whether the JSON begins as A1111 wants it, the header's length in bytes."""
    import safetensors

    size = file.stat().st_size
    if size == 0:
        raise RunError(say("{path}: the file is empty (0 bytes). Copy or download it again.", path=file))
    with file.open("rb") as stream:
        start = stream.read(8)
        if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) and not _plausible(start, size):
            raise RunError(_pickle(file))
        if not _plausible(start, size):
            raise RunError(say("{path}: not a .safetensors file, or a damaged one: its header does not fit into it.", path=file))
        length = struct.unpack("<Q", start)[0]
        raw = stream.read(length)
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RunError(say("{path}: not a .safetensors file, or a damaged one: its header is not JSON.", path=file)) from None
    try:
        with safetensors.safe_open(str(file), framework="pt") as handle:
            names = set(handle.keys())
    except Exception as error:  # the library has its own error class, and raises others too
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise RunError(
            say("{path}: damaged or cut short ({reason}). Copy or download it again.", path=file, reason=printable(reason))
        ) from None
    given = header.pop("__metadata__", None)
    metadata = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
    return {name: header[name] for name in header if name in names}, metadata, raw.startswith(b'{"'), length


def _plausible(start: bytes, size: int) -> bool:
    return len(start) == 8 and 2 <= struct.unpack("<Q", start)[0] <= min(_LONGEST_HEADER, size - 8)


def _grouped(header: Mapping[str, Any]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tensor names by module and by what they are; and the others. Bundled embeddings are neither."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    leftover = []
    for key in sorted(header):
        ending = next((e for e in _ENDINGS if key.endswith(e) and len(key) > len(e)), None)
        if ending:
            groups[key[: -len(ending)]][_ENDINGS[ending]] = key
        elif not key.startswith("bundle_emb."):
            leftover.append(key)
    # An alpha or a scale alone makes no module: many other networks have tensors of that name.
    for name in [n for n, tensors in groups.items() if set(tensors) <= {"alpha", "scale"}]:
        leftover += groups.pop(name).values()
    return dict(groups), leftover


def _foreign(file: Path, header: Mapping[str, Any]) -> str:
    if any(k.startswith(("model.diffusion_model.", "model.embed_tokens.", "model.layers.", "first_stage_model.")) for k in header):
        return say("{path}: a whole model, not a LoRA ({n} tensors).", path=file, n=len(header))
    if set(header) & {"emb_params", "clip_g", "clip_l"}:
        return say("{path}: a textual-inversion embedding, not a LoRA.", path=file)
    first = printable(next(iter(header), ""))
    return say("{path}: holds no LoRA: {n} tensors, the first is '{first}'.", path=file, n=len(header), first=first)


def printable(text: str, longest: int = 200) -> str:
    """Text of a stranger on one line, without anything that a terminal would obey."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _stored_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _modules(
    file: Path, groups: Mapping[str, Mapping[str, str]], leftover: Sequence[str], config: Mapping[str, Any], notes: list[str]
) -> tuple[list[Module], list[str]]:
    """One module after another, so that no more than one is in memory."""
    import safetensors

    modules, nonfinite = [], []
    with safetensors.safe_open(str(file), framework="pt") as handle:
        for name, keys in groups.items():
            tensors = {what: handle.get_tensor(key) for what, key in keys.items()}
            bad = [keys[what] for what, tensor in tensors.items() if not _finite(tensor)]
            nonfinite += bad
            figures = measure(tensors, stored_alpha(config, name, notes), bool(config.get("use_rslora")))
            if bad:
                figures["norm"] = None
            shapes = {what: tuple(t.shape) for what, t in tensors.items()}
            modules.append(Module(name=name, part=part_of(name), block=block_of(name), shapes=shapes, **figures))
        nonfinite += [key for key in leftover if not _finite(handle.get_tensor(key))]
    return modules, sorted(nonfinite)


def _finite(tensor: Any) -> bool:
    import torch

    # The small float types have no test of their own.
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())


def stored_alpha(config: Mapping[str, Any], name: str, notes: list[str]) -> float | None:
    """The alpha that a PEFT config has for a module, or what diffusers stored per part; None if there is none."""
    path = name.removeprefix("base_model.model.")
    part, _, rest = path.partition(".")
    prefix = f"{part}." if f"{part}.lora_alpha" in config else ""
    patterns = config.get(f"{prefix}alpha_pattern") or {}
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if set(pattern) & _SIGNS:
            note = say("alpha_pattern has an expression that is not judged here: {pattern}", pattern=printable(pattern))
            notes += [] if note in notes else [note]
        elif f".{rest if prefix else path}".endswith(f".{pattern}") and isinstance(value, int | float):
            return float(value)
    value = config.get(f"{prefix}lora_alpha")
    return float(value) if isinstance(value, int | float) else None


def _hashes(file: Path, offset: int) -> tuple[str, str]:
    """sha256 of the whole file, and of what follows ``offset``."""
    whole, body = hashlib.sha256(), hashlib.sha256()
    with file.open("rb") as stream:
        whole.update(stream.read(offset))
        while chunk := stream.read(1 << 20):
            whole.update(chunk)
            body.update(chunk)
    return whole.hexdigest(), body.hexdigest()
