# SPDX-License-Identifier: Apache-2.0
"""A LoRA file from anywhere, read without trusting it: its modules, their sizes and strengths, its family, its hashes."""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loraforge import RunError, open_file, read_text, require_file, speaker, why

from .modules import Module, block_of, grouped, naming_of, part_of
from .norms import measure
from .prefixes import place_of
from .recognise import base_of, claims_of, family_of
from .tables import TABLES

say = speaker(__name__)

_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_ZIPPED = b"PK\x03\x04"
_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
_SIGNS = set("*+?[](){}|\\^$")
Entry = tuple[str, tuple[int, ...]]
_TENSORS = 100_000  # more than the largest language models have; every one takes its time
_NOTES = 8
_DIRECTORY = 16_000_000  # bytes of a zip archive's list of names


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file, read.

    Attributes:
        path: the .safetensors itself, also if a folder was given.
        naming: kohya, diffusers, comfyui, peft, onetrainer, lycoris or bare, see ``prefixes``.
        original: whether modules of the denoiser have the original model's names (sgm's for a U-Net).
        config: the PEFT ``adapter_config.json``, or what diffusers stored in the header.
        dtypes: tensors by type.
        leftover: tensors that are no part of any module known here; bundled: those of embeddings that travel with it.
        nonfinite: tensors with infinities or NaN.
        quoted: whether the header begins with ``{"``, as A1111 wants it.
        family, evidence, width: sd15, sd2, sdxl, one of ``tables``, language or unknown; "shapes", "names" or "metadata"; the
            cross-attention's width (None if no such module is there).
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
    bundled: Sequence[str]
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
    file, config = _locate(path)
    try:
        header, metadata, quoted, offset = _header(file)
        groups, leftover = grouped(header)
        if not groups:
            raise RunError(_foreign(file, header))
        config = config or json_object(metadata.get("lora_adapter_metadata", ""))
        modules, nonfinite = _modules(file, groups, leftover, config)
        whole, body = _hashes(file, offset)
        size = file.stat().st_size
    except OSError as error:
        raise RunError(say("{path}: cannot be read: {error}.", path=file, error=error)) from None
    claims = claims_of(metadata)
    original = any(re.match(r"lora_unet_(input|output)_blocks_|lora_unet_middle_block_", m.name) for m in modules)
    naming = naming_of(modules)
    family, evidence, width = family_of(modules, original, claims, naming, base_of(config))
    if family in TABLES:
        places = {m.name: place_of(m.name, TABLES[family]) for m in modules}
        modules = [replace(m, part="transformer") if places[m.name] else m for m in modules]
        original = any(place.original for place in places.values() if place)
    return LoraFile(
        path=file,
        size=size,
        naming=naming,
        original=original,
        metadata=metadata,
        config=config,
        modules=modules,
        dtypes=Counter(kind for kind, _ in header.values()),
        parameters=sum(math.prod(shape) for _, shape in header.values()),
        leftover=leftover,
        bundled=[printable(name) for name in sorted(header) if name.startswith("bundle_emb.")],
        nonfinite=nonfinite,
        quoted=quoted,
        family=family,
        evidence=evidence,
        width=width,
        claims=claims,
        sha256=whole,
        body_sha256=body,
        notes=_unjudged(config),
    )


def read_json(file: Path) -> dict[str, Any]:
    """The object in a small JSON file that somebody else may have written; empty if there is none."""
    try:
        return json_object(read_text(file, 4_000_000, "utf-8-sig"))
    except (OSError, ValueError):
        return {}


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a stranger's text holds; empty if it holds none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _locate(path: Path) -> tuple[Path, dict[str, Any]]:
    config: dict[str, Any] = {}
    if path.is_dir():
        found = path / "adapter_model.safetensors"
        if not found.is_file():
            if (path / "adapter_model.bin").is_file():
                raise RunError(_pickle(path / "adapter_model.bin"))
            raise RunError(
                say(
                    "{path}: neither a run, nor an adapter folder (adapter_model.safetensors), nor a folder with one .safetensors file. "
                    "Name the .safetensors file itself.",
                    path=path,
                )
            )
        path = found
    if path.name == "adapter_model.safetensors" and (path.parent / "adapter_config.json").exists():
        config = read_json(path.parent / "adapter_config.json")
        if not config:
            raise RunError(
                say("{path}: not a JSON object; the adapter cannot be judged without it.", path=path.parent / "adapter_config.json")
            )
    if not path.exists():
        raise RunError(say("{path}: no such file.", path=path))
    try:
        require_file(path)
    except OSError:
        raise RunError(say("{path}: not a file.", path=path)) from None
    if path.suffix.lower() in _PICKLES:
        raise RunError(_pickle(path))
    return path, config


def _pickle(path: Path) -> str:
    return say(
        "{path}: a pickle (.pt, .ckpt, .bin). Such a file can run any code when it is opened, so it was not opened. "
        "Ask for the .safetensors version.",
        path=path,
    )


def _header(file: Path) -> tuple[dict[str, Entry], dict[str, str], bool, int]:
    """Type and shape by tensor, metadata, whether the JSON begins as A1111 wants it, where the tensors' bytes begin."""
    import safetensors

    size = file.stat().st_size
    if size == 0:
        raise RunError(say("{path}: the file is empty (0 bytes). Copy or download it again.", path=file))
    with open_file(file) as stream:
        start = stream.read(10)
    # The library judges the header first, so that nothing of a stranger's is parsed here. It wants one of at most 100 MB.
    try:
        with safetensors.safe_open(str(file), framework="pt") as handle:
            metadata = dict(handle.metadata() or {})
            count = len(handle.keys())
            if count > _TENSORS:
                raise ValueError(say("{n} tensors are more than any LoRA has", n=count))
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
            header = {name: (str(found.get_dtype()), tuple(found.get_shape())) for name, found in slices.items()}
    except Exception as error:  # the library has its own error class, and raises others too
        if _pickled(file):
            raise RunError(_pickle(file)) from None
        kind = _kind(file)
        if kind:
            raise RunError(say("{path}: {kind}, not a LoRA file. Name the .safetensors file itself.", path=file, kind=kind)) from None
        raise RunError(
            say(
                "{path}: not a .safetensors file, or damaged or cut short ({reason}). Copy or download it again.",
                path=file,
                reason=why(error),
            )
        ) from None
    return header, metadata, start[8:] == b'{"', 8 + int.from_bytes(start[:8], "little")


def _first(file: Path) -> bytes:
    with open_file(file) as stream:
        return stream.read(512)


def _members(file: Path) -> Sequence[str]:
    """The names in a zip archive; of a damaged one, none."""
    try:
        with open_file(file) as stream:
            stream.seek(max(0, file.stat().st_size - 70_000))
            tail = stream.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or int.from_bytes(tail[end + 12 : end + 16], "little") > _DIRECTORY:
            return ()
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, OverflowError, RuntimeError, ValueError, struct.error):
        return ()


