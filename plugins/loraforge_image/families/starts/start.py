# SPDX-License-Identifier: Apache-2.0
"""``init_from_adapter``: a LoRA of any program, on the layers that this run trains. What does not fit is said, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Adapter, ConfigError, RunConfig, command, first_few, speaker

from ...lora_files.factors import Factors, Opened, open_lora
from ...lora_files.fusing import split
from ...lora_files.names import canonical, of_network, part_of_name
from ...records import ImageKeys
from ..image_base import ImageBase
from ..webui_format import WebuiFormat

if TYPE_CHECKING:
    import torch

say = speaker(__name__)


@dataclass
class Start:
    """What a run begins with.

    Attributes:
        given: the adapter on the run's own modules; those that it lacks begin fresh.
        ranks: all modules that are trained, with their ranks.
        lines: what somebody should know of it, as sentences.
    """

    given: Adapter
    ranks: dict[str, int]
    lines: list[str] = field(default_factory=list)


def open_start(config: RunConfig) -> Opened:
    """What ``init_from_adapter`` names, before there is a base.

    Raises:
        RunError: if it is no LoRA.
        ConfigError: if the run's variant goes on from nothing.
    """
    if config.lora_variant not in ("lora", "rslora"):
        raise ConfigError(say("init_from_adapter: continuing works with lora_variant lora and rslora only."))
    return open_lora(Path(str(config.init_from_adapter)))


def make_start(
    opened: Opened,
    config: RunConfig,
    keys: ImageKeys,
    base: ImageBase,
    targets: Mapping[str, int],
    webui: WebuiFormat | None,
    family: str,
) -> Start:
    """Puts a LoRA on ``base``, of which only the shapes of the layers are looked at.

    Args:
        targets: the modules that the run trains, with their ranks.
        webui: how the WebUIs call the layers of the family.
        family: the run's.

    Raises:
        ConfigError: if it does not fit the base or the config.
    """
    layers = layers_of(base)
    placed, left = place_factors(opened, layers, names_of(base, layers, targets, webui), targets)
    _refuse_others(opened, placed, left, base, family)
    ranks = {**targets, **{name: one.rank for name, one in placed.items()}}
    _refuse_ranks(config, keys, placed, layers)
    given = _adapter(config, placed)
    return Start(given, ranks, _lines(config, keys, opened, placed, left, targets))


# --- finding the layers ----------------------------------------------------------------------------------------------------------


def layers_of(base: ImageBase) -> dict[str, torch.nn.Module]:
    """Every layer that a LoRA could sit on, the text encoders' too, by its name in the pipeline."""
    import torch

    parts = {base.denoiser_name: base.denoiser, **base.text_encoders}
    return {
        f"{part}.{name}": module
        for part, whole in parts.items()
        for name, module in whole.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }


def names_of(
    base: ImageBase, layers: Mapping[str, torch.nn.Module], targets: Iterable[str], webui: WebuiFormat | None
) -> dict[str, tuple[str, ...]]:
    """Canonical name -> the layers behind it, in the order of their rows: more than one where the original model has one for several."""
    table: dict[str, tuple[str, ...]] = {of_network(name, base.denoiser_name): (name,) for name in layers}
    if webui is not None:
        chosen = set(targets).difference(webui.strange(targets))
        for original, parts in webui.layers(sorted(chosen)).items():
            table.setdefault(canonical(original), parts)
    return table


@dataclass(frozen=True)
class Left:
    """Modules of the file that this run has no use for, by why: other layers, text encoders that are not trained, layers that are not."""

    unknown: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)


def place_factors(
    opened: Opened, layers: Mapping[str, torch.nn.Module], table: Mapping[str, Sequence[str]], targets: Mapping[str, int]
) -> tuple[dict[str, Factors], Left]:
    """The factors of every module that is trained, and what is left of the file."""
    placed: dict[str, Factors] = {}
    left = Left()
    for one in opened.factors:
        parts = table.get(one.called, ())
        if not parts:
            # A text encoder is in memory only where the pipeline has it; what T5 brings for another model is no layer of this one.
            left.unknown.append(one.name)
            continue
        pieces = _pieces(one, [layers[part] for part in parts])
        if pieces is None:
            weight: Any = layers[parts[0]].weight
            left.misfits.append(f"{one.name} ({one.up.shape[0]} x {_inputs(one.down)}, {weight.shape[0]} x {weight[0].numel()})")
            continue
        for part, piece in zip(parts, pieces, strict=True):
            if part in targets:
                if piece is not None:
                    placed[part] = piece
            elif piece is not None:
                (left.text if part_of_name(one.called).startswith("te") else left.untrained).append(one.name)
    return placed, left


def _inputs(down: torch.Tensor) -> int:
    return int(down[0].numel())


def _pieces(one: Factors, modules: Sequence[torch.nn.Module]) -> list[Factors | None] | None:
    """The factors for each of the layers that one of the file's stands for, None for those that it leaves alone; nothing if the shapes are
    others."""
    weights: list[Any] = [module.weight for module in modules]
    if any(_inputs(one.down) != weight[0].numel() for weight in weights):
        return None
    try:
        pieces = split(one, [int(weight.shape[0]) for weight in weights])
    except ValueError:
        return None
    return [
        piece and replace(piece, down=piece.down.reshape(piece.rank, *weight.shape[1:]))
        for piece, weight in zip(pieces, weights, strict=True)
    ]


# --- refusing --------------------------------------------------------------------------------------------------------------------


