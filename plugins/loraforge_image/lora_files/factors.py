# SPDX-License-Identifier: Apache-2.0
"""What every module of a LoRA does to its layer, as two factors and a scale: from a file of any program, or from an adapter folder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import RunError, first_few, speaker

from .lora_file import LoraFile, printable, read_lora, read_tensor
from .modules import Module, grouped
from .names import canonical
from .tables import FAMILIES, TITLES

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_TITLES = {"sd15": "Stable Diffusion 1", "sd2": "Stable Diffusion 2", "sdxl": "Stable Diffusion XL", **TITLES}


@dataclass(frozen=True)
class Factors:
    """One module: ``scale * up @ down``.

    Attributes:
        name: as it is called where it was read.
        called: its canonical name, see ``names``.
        down: float32 (rank, in), or (rank, in, height, width) of a convolution.
        up: float32 (out, rank).
        alpha: what the file says; None if it says nothing.
    """

    name: str
    called: str
    down: Tensor
    up: Tensor
    scale: float
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    def delta(self) -> Tensor:
        """The change of the layer's weight, float64: (out, in), or (out, in, height, width)."""
        dense = self.scale * self.up.double() @ self.down.double().flatten(1)
        return dense.reshape(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True)
class Opened:
    """A LoRA from anywhere, in memory.

    Attributes:
        path: the file or folder.
        factors: in the order of their names.
        family: what ``inspect`` takes it for; unknown for an adapter folder.
        metadata: of the file's header.
        naming: see ``LoraFile``.
        dtypes: factors by type, as safetensors calls it: F16, BF16, F32 for all others.
        leftover: tensors that belong to no module.
    """

    path: Path
    factors: Sequence[Factors]
    family: str = "unknown"
    metadata: Mapping[str, str] = field(default_factory=dict)
    naming: str = "peft"
    dtypes: Mapping[str, int] = field(default_factory=dict)
    leftover: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The family for people; nothing if it is not known."""
        return say("a language model") if self.family == "language" else _TITLES.get(self.family, "")


def locate_lora(path: Path) -> tuple[Path, bool]:
    """The file or adapter folder that ``path`` means, and whether it is an adapter folder: of a run its adapter, of a folder with one
    .safetensors that file, of PEFT's weights their folder.

    Raises:
        RunError: if it means none.
    """
    for folder in (path / "adapter", path):
        if (folder / CONFIG).is_file():
            return folder, True
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix == ".safetensors" and file.is_file())
        if len(found) == 1:
            return found[0], False
        if found:
            raise RunError(
                say(
                    "{path} holds several .safetensors files: {names}. Name one of them.",
                    path=path,
                    names=first_few([f.name for f in found]),
                )
            )
        raise RunError(
            say(
                "{path} is no LoRA: it is a folder without an adapter (adapter_config.json), and without a .safetensors file. Name a run, "
                "an adapter folder, or a LoRA file.",
                path=path,
            )
        )
    if path.name == WEIGHTS and (path.parent / CONFIG).is_file():
        return path.parent, True
    return path, False


def open_lora(path: Path) -> Opened:
    """Everything that ``path`` does to its base, exactly.

    Raises:
        RunError: if it is no LoRA, is damaged, or is of a kind that is no product of two factors.
    """
    place, folder = locate_lora(path)
    return _of_folder(place) if folder else _of_file(read_lora(place))


def _of_folder(folder: Path) -> Opened:
    from loraforge.adapters import lora

    adapter = lora.read_peft(folder)
    if adapter.kind != "lora":
        raise RunError(_other_kinds(folder, adapter.kind))
    if adapter.dora:
        raise RunError(_no_dora(folder))
    if adapter.kind != "lora":
        raise RunError(
            say(
                "{path} is no plain LoRA: it holds {kinds}. Only LoRA and LoCon (LoRA on convolutions) can be taken up.",
                path=folder,
                kinds=f"{adapter.kind} x {len(adapter.modules)}",
            )
        )
    _nonempty(folder, {name: [adapter.tensors[f"{name}.lora_{end}.weight"].shape for end in "AB"] for name in adapter.modules})
    endless = [printable(name) for name, tensor in adapter.tensors.items() if not bool(tensor.isfinite().all())]
    if endless:
        raise RunError(say("{path}: {n} tensors hold NaN or infinity: {names}.", path=folder, n=len(endless), names=first_few(endless, 3)))
    factors = []
    for module in adapter.modules:
        down, up = adapter.tensors[f"{module}.lora_A.weight"], adapter.tensors[f"{module}.lora_B.weight"]
        if up.ndim == 4 and up.shape[2:] != (1, 1):
            raise RunError(say("{path}: the factors of {name} have shapes that are not known here.", path=folder, name=module))
        factors.append(Factors(module, canonical(module), down, up.flatten(1), adapter.alpha / adapter.rank))
    family = str(adapter.facts.get("family") or "unknown")
    # PEFT's own folders say nothing: the shapes and names do.
    family = read_lora(folder).family if family == "unknown" else FAMILIES.get(family, family)
    words = ", ".join(adapter.facts.get("trigger_words", []))
    return Opened(folder, factors, family, {"modelspec.trigger_phrase": words} if words else {}, "peft", {"F32": len(adapter.tensors)})


def _of_file(file: LoraFile) -> Opened:
    _refuse(file)
    # ComfyUI calls T5 by what it is; its number among the text encoders depends on the model.
    t5 = 2 if file.family == "flux1" else 3
    modules = {module.name: module for module in file.modules}
    found = _tensors(file)
    factors = [_factors(file.path, modules[name], tensors, canonical(name, t5)) for name, tensors in found]
    # A scale of another precision does not make the factors more precise.
    numbers = {"torch.float16": "F16", "torch.bfloat16": "BF16"}
    kinds = Counter(
        numbers.get(str(tensor.dtype), "F32") for _, tensors in found for what, tensor in tensors.items() if what not in ("alpha", "scale")
    )
    twice = [name for name, n in Counter(f.called for f in factors).items() if n > 1]
    if twice:
        raise RunError(
            say("{path}: {n} layers are in it twice, under two names: {names}.", path=file.path, n=len(twice), names=first_few(twice, 3))
        )
    return Opened(file.path, factors, file.family, file.metadata, file.naming, kinds, [*file.leftover, *file.bundled])


def _refuse(file: LoraFile) -> None:
    """Raises:
    RunError: if the file cannot be taken as pairs of factors.
    """
    kinds = Counter(m.kind for m in file.modules if m.kind != "lora")
    if kinds:
        shown = ", ".join(f"{kind} x {n}" for kind, n in kinds.items())
        raise RunError(_other_kinds(file.path, shown))
    beside = [m.name for m in file.modules if set(m.shapes) & {"diff", "diff_b", "w_norm", "b_norm", "bias"}]
    if beside:
        raise RunError(
            say(
                "{path}: {n} modules change a bias or a norm beside the pair, which no LoRA here can hold: {names}.",
                path=file.path,
                n=len(beside),
                names=first_few([printable(name) for name in beside], 3),
            )
        )
    if any(m.dora for m in file.modules):
        raise RunError(_no_dora(file.path))
    faulty = [m.name for m in file.modules if m.fault]
    if faulty:
        names = first_few([printable(name) for name in faulty], 3)
        raise RunError(
            say(
                "{path}: {n} modules lack a factor, or their shapes do not fit together: {names}.",
                path=file.path,
                n=len(faulty),
                names=names,
            )
        )
    _nonempty(file.path, {m.name: [m.shapes[what] for what in ("down", "up", "mid") if what in m.shapes] for m in file.modules})
    endless = [*file.nonfinite, *(m.name for m in file.modules if m.scale is None)]
    if endless:
        names = first_few([printable(name) for name in endless], 3)
        raise RunError(say("{path}: {n} tensors hold NaN or infinity: {names}.", path=file.path, n=len(endless), names=names))
    if file.notes and any("alpha" not in m.shapes for m in file.modules):
        raise RunError(
            say(
                "{path}: its header gives alphas by expressions that are not judged here, so its strength is not known. Convert it with "
                "diffusers, or ask for a file with an alpha for every module. {notes}",
                path=file.path,
                notes="; ".join(file.notes),
            )
        )
    if file.naming == "peft" and all(m.alpha is None for m in file.modules):
        raise RunError(
            say(
                "{path}: its names are PEFT's, whose scale stands in adapter_config.json; without that its strength is not known. Put the "
                "adapter_config.json of the same adapter beside it, and call the file adapter_model.safetensors.",
                path=file.path,
            )
        )


def _nonempty(path: Path, shapes: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Raises:
    RunError: if a factor has no numbers.
    """
    empty = [printable(name) for name, factors in shapes.items() if any(0 in shape for shape in factors)]
    if empty:
        raise RunError(
            say("{path}: the factors of {n} modules hold no numbers (rank 0): {names}.", path=path, n=len(empty), names=first_few(empty, 3))
        )