def _pickled(file: Path) -> bool:
    """Whether a file is a pickle by its content: a bare one, or torch's zip archive around one. Nothing in it is run."""
    first = _first(file)
    if not first.startswith(_ZIPPED):
        return first.startswith(_PICKLED)
    return b"data.pkl" in first or any(name.rpartition("/")[2].endswith((".pkl", ".pickle")) for name in _members(file))


def _kind(file: Path) -> str:
    """What a file is that is clearly something else than a .safetensors file, by its content; empty if that cannot be told."""
    first = _first(file)
    if first.startswith(_ZIPPED):
        names = _members(file)
        if "[Content_Types].xml" in names:
            return say("an Office file (a workbook, a document or slides)")
        if any(name.endswith(".safetensors") for name in names):
            return say("a zip archive with a .safetensors in it, which must be unpacked first")
        return say("a zip archive")
    kinds = {
        b"\xd0\xcf\x11\xe0": say("an Office file (a workbook, a document or slides)"),
        b"%PDF": say("a PDF"),
        b"\x89PNG": say("a picture"),
        b"\xff\xd8\xff": say("a picture"),
        b"GIF8": say("a picture"),
        b"GGUF": say("a GGUF model"),
        b"Rar!": say("an archive"),
        b"7z\xbc\xaf": say("an archive"),
        b"\x1f\x8b": say("an archive"),
    }
    for sign, kind in kinds.items():
        if first.startswith(sign):
            return kind
    if first.startswith(b"RIFF") and first[8:12] == b"WEBP":
        return say("a picture")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(first).lstrip()  # the last letter may be cut in two
    except UnicodeDecodeError:
        return ""
    if text[:15].lower().startswith(("<!doctype html", "<html")):
        return say("a web page (the download may have asked for a login)")
    if text.startswith("version https://git-lfs"):
        return say("a Git LFS pointer that only stands for the file (git lfs pull fetches it)")
    return say("a text file") if text and all(sign.isprintable() or sign.isspace() for sign in text) else ""