def _refuse_others(opened: Opened, placed: Mapping[str, Factors], left: Left, base: ImageBase, family: str) -> None:
    """Raises:
    ConfigError: if the file belongs to another base.
    """
    if placed and not left.misfits:
        return
    found = opened.title if opened.family not in (family, "unknown") else ""
    about = say(" It is made for {title}.", title=found) if found else ""
    if left.misfits:
        raise ConfigError(
            say(
                "init_from_adapter: {path} was made for another base model: {n} of its layers have other widths than this base's (the "
                "file's, the base's): {names}.{about}",
                path=opened.path,
                n=len(left.misfits),
                names=first_few(left.misfits, 3),
                about=about,
            )
        )
    if left.text and not left.unknown and not left.untrained:
        raise ConfigError(
            say(
                "init_from_adapter: {path} changes text encoders only ({n} modules), and this run trains none. Set "
                "train_text_encoder: true.",
                path=opened.path,
                n=len(left.text),
            )
        )
    names = first_few([*left.untrained, *left.unknown, *left.text], 3)
    raise ConfigError(
        say(
            "init_from_adapter: none of the {n} modules of {path} is a layer that this run trains: {names}.{about}",
            n=len(opened.factors),
            path=opened.path,
            names=names,
            about=about,
        )
    )


def _refuse_ranks(config: RunConfig, keys: ImageKeys, placed: Mapping[str, Factors], layers: Mapping[str, Any]) -> None:
    """Raises:
    ConfigError: if the config asks for another rank than the file has.
    """
    wide = {name for name in placed if len(layers[name].weight.shape) == 4 and tuple(layers[name].weight.shape[2:]) != (1, 1)}
    problems = []
    for key, wanted, chosen in (
        ("lora_rank", config.lora_rank, [one for name, one in placed.items() if name not in wide]),
        ("conv_rank", keys.conv_rank, [placed[name] for name in sorted(wide)]),
    ):
        ranks = Counter(one.rank for one in chosen)
        if ranks and wanted not in ranks:
            theirs = ranks.most_common(1)[0][0]
            source = str(config.init_from_adapter)
            option = "--rank" if key == "lora_rank" else "--conv-rank"
            tool = command("loraforge", "lora", "resize", source, "resized.safetensors", option, str(wanted))
            problems.append(
                say(
                    "init_from_adapter: that adapter has rank {theirs}; this config says {key}: {ours}. Set {key}: {theirs}, leave {key} "
                    "out, or bring the file to that rank: {command}",
                    theirs=theirs,
                    ours=wanted,
                    key=key,
                    command=tool,
                )
            )
    if problems:
        raise ConfigError(problems)


# --- the adapter -----------------------------------------------------------------------------------------------------------------


def _adapter(config: RunConfig, placed: Mapping[str, Factors]) -> Adapter:
    """The factors as an adapter of the config's scale: what differs goes into B."""
    tensors: dict[str, Any] = {}
    for name, one in placed.items():
        factor = one.scale / (config.alpha / config.lora_rank)
        up = one.up if factor == 1 else one.up * factor
        down = one.down
        tensors[f"{name}.lora_A.weight"] = down
        tensors[f"{name}.lora_B.weight"] = up.reshape(*up.shape, *(1,) * (down.ndim - 2))
    ranks = {name: one.rank for name, one in placed.items() if one.rank != config.lora_rank}
    return Adapter(
        tensors=dict(sorted(tensors.items())),
        rank=config.lora_rank,
        alpha=config.alpha,
        targets=tuple(sorted(placed)),
        probes={},
        base_model=config.base_model,
        ranks=ranks,
    )


def _lines(
    config: RunConfig, keys: ImageKeys, opened: Opened, placed: Mapping[str, Factors], left: Left, targets: Mapping[str, int]
) -> list[str]:
    ranks = Counter(one.rank for one in placed.values())
    shown = ", ".join(f"{rank} x {n}" if len(ranks) > 1 else str(rank) for rank, n in ranks.most_common(6))
    lines = [
        say(
            "init_from_adapter: {n} of {all} modules of {name} are taken up (rank {ranks}); the first step does what the file does",
            n=len({one.name for one in placed.values()}),
            all=len(opened.factors),
            name=opened.path.name,
            ranks=shown,
        )
    ]
    text = list(dict.fromkeys(left.text))
    if text:
        lines.append(
            say(
                "init_from_adapter: {n} modules of text encoders are left out, because this run does not train them (train_text_encoder: "
                "true does); what it draws differs from the file by that: {names}",
                n=len(text),
                names=first_few(text, 3),
            )
        )
    untrained = list(dict.fromkeys(left.untrained))
    if untrained:
        hint = say("conv_rank or lora_target may include them") if hasattr(keys, "conv_rank") else ""
        lines.append(
            say(
                "init_from_adapter: {n} modules are left out, because this run does not train these layers ({hint}): {names}",
                n=len(untrained),
                hint=hint,
                names=first_few(untrained, 3),
            )
        )
    if left.unknown:
        lines.append(
            say(
                "init_from_adapter: {n} modules are left out, because this base has no such layers: {names}",
                n=len(left.unknown),
                names=first_few(left.unknown, 3),
            )
        )
    if opened.leftover:
        lines.append(
            say(
                "init_from_adapter: {n} tensors of the file belong to no LoRA module and are left out: {names}",
                n=len(opened.leftover),
                names=first_few(list(opened.leftover), 3),
            )
        )
    fresh = sorted(set(targets).difference(placed))
    if fresh:
        lines.append(
            say("init_from_adapter: {n} layers that the file leaves alone begin fresh: {names}", n=len(fresh), names=first_few(fresh, 3))
        )
    return lines