def _other_kinds(path: Path, kinds: str) -> str:
    return say(
        "{path} is no plain LoRA: it holds {kinds}. Only LoRA and LoCon (LoRA on convolutions) can be taken up.", path=path, kinds=kinds
    )


def _no_dora(path: Path) -> str:
    return say("{path} is a DoRA: what it does depends on its base, and programs disagree about it. Only LoRA can be taken up.", path=path)


def _tensors(file: LoraFile) -> list[tuple[str, dict[str, Any]]]:
    """Every module with its tensors by what they are."""
    import safetensors

    with safetensors.safe_open(str(file.path), framework="pt") as handle:
        groups, _ = grouped(handle.keys())
        return [(name, {what: read_tensor(file.path, handle, key) for what, key in keys.items()}) for name, keys in groups.items()]


def _factors(path: Path, module: Module, tensors: Mapping[str, Any], called: str) -> Factors:
    import torch

    down, up = tensors["down"].float(), tensors["up"].float()
    if "mid" in tensors:  # Tucker: up (out, p), mid (p, q, h, w), down (q, in) are the same as up and one (p, in, h, w)
        mid = tensors["mid"].float()
        down = torch.einsum("pqhw,qi->pihw", mid.double(), down.flatten(1).double()).float()
    if down.ndim not in (2, 4) or up.ndim not in (2, 4) or (up.ndim == 4 and up.shape[2:] != (1, 1)) or up.shape[1] != down.shape[0]:
        raise RunError(say("{path}: the factors of {name} have shapes that are not known here.", path=path, name=printable(module.name)))
    scale = module.scale if module.scale is not None else 1.0
    return Factors(module.name, called, down.contiguous(), up.flatten(1).contiguous(), float(scale), module.alpha)


