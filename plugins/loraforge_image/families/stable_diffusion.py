"""The model families sd15, sd2 and sdxl."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from loraforge import (
    Adapter,
    ConfigError,
    Examination,
    File,
    KeySet,
    MemoryEstimate,
    ModelError,
    ModelFamily,
    Record,
    RunConfig,
    Span,
    __version__,
    hash_file,
    speaker,
)

from ..records import EXPORTERS, ImageKeys
from .bases import EMBEDDED, TITLES, TYPICAL_RANGES, config_folder, identify, is_ours, locate, unet_config
from .kohya_names import unmatched
from .memory import estimate_memory
from .parts import Parts, check_family, load_parts

if TYPE_CHECKING:
    import torch

    from .diffusion import TrainableDiffusion

say = speaker(__name__)


class StableDiffusion(ModelFamily):
    """One family; the three differ in text encoders and names, and ``parts`` knows how."""

    task = "image"

    def matches(self, base_model: str) -> bool:
        return is_ours(base_model) and identify(base_model).family == self.name

    def describe_base(self, base_model: str) -> str:
        return identify(base_model).what if is_ours(base_model) else ""

    def typical_ranges(self, base_model: str) -> Mapping[str, tuple[float, float]]:
        return {"learning_rate": (5e-5, 5e-4), "lora_rank": (4, 64), **TYPICAL_RANGES.get(base_model, {})}

    def examine(self, config: RunConfig, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]]) -> Examination:
        from ..data.buckets import examine_pictures

        mine = keys[ImageKeys]
        base = identify(config.base_model, config.revision)
        check_family(config.base_model, base, self.name)
        problems = []
        if config.lora_variant == "pissa":
            problems.append(say("lora_variant: pissa does not work on convolutions; use lora, rslora or dora for pictures."))
        if not mine.train_unet and not mine.train_text_encoder:
            problems.append(say("train_unet and train_text_encoder are both off; nothing would be trained."))
        if mine.bucket_step % 8:
            problems.append(say("bucket_step: must be a multiple of 8; got {n}.", n=mine.bucket_step))
        if mine.resolution < mine.bucket_step:
            problems.append(say("resolution: must not be smaller than bucket_step ({n}).", n=mine.bucket_step))
        if not base.read and not mine.allow_pickle:
            problems.append(
                say(
                    "base_model {file} is a pickle, which may run code when it is read. Convert it to safetensors, or set "
                    "allow_pickle: true, which reads numbers only (weights_only).",
                    file=base.place,
                )
            )
        if base.place.is_file():
            try:
                config_folder(base.place, self.name, mine.base_config)
            except ModelError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        examination = examine_pictures(config, mine, rows)
        return dataclasses.replace(examination, lines=[*examination.lines, *self._left_out(config, mine)]) if rows else examination

    def _left_out(self, config: RunConfig, keys: ImageKeys) -> Sequence[str]:
        """A line for the convolutions that get no LoRA although ``conv_rank`` asks for one."""
        from .targets import strange_convolutions

        if not keys.conv_rank or not keys.train_unet:
            return ()
        names = strange_convolutions(unet_config(config.base_model, config.revision, self.name, keys.base_config), self.name)
        if not names:
            return ()
        return [
            say(
                "conv_rank leaves out {names}: {title} has no such layer, so no WebUI would read a LoRA on it",
                names=", ".join(names),
                title=TITLES[self.name],
            )
        ]

    def estimate_memory(self, config: RunConfig, keys: KeySet, facts: Mapping[str, Any], device: str) -> MemoryEstimate | None:
        return estimate_memory(config, keys[ImageKeys], self.name, facts, device)

    def base_files(self, config: RunConfig) -> Sequence[Path]:
        place = locate(config.base_model, config.revision, weights=True)
        if place.is_file():
            return [place]
        parts = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
        inside = [p for part in parts for p in (place / part).glob("*") if p.is_file() and p.suffix in (".json", ".txt", ".safetensors")]
        index = place / "model_index.json"
        return sorted([*inside, *([index] if index.is_file() else [])])

    def _parts(self, config: RunConfig, settings: Mapping[str, Any]) -> Parts:
        return load_parts(
            config.base_model,
            config.revision,
            config.precision,
            self.name,
            prediction=settings["prediction_type"],
            allow_pickle=settings["allow_pickle"],
            base_config=settings["base_config"],
        )

    def load(self, config: RunConfig, keys: KeySet, device: torch.device) -> TrainableDiffusion:
        from loraforge.adapters import lora

        from ..kernels import replace
        from .diffusion import TrainableDiffusion, make_network
        from .targets import lora_modules, readable

        mine = keys[ImageKeys]
        parts = self._parts(config, mine.model_dump())
        if config.gradient_checkpointing:
            parts.unet.enable_gradient_checkpointing()
            for encoder in parts.text_encoders if mine.train_text_encoder else []:
                encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        network = make_network(parts, mine.train_text_encoder).to(device)
        given = lora.read_peft(_adapter_folder(config.init_from_adapter)) if config.init_from_adapter else None
        modules = readable(lora_modules(network, config, mine), self.name)
        strange = unmatched(modules, self.name)
        if strange and "webui" in (config.export if config.export is not None else EXPORTERS):
            raise ConfigError(
                say(
                    "export: webui would be refused when all is trained: {base} has {n} modules that no WebUI knows ({names} ...). "
                    "Use export: [diffusers] or [merged].",
                    base=config.base_model,
                    n=len(strange),
                    names=", ".join(strange[:3]),
                )
            )
        rates = {"text_encoder": mine.text_encoder_lr} if mine.text_encoder_lr is not None else {}
        injected = lora.inject(network, config, given, modules=modules, rates=rates)
        replaced = replace(parts.unet) if config.kernels == "auto" else {}
        place = locate(config.base_model, config.revision)
        facts = {
            "prediction_type": parts.scheduler.config.prediction_type,
            "base_title": config.base_model if config.base_model in EMBEDDED else place.stem if place.is_file() else place.name,
            "base_sha256": hash_file(place) if place.is_file() else None,
            "image": {
                "resolution": mine.resolution,
                "clip_skip": mine.clip_skip,
                "prediction_type": parts.scheduler.config.prediction_type,
                "allow_pickle": mine.allow_pickle,
                "base_config": mine.base_config,
            },
        }
        trainable = TrainableDiffusion(parts, injected, config, mine, device, facts)
        trainable.replaced = {**injected.replaced, **replaced}
        return trainable

    def open(self, config: RunConfig, adapters: Mapping[str, Adapter], device: torch.device) -> DiffusionInferenceModel:
        from loraforge.adapters import lora

        from .diffusion import make_network

        known: Mapping[str, Any] = next((adapter.facts["image"] for adapter in adapters.values() if "image" in adapter.facts), {})
        settings = {"prediction_type": "auto", "allow_pickle": False, "base_config": None, "clip_skip": 1, "resolution": None, **known}
        parts = self._parts(config, settings)
        network = make_network(parts, True).to(device)
        lora.load_adapters(network, adapters)
        network.eval()
        return DiffusionInferenceModel(parts, network, device, settings, config.base_model)


def _adapter_folder(path: str) -> Path:
    folder = Path(path)
    return folder / "adapter" if (folder / "adapter" / "adapter_config.json").is_file() else folder


class SD15(StableDiffusion):
    """Stable Diffusion 1.x."""

    name: ClassVar[str] = "sd15"
    help = "Stable Diffusion 1.x: a diffusers folder, a hub id, a .safetensors checkpoint, or the embedded tiny-sd."


class SD2(StableDiffusion):
    """Stable Diffusion 2.x."""

    name: ClassVar[str] = "sd2"
    help = "Stable Diffusion 2.x, epsilon or v-prediction."


class SDXL(StableDiffusion):
    """Stable Diffusion XL."""

    name: ClassVar[str] = "sdxl"
    help = "Stable Diffusion XL, without its refiner."


def families() -> list[ModelFamily]:
    """All three."""
    return [SD15(), SD2(), SDXL()]


class DiffusionInferenceModel:
    """Draws prompts with the base, or with mounted adapters, several at once and each with its own strength."""

    def __init__(self, parts: Parts, network: Any, device: torch.device, settings: Mapping[str, Any], base_model: str) -> None:
        self._parts, self._network, self._device, self._settings = parts, network, device, settings
        self._title = base_model if base_model in EMBEDDED else Path(base_model).stem

    def generate(self, prompts: Sequence[str], adapter: str | Mapping[str, float] | None, **settings: Any) -> Sequence[File]:
        """One PNG per prompt, with its settings in the text that the WebUIs read.

        Args:
            settings: values of ``ImageSampling``; ``seed`` is the first prompt's, the next has the next.

        Raises:
            ConfigError: if a size cannot be drawn.
        """
        import torch

        from loraforge.adapters import lora

        from ..data.grids import png
        from ..records import ImageSampling
        from .drawing import draw
        from .parts import embed, token_ids, windows_of

        wanted = ImageSampling(**settings)
        size = self._size(wanted.size)
        lora.set_adapter(self._network, adapter)
        windows = windows_of(self._parts, [*prompts, wanted.negative])

        def states(texts: Sequence[str]) -> tuple[Any, Any]:
            ids = torch.stack([token_ids(self._parts, text, windows) for text in texts]).to(self._device)
            with torch.no_grad():
                return embed(self._parts.family, self._parts.text_encoders, ids, int(self._settings["clip_skip"]))

        seeds = [wanted.seed + number for number in range(len(prompts))]
        pictures = draw(
            self._parts,
            self._device,
            states(prompts),
            states([wanted.negative] * len(prompts)),
            seeds,
            size,
            steps=wanted.steps,
            cfg=wanted.cfg,
            sampler=wanted.sampler,
        )
        strengths = {adapter: 1.0} if isinstance(adapter, str) else dict(adapter or {})
        return [
            File(png(picture, self._parameters(prompt, strengths, wanted, seed, size)), ".png")
            for picture, prompt, seed in zip(pictures, prompts, seeds, strict=True)
        ]

    def _size(self, written: str | None) -> tuple[int, int]:
        """(width, height) of what was asked for, of what was trained, or of what the base is made for."""
        if written:
            sides = written.lower().replace("×", "x").split("x")
            if (
                len(sides) != 2
                or not all(side.strip().isdigit() for side in sides)
                or any(int(side) % 8 or not int(side) for side in sides)
            ):
                raise ConfigError(say("--size: write width x height in multiples of 8, like 512x768; got '{value}'.", value=written))
            return int(sides[0]), int(sides[1])
        side = int(self._settings["resolution"] or self._parts.unet.config.sample_size * 8) // 8 * 8
        return side, side

    def _parameters(self, prompt: str, strengths: Mapping[str, float], wanted: Any, seed: int, size: tuple[int, int]) -> str:
        """The settings as A1111 writes them."""
        from .drawing import SAMPLERS

        called = "".join(f" <lora:{name}:{strength:g}>" for name, strength in strengths.items())
        negative = f"\nNegative prompt: {wanted.negative}" if wanted.negative else ""
        skip = f", Clip skip: {self._settings['clip_skip']}" if int(self._settings["clip_skip"]) > 1 else ""
        sampler = SAMPLERS[wanted.sampler]
        return (
            f"{prompt}{called}{negative}\nSteps: {wanted.steps}, Sampler: {sampler}, CFG scale: {wanted.cfg:g}, Seed: {seed}, "
            f"Size: {size[0]}x{size[1]}, Model: {self._title}{skip}, Version: LoRAForge {__version__}"
        )