def _foreign(file: Path, header: Mapping[str, Entry]) -> str:
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


def _modules(
    file: Path, groups: Mapping[str, Mapping[str, str]], leftover: Sequence[str], config: Mapping[str, Any]
) -> tuple[list[Module], list[str]]:
    """One module after another, so that no more than one is in memory."""
    import safetensors

    modules, nonfinite = [], []
    with safetensors.safe_open(str(file), framework="pt") as handle:
        for name, keys in groups.items():
            tensors = {what: read_tensor(file, handle, key) for what, key in keys.items()}
            bad = [keys[what] for what, tensor in tensors.items() if not _finite(tensor)]
            nonfinite += bad
            figures = measure(tensors, *stored_alpha(config, name))
            if bad:
                figures["norm"] = None
            shapes = {what: tuple(t.shape) for what, t in tensors.items()}
            down = keys.get("down", "").removeprefix(name).strip("._").removesuffix(".weight")
            modules.append(Module(name=name, part=part_of(name), block=block_of(name), shapes=shapes, down=down, **figures))
        nonfinite += [key for key in leftover if not _finite(read_tensor(file, handle, key))]
    return modules, sorted(nonfinite)


def read_tensor(file: Path, handle: Any, key: str) -> Any:
    """One tensor.

    Raises:
        RunError: if its numbers are of a type that torch cannot compute with (four or six bits).
    """
    try:
        tensor = handle.get_tensor(key)
        if tensor.is_complex():
            raise ValueError(say("complex numbers"))
        return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
    except Exception as error:  # as above
        reason = why(error)
        raise RunError(say("{path}: the tensor {name} cannot be read ({reason}).", path=file, name=printable(key), reason=reason)) from None


def _finite(tensor: Any) -> bool:
    import torch

    # What is not finite stays so in a sum, which takes a twentieth of the time that looking at each takes. In pieces, for the memory.
    pieces = tensor.flatten().split(1 << 24) if tensor.is_floating_point() else ()
    return all(math.isfinite(piece.sum(dtype=torch.float64)) for piece in pieces)


def stored_alpha(config: Mapping[str, Any], name: str) -> tuple[float | None, bool]:
    """What a PEFT config, or what diffusers stored per part, says of a module: its alpha (None if nothing), and whether alpha is divided
    by the rank's root."""
    path = name.removeprefix("base_model.model.")
    part, _, rest = path.partition(".")
    prefix = f"{part}." if f"{part}.lora_alpha" in config else ""
    alpha, patterns = config.get(f"{prefix}lora_alpha"), config.get(f"{prefix}alpha_pattern")
    words = (rest if prefix else path).split(".")
    if isinstance(patterns, dict):
        # The ends of the name are looked up: a stranger may have written as many patterns as there is room for.
        ends = {end for i in range(len(words)) if (end := ".".join(words[i:])) in patterns and not set(end) & _SIGNS}
        ends |= {whole for whole in ("^" + ".".join(words),) if whole in patterns}
        if ends:
            alpha = patterns[next(pattern for pattern in patterns if pattern in ends)]
    usable = isinstance(alpha, int | float) and abs(alpha) < 1e30
    return float(alpha) if usable and alpha is not None else None, config.get(f"{prefix}use_rslora") is True


def _unjudged(config: Mapping[str, Any]) -> list[str]:
    """A note for each of the first patterns that are expressions."""
    patterns = [pattern for key, found in config.items() if key.endswith("alpha_pattern") and isinstance(found, dict) for pattern in found]
    strange = list(dict.fromkeys(printable(pattern) for pattern in patterns if set(pattern.removeprefix("^")) & _SIGNS))
    return [say("alpha_pattern has an expression that is not judged here: {pattern}", pattern=pattern) for pattern in strange[:_NOTES]]


def _hashes(file: Path, offset: int) -> tuple[str, str]:
    """sha256 of the whole file, and of what follows ``offset``."""
    whole, body = hashlib.sha256(), hashlib.sha256()
    with open_file(file) as stream:
        whole.update(stream.read(offset))
        while chunk := stream.read(1 << 20):
            whole.update(chunk)
            body.update(chunk)
    return whole.hexdigest(), body.hexdigest()
