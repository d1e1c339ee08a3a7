# SPDX-License-Identifier: Apache-2.0
"""Writes a LoRA file: the WebUIs' layout where the family has one, metadata that say where it comes from, whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ExportError, RunError, __version__, hash_file, speaker, usual_rights

from ..export.webui_metadata import serialise
from ..families.stable_diffusion.kohya_names import of_canonical
from ..families.stable_diffusion.published import PUBLISHED
from ..lora_files.factors import Factors, Opened
from ..lora_files.tables import TABLES
from .rounding import Rounding, shaped

if TYPE_CHECKING:
    from .convert import Converted

say = speaker(__name__)

PRECISIONS = ("fp16", "bf16", "fp32")
_STORED = {"F16": "fp16", "BF16": "bf16"}
# What a file says of its own tensors: hashes, and the scales that diffusers keeps in the header, which are in the new tensors.
_FORMER = ("sshs_model_hash", "sshs_legacy_hash", "lora_adapter_metadata", "modelspec.hash_sha256")


def may_write(out: Path) -> None:
    """Raises:
    ExportError: if something is there already, or no file can be there.
    """
    if os.path.lexists(out):
        raise ExportError(say("{path} exists already; nothing is replaced. Name another file.", path=out))
    if out.suffix.lower() != ".safetensors":
        raise ExportError(say("{path}: a LoRA file is called NAME.safetensors.", path=out))
    if not out.absolute().parent.is_dir():
        raise ExportError(say("{path}: there is no such folder.", path=out.absolute().parent))


def precision_of(files: Sequence[Opened]) -> str:
    """The precision that files came in: sixteen bits if all numbers have them, otherwise fp32."""
    kinds = {_STORED.get(kind, "fp32") for file in files for kind in file.dtypes}
    return kinds.pop() if len(kinds) == 1 else "fp32"


def family_of(files: Sequence[Opened]) -> str:
    """The one family of several files; "unknown" if none tells it.

    Raises:
        RunError: if they are of several.
    """
    known = {file.family: file for file in files if file.family != "unknown"}
    if len(known) > 1:
        shown = ", ".join(f"{file.path.name} ({file.title or family})" for family, file in known.items())
        raise RunError(say("these files belong to different base models, and cannot be one: {files}", files=shown))
    return next(iter(known), "unknown")


def write_lora(
    out: Path, factors: Sequence[Factors], family: str, precision: str, made: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> float:
    """Writes ``factors`` into ``out``, aside first.

    Args:
        family: whose layout is written; of an unknown one the modules keep their names.
        made: what it was made from, by which command; plain JSON values.
        metadata: of the file it comes from, if it is one.

    Returns:
        The share of the whole change that rounding to ``precision`` took away (Frobenius norm).

    Raises:
        ExportError: if it cannot be written, or a number does not fit into the precision.
    """
    import torch

    kind = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    alpha = float(max(one.rank for one in factors))  # one for all: some readers take the first for every module
    kohya = family in PUBLISHED or all(one.name.startswith("lora_") for one in factors)
    tensors: dict[str, Any] = {}
    rounding = Rounding(kind)
    for one in factors:
        up = one.up.double() * (one.scale * (one.rank / alpha if kohya else 1.0))
        name = file_name(one, family)
        down, up = rounding.stored(*shaped(name, one.down, up, family if kohya else ""))
        ends = ("lora_down.weight", "lora_up.weight") if kohya else ("lora_A.weight", "lora_B.weight")
        tensors |= {f"{name}.{ends[0]}": down, f"{name}.{ends[1]}": up}
        if kohya:
            tensors[f"{name}.alpha"] = torch.tensor(alpha, dtype=torch.float32)
    _finite(tensors, precision)
    share = rounding.share(precision)
    _place(out, serialise(tensors, _metadata(out, factors, family, alpha, made, metadata or {})))
    return share


def write_layout(out: Path, made: Converted, layout: str, precision: str, told: Mapping[str, Any], metadata: Mapping[str, str]) -> float:
    """Writes a converted file, aside first.

    Args:
        told: how it was made; plain JSON values.
        metadata: of the file it comes from.

    Returns:
        The largest share of a factor that rounding to ``precision`` took away (Frobenius norm); 0 if nothing was rounded.

    Raises:
        ExportError: if it cannot be written, or a number does not fit into the precision.
    """
    import torch

    if made.verbatim:
        tensors = {name: torch.as_tensor(tensor).contiguous() for name, tensor in [*made.verbatim.items(), *made.beside.items()]}
        kept = {key: value for key, value in metadata.items() if key not in _FORMER}
        values = {"ss_network_module": "lycoris.kohya", **kept, **_about(out, told), **_header(made.family, kept)}
        _place(out, serialise(tensors, values))
        return 0.0
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    tensors = dict(made.beside)
    rounding = Rounding(kind)
    alphas = {one.factors.scale * one.factors.rank for one in made.pairs}
    # diffusers loads attention of a U-Net with the commonest alpha; in a transformer every module has its own.
    common = float(max(one.factors.rank for one in made.pairs)) if made.family in PUBLISHED and len(alphas) > 1 else None
    for pair in made.pairs:
        one = pair.factors
        alpha = one.scale * one.rank if common is None else common
        up = one.up.double() * (one.scale if layout != "webui" else one.scale * one.rank / alpha if common is not None else 1.0)
        ends = ("lora_down.weight", "lora_up.weight") if layout == "webui" else ("lora_A.weight", "lora_B.weight")
        both = rounding.stored(*shaped(pair.name, one.down, up, made.family if layout == "webui" else ""))
        tensors |= {f"{pair.name}.{end}": stored for end, stored in zip(ends, both, strict=True)}
        if layout == "webui":
            tensors[f"{pair.name}.alpha"] = torch.tensor(alpha, dtype=torch.float32)
    _finite(tensors, precision)
    rounding.share(precision)
    factors = [pair.factors for pair in made.pairs]
    shown = common if common is not None else alphas.pop() if len(alphas) == 1 else None
    values = _metadata(out, factors, made.family, shown if layout == "webui" else None, told, metadata)
    _place(out, serialise(tensors, values))
    return rounding.largest


def _finite(tensors: Mapping[str, Any], precision: str) -> None:
    """Raises:
    ExportError: if a number does not fit into the precision.
    """
    import torch

    wrong = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise ExportError(
            say(
                "{n} tensors do not fit into {precision}, the first is {name}. Use --precision fp32.",
                n=len(wrong),
                precision=precision,
                name=wrong[0],
            )
        )


def file_name(one: Factors, family: str) -> str:
    """What a module is called in the file."""
    if family not in PUBLISHED:
        return one.name
    try:
        return of_canonical(one.called, family)
    except ValueError:
        return one.name


def _metadata(
    out: Path, factors: Sequence[Factors], family: str, alpha: float | None, made: Mapping[str, Any], before: Mapping[str, str]
) -> dict[str, str]:
    kept = {key: value for key, value in before.items() if key not in _FORMER}
    ranks = Counter(one.rank for one in factors if one.down.ndim == 2 or tuple(one.down.shape[2:]) == (1, 1))
    wide = Counter(one.rank for one in factors if one.down.ndim == 4 and tuple(one.down.shape[2:]) != (1, 1))
    usual = (ranks or wide).most_common(1)[0][0]
    said = "Dynamic" if alpha is None else f"{alpha:g}"
    values = {
        **kept,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(usual) if len(ranks) < 2 else "Dynamic",
        "ss_network_alpha": said,
        "ss_network_args": json.dumps({"conv_dim": str(wide.most_common(1)[0][0]), "conv_alpha": said}) if wide else "{}",
        **_about(out, made),
    }
    return {**values, **_header(family, kept, values)}


def _about(out: Path, made: Mapping[str, Any]) -> dict[str, str]:
    return {
        "ss_output_name": out.stem,
        "ss_training_comment": f"LoRAForge {__version__}: {made['command']}",
        "modelspec.title": out.stem,
        "loraforge_made": json.dumps(made, ensure_ascii=False),
    }


def _header(family: str, kept: Mapping[str, str], values: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the header says of the family, where the source said nothing."""
    values = dict(values or kept)
    if family in TABLES and "modelspec.architecture" not in kept:
        told = {key: value for key, value in TABLES[family].header("flow").items() if value}
        return {**{key: value for key, value in told.items() if key not in kept}, "modelspec.sai_model_spec": "1.0.1"}
    if family in PUBLISHED and "modelspec.architecture" not in kept:
        published = PUBLISHED[family]
        return {
            "ss_base_model_version": values.get("ss_base_model_version", published.versions[0]),
            "ss_v2": values.get("ss_v2", str(published.v2)),
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": published.architectures[0],
            "modelspec.implementation": published.implementation,
        }
    return {}


def source(path: Path, **more: Any) -> dict[str, Any]:
    """What is kept of a file that another was made from: its name and its SHA-256, no place on this computer."""
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    return {"name": path.name, **({"sha256": hash_file(file)} if file.is_file() else {}), **more}


def _place(out: Path, data: bytes) -> None:
    """Writes aside and renames; what is there already stays.

    Raises:
        ExportError: if it cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=out.absolute().parent, prefix=f".{out.name}.", delete=False) as aside:
            partial = Path(aside.name)
            try:
                aside.write(data)
                aside.flush()
                os.fsync(aside.fileno())
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        try:
            usual_rights(partial)
            may_write(out)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(say("cannot write to {path}: {error}.", path=out, error=error)) from None
