# SPDX-License-Identifier: Apache-2.0
"""``loraforge lora convert``: the same LoRA under the names that another program reads. What it does to every layer stays as it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ExportError, RunError, command, first_few, printable, speaker

from ..export import lycoris
from ..families.stable_diffusion.published import PUBLISHED
from ..lora_files.factors import Factors, Opened, locate_lora, open_lora
from ..lora_files.fusing import apart, join, turned
from ..lora_files.lora_file import LoraFile, read_json, read_lora, read_tensor
from ..lora_files.modules import grouped
from ..lora_files.names import canonical
from ..lora_files.prefixes import naming_of_name, place_of
from ..lora_files.tables import TABLES, TITLES
from ..lora_files.webui_format import Layer, WebuiTable
from .targets import of_text, of_transformer, of_unet

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

_LYCORIS = ("loha", "lokr", "full", "oft", "boft")


@dataclass(frozen=True)
class Pair:
    """Two factors under their new name.

    Attributes:
        factors: what it does.
        name: in the file, without the tensors' endings.
    """

    factors: Factors
    name: str


@dataclass(frozen=True)
class Converted:
    """What came out.

    Attributes:
        pairs: two factors each; empty where ``verbatim`` is not.
        verbatim: tensors that only changed their names, by their new ones.
        family: whose names they are.
        before: how many modules the file had; after: how many it has now.
        metadata: of the file it comes from.
        notes: what somebody should know of it.
        beside: tensors that are no module and travel with them.
    """

    pairs: Sequence[Pair]
    verbatim: Mapping[str, Tensor]
    family: str
    before: int
    after: int
    metadata: Mapping[str, str]
    source: Opened | None = None
    notes: Sequence[str] = field(default_factory=tuple)
    beside: Mapping[str, Tensor] = field(default_factory=dict)


def convert(path: Path, layout: str) -> Converted:
    """The LoRA at ``path`` in another layout.

    Args:
        layout: webui, diffusers or comfyui.

    Raises:
        RunError: if it is no LoRA, is damaged, or is for a base whose layers have no other names here.
        ExportError: if the layout has no way to say it.
    """
    place, _ = locate_lora(path)
    file = read_lora(place)
    _refuse(file, path)
    if any(module.kind != "lora" for module in file.modules):
        return _with_embeddings(_renamed(file, path, layout), file, layout)
    opened = open_lora(place)
    if opened.family not in TABLES and opened.family not in PUBLISHED:
        opened = replace(opened, family=file.family)
    if file.leftover:
        raise ExportError(_lost(path, file.leftover))
    pairs = (
        _transformer(opened, TABLES[opened.family], layout)
        if opened.family in TABLES
        else _one_for_one(opened, opened.factors, layout, of_unet)
    )
    made = Converted(pairs, {}, opened.family, len(opened.factors), len(pairs), opened.metadata, opened)
    return _with_embeddings(made, file, layout)


def _with_embeddings(made: Converted, file: LoraFile, layout: str) -> Converted:
    """With the embeddings that came with the LoRA, which the WebUIs look for in its file; other programs do not, and it is said."""
    if not file.bundled:
        return made
    if layout != "webui":
        text = say(
            "{n} tensors of embeddings that came with it are left out, since only WebUIs look for them in a LoRA file: {names}",
            n=len(file.bundled),
            names=first_few(file.bundled, 3),
        )
        return replace(made, notes=(*made.notes, text))
    import safetensors

    with safetensors.safe_open(str(file.path), framework="pt") as handle:
        found = {key: read_tensor(file.path, handle, key) for key in handle.keys() if key.startswith("bundle_emb.")}  # noqa: SIM118
    return replace(made, beside=found)


def _lost(path: Path, names: Sequence[str]) -> str:
    return say(
        "{path}: {n} tensors belong to no LoRA module and would be lost: {names}.",
        path=path,
        n=len(names),
        names=first_few([printable(name) for name in names], 3),
    )


def _refuse(file: LoraFile, path: Path) -> None:
    """Raises:
    RunError, ExportError: if it cannot be done for any of the file's modules.
    """
    if file.family not in TABLES and file.family not in PUBLISHED:
        known = ", ".join(["Stable Diffusion 1, 2, XL", *TITLES.values()])
        raise RunError(
            say(
                "{path}: for which base it is made was not recognised, so the other names of its layers are not known. Known are {known}.",
                path=path,
                known=known,
            )
        )
    if any(module.dora for module in file.modules):
        raise ExportError(
            say(
                "{path} is a DoRA. What such a file does differs between programs (14 to 86 % off where it was measured), so it is not "
                "converted. If you have the run that it comes from, write the whole model: {command}",
                path=path,
                command=command("loraforge", "export", "RUN", "--to", "merged"),
            )
        )


# --- pairs of factors ------------------------------------------------------------------------------------------------------------


def _transformer(opened: Opened, table: WebuiTable, layout: str) -> list[Pair]:
    """By diffusers' layers first; then by those of the original model, if the layout has its names."""
    found = apart(opened.factors, table)
    _named(opened.path, found.strange, found.twice)
    pairs = [Pair(one, of_transformer(found.layers[name], name, layout)) for name, one in found.parts.items()]
    if layout != "diffusers":
        pairs = _joined(opened.path, found.parts, found.layers, layout)
    return pairs + _one_for_one(opened, found.text, layout, of_text)