def peek_ranks(path: Path) -> dict[str, tuple[int, bool]]:
    """The rank of every module by canonical name, and whether it is a convolution wider than one pixel: from the header alone, without
    torch. Empty if it cannot be read, which ``open_lora`` says."""
    import safetensors

    try:
        place, folder = locate_lora(path)
        file = place / WEIGHTS if folder else place
        with safetensors.safe_open(str(file), framework="np") as handle:
            groups, _ = grouped(handle.keys())
            found = {}
            for name, keys in groups.items():
                if "down" in keys:
                    shape = tuple(handle.get_slice(keys["down"]).get_shape())
                    found[canonical(name)] = (int(shape[0]), "mid" in keys or (len(shape) == 4 and tuple(shape[2:]) != (1, 1)))
            return found
    except Exception:  # safetensors raises several kinds of its own
        return {}


def balanced(down: Any, up: Any) -> tuple[Any, Any]:
    """Both factors times and over one power of two, which changes no digit of their product: float16 loses digits below 2^-14, where a
    factor that was hardly trained lies."""
    large, small = float(down.abs().max()), float(up.abs().max())
    if not large or not small or small >= 2**-7:
        return down, up
    factor = 2.0 ** round(math.log2(large / small) / 2)
    return down / factor, up * factor


def scaled(factors: Factors, strength: float) -> Factors:
    """The same at another strength."""
    return replace(factors, scale=factors.scale * strength)