def _joined(path: Path, parts: Mapping[str, Factors], layers: Mapping[str, Layer], layout: str) -> list[Pair]:
    by_layer: dict[str, dict[int, Factors]] = {}
    whole: dict[str, Layer] = {}
    for name, one in parts.items():
        layer = layers[name]
        whole[layer.original] = layer
        by_layer.setdefault(layer.original, {})[layer.parts.index(name)] = one
    found, misfits = [], []
    for original, pairs in by_layer.items():
        layer = whole[original]
        try:
            made = join(layer, pairs) if len(layer.parts) > 1 else pairs[0]
        except ValueError:
            misfits.append(next(iter(pairs.values())))
            continue
        if layer.halves and made.up.shape[0] == 2 * made.down.shape[1]:
            made = turned(made)
        found.append(Pair(made, of_transformer(layer, layer.parts[0], layout)))
    _named(path, misfits, [])
    return found


def _one_for_one(opened: Opened, factors: Sequence[Factors], layout: str, called: Callable[[str, str, str], str]) -> list[Pair]:
    """Modules by their names in a layout, one for one.

    Args:
        called: ``called(name of the module, layout, family)``; a ValueError says that it has none.
    """
    found, strange = [], []
    for one in factors:
        try:
            found.append(Pair(one, called(one.called, layout, opened.family)))
        except ValueError:
            strange.append(one.name)
    _unnamed(opened.path, strange, layout)
    return found


def _named(path: Path, strange: Sequence[Factors], twice: Sequence[str]) -> None:
    """Raises:
    ExportError: if modules are no layers of the family, or are there under two names.
    """
    if strange:
        raise ExportError(
            say(
                "{path}: {n} modules are no layers of that model, or have other sizes: {names}.",
                path=path,
                n=len(strange),
                names=first_few([printable(one.name) for one in strange], 3),
            )
        )
    if twice:
        names = first_few([printable(name) for name in twice], 3)
        raise RunError(say("{path}: {n} layers are in it twice, under two names: {names}.", path=path, n=len(twice), names=names))


def _unnamed(path: Path, names: Sequence[str], layout: str) -> None:
    if names:
        shown = first_few([printable(name) for name in names], 3)
        raise ExportError(
            say("{path}: the layout {layout} has no names for {n} modules: {names}.", path=path, layout=layout, n=len(names), names=shown)
        )


# --- other kinds -----------------------------------------------------------------------------------------------------------------


def _renamed(file: LoraFile, path: Path, layout: str) -> Converted:
    """LoHa, LoKr and the like: their tensors stay, under other names. They cannot be put together or taken apart."""
    kinds = {module.kind for module in file.modules} - {"lora"}
    shown = ", ".join(sorted(kinds))
    if layout == "diffusers":
        raise ExportError(say("{path} holds {kinds}, which diffusers does not read. --to webui or comfyui.", path=path, kinds=shown))
    if not kinds <= set(_LYCORIS):
        shown = ", ".join(sorted(kinds.difference(_LYCORIS)))
        raise ExportError(say("{path} holds {kinds}, which no layout but its own can say.", path=path, kinds=shown))
    names = _names(file, layout)
    taken = Counter(names.values())
    _named(path, [], [name for name, new in names.items() if taken[new] > 1])
    tensors, metadata = _verbatim(file)
    made = {f"{names[module]}{ending}": tensor for (module, ending), tensor in tensors.items()}
    own = any(name.startswith("transformer.") for name in names.values())
    said = say(
        "the modules are parts of layers that the original model keeps as one, and {kinds} cannot be put together: they have diffusers' "
        "names, which ComfyUI reads as parts",
        kinds=shown,
    )
    return Converted((), made, file.family, len(names), len(names), metadata, None, (said,) if own else ())


def _names(file: LoraFile, layout: str) -> dict[str, str]:
    """The new name of every module."""
    if file.leftover:
        raise ExportError(_lost(file.path, file.leftover))
    t5 = 2 if file.family == "flux1" else 3
    if file.family not in TABLES:
        plain = [Factors(m.name, canonical(m.name, t5), *(None,) * 2, 1.0) for m in file.modules]  # type: ignore[arg-type]
        return {pair.factors.name: pair.name for pair in _one_for_one(Opened(file.path, plain, file.family), plain, layout, of_unet)}
    places = {m.name: place_of(m.name, TABLES[file.family]) for m in file.modules}
    parts = [name for name, place in places.items() if place and place.layer.part is not None]
    wholes = [name for name, place in places.items() if place and place.layer.part is None and len(place.layer.parts) > 1]
    halves = [name for name, place in places.items() if place and place.layer.halves]
    strange = [n for n, p in places.items() if p is None and not n.startswith(("lora_te", "text_encoder", "te"))]
    if (parts and wholes) or halves or strange:
        shown = first_few([printable(name) for name in (wholes if parts and wholes else halves or strange)], 3)
        raise ExportError(
            say("{path}: these modules cannot be said in another layout without their base: {names}.", path=file.path, names=shown)
        )
    found = {}
    for name, place in places.items():
        if place is None:
            found[name] = of_text(canonical(name, t5), layout, file.family)
        else:
            path = place.layer.parts[place.layer.part or 0]
            found[name] = of_transformer(place.layer, path, "diffusers" if parts else layout)
    return found


def _verbatim(file: LoraFile) -> tuple[dict[tuple[str, str], Any], Mapping[str, str]]:
    """The tensors by module and ending. An adapter folder has its scale elsewhere: it is brought into the tensors."""
    import safetensors

    if file.naming == "peft":
        from loraforge.adapters import lora

        adapter = lora.read_peft(file.path.parent)
        found: dict[tuple[str, str], Any] = {}
        prefix = re.match(r"base_model\.model\.", file.modules[0].name)
        for module in adapter.modules:
            for ending, value in lycoris.tensors(adapter, module, None).items():
                found[(prefix[0] if prefix else "") + module, f".{ending}"] = value
        words = ", ".join(adapter.facts.get("trigger_words", []))
        return found, {"modelspec.trigger_phrase": words} if words else {}
    with safetensors.safe_open(str(file.path), framework="pt") as handle:
        groups, _ = grouped(handle.keys())
        tensors = {(name, key[len(name) :]): read_tensor(file.path, handle, key) for name, keys in groups.items() for key in keys.values()}
    return tensors, file.metadata


def alike(files: Sequence[Opened]) -> list[Opened]:
    """Files of one family whose modules have the names of one layout throughout, so that they can be one: as they are where all have one,
    otherwise diffusers', or the WebUIs' where a T5 has a LoRA, which diffusers has no names for.

    Raises:
        RunError, ExportError: if a module has no name there, or is there twice.
    """
    family = files[0].family
    if family not in TABLES:
        return list(files)
    names = [one.name for opened in files for one in opened.factors]
    places = [place for name in names if (place := place_of(name, TABLES[family])) and not place.layer.same]
    one = len({naming_of_name(name) for name in names}) == 1 and len({place.original for place in places}) < 2
    if one and not any(opened.naming == "peft" for opened in files):
        return list(files)
    layout = "webui" if any(re.match(r"te\d_encoder_block", one.called) for opened in files for one in opened.factors) else "diffusers"
    t5 = 2 if family == "flux1" else 3
    made = []
    for opened in files:
        pairs = _transformer(opened, TABLES[family], layout)
        named = [replace(pair.factors, name=pair.name, called=canonical(pair.name, t5)) for pair in pairs]
        made.append(replace(opened, factors=named, naming="kohya" if layout == "webui" else "diffusers"))
    return made


def trigger_of(source: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata, with the trigger words of the card beside the file where they say none."""
    card = read_json(source.with_suffix(".json")).get("activation text", "") if source.is_file() else ""
    words = card.strip() if isinstance(card, str) else ""
    return {**({"modelspec.trigger_phrase": words} if words else {}), **metadata}
