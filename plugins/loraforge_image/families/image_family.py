# SPDX-License-Identifier: Apache-2.0
"""What every family of image models shares: what is checked before anything is loaded, loading with a LoRA, opening for drawing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from loraforge import (
    Adapter,
    ConfigError,
    Examination,
    KeySet,
    ModelError,
    ModelFamily,
    Record,
    RunConfig,
    Span,
    apply_block_ranks,
    first_few,
    hash_file,
    speaker,
)

from ..records import EXPORTERS, ImageKeys
from ..sample_prompts import remarks
from .base_files import WEIGHTS, is_ours, locate, missing_parts, old_hash, other_pipeline, pipeline_files, pipeline_name, title
from .fitting import storing
from .image_base import ImageBase
from .infotext import called, stem_of
from .objectives import FlowMatching, Objective
from .webui_format import WebuiFormat

if TYPE_CHECKING:
    import torch

    from ..lora_files.factors import Opened
    from .inference import ImageInferenceModel
    from .starts.start import Start
    from .trainable import TrainableImages

say = speaker(__name__)

# Keys that say something of a schedule of alphas, which a flow has not.
_OF_NOISE = (
    "prediction_type",
    "zero_terminal_snr",
    "noise_offset",
    "multires_noise_iterations",
    "multires_noise_discount",
    "min_snr_gamma",
    "debiased_estimation",
)


class ImageFamily(ModelFamily):
    """One kind of image model. A family of its own sets ``name``, ``help``, ``pipeline`` and ``base``; the rest has defaults.

    Attributes:
        pipeline: the class in diffusers that the folders of its bases name in ``model_index.json``.
        base: the loaded base, behind the seam.
        objective: what its bases predict: ``FlowMatching``, or noise or velocity with ``Diffusion``.
        multiple: the sides of pictures are multiples of so many pixels.
        webui: how the WebUIs call its layers; None: they have no format for it.
    """

    task = "image"
    adapter_files = True
    pipeline: ClassVar[str] = ""
    base: ClassVar[type[ImageBase]]
    objective: ClassVar[type[Objective]] = FlowMatching
    multiple: ClassVar[int] = 16
    webui: ClassVar[WebuiFormat | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "exporters" not in vars(cls):
            cls.exporters = () if cls.webui is not None else ("diffusers",)

    def __init__(self) -> None:
        missing = [name for name in ("name", "help", "pipeline", "base") if not getattr(self, name, None)]
        if missing:
            raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")

    @property
    def _flow(self) -> bool:
        return issubclass(self.objective, FlowMatching)

    def meaningless(self) -> Mapping[str, str]:
        """The keys that change nothing for such bases, each with the reason; a config that sets one is refused. By default those of U-Nets
        with CLIP, and for a flow those of noise and velocity."""
        unet, clip = say("it belongs to U-Nets"), say("it belongs to bases whose only text encoder is CLIP")
        flow, files = say("it belongs to bases that predict noise or velocity"), say("such bases are folders of safetensors")
        return {
            "conv_rank": unet,
            **dict.fromkeys(("train_text_encoder", "text_encoder_lr", "clip_skip", "max_caption_tokens"), clip),
            **dict.fromkeys(_OF_NOISE if self._flow else (), flow),
            **dict.fromkeys(("allow_pickle", "base_config"), files),
            "assistant_adapter": say("it belongs to distilled bases such as Z-Image-Turbo"),
        }

    def settings(self, keys: ImageKeys) -> dict[str, Any]:
        """What is kept of the keys with an adapter, because drawing and exporting load the base with the same: plain JSON values."""
        kept = {"resolution": keys.resolution, "prediction_type": keys.prediction_type, "zero_terminal_snr": keys.zero_terminal_snr}
        return {**kept, **storing.kept(keys)}

    def load_base(self, config: RunConfig, settings: Mapping[str, Any]) -> ImageBase:
        """The base on the CPU.

        Args:
            settings: ``ImageKeys`` by name in training; what ``settings`` kept when an adapter is opened.

        Raises:
            ModelError: if it cannot be loaded.
        """
        from .loading import load_pipeline, type_of

        dtype = type_of(config.precision)
        return self.base(load_pipeline(config.base_model, config.revision, self.pipeline, dtype), dtype, settings)

    # --- before anything is loaded -----------------------------------------------------------------------------------------------

    def matches(self, base_model: str) -> bool:
        return is_ours(base_model) and pipeline_name(base_model) == self.pipeline

    def describe_base(self, base_model: str) -> str:
        found = pipeline_name(base_model) if is_ours(base_model) else ""
        if not found:
            return ""
        return say("{family} takes folders of a {wanted}; this is one of a {found}", family=self.name, wanted=self.pipeline, found=found)

    def typical_ranges(self, base_model: str) -> Mapping[str, tuple[float, float]]:
        return {"learning_rate": (5e-5, 5e-4), "lora_rank": (4, 64)}

    def base_files(self, config: RunConfig) -> Sequence[Path]:
        return pipeline_files(locate(config.base_model, config.revision, WEIGHTS))

    def problems(self, config: RunConfig, keys: ImageKeys) -> list[str]:
        """What is wrong with a config, besides what holds for every family."""
        if other := other_pipeline(config.base_model, config.revision, self.name, self.pipeline):
            return [other]
        gone = missing_parts(locate(config.base_model, config.revision))
        return [say("base_model {folder} lacks {names}.", folder=config.base_model, names=", ".join(gone))] if gone else []

    def examine(self, config: RunConfig, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]]) -> Examination:
        from ..data.buckets import examine_pictures

        mine = keys[ImageKeys]
        problems = self.problems(config, mine)
        for key, reason in self.meaningless().items():
            if getattr(mine, key) != ImageKeys.model_fields[key].default:
                problems.append(say("{key} means nothing for {family}: {reason}. Leave it out.", key=key, family=self.name, reason=reason))
        problems += [*self._level_problems(mine), *_muon_problems(config, mine)]
        if config.lora_variant == "pissa":
            problems.append(say("lora_variant: pissa does not work on convolutions; use lora, rslora, dora, lokr or loha for pictures."))
        problems += storing.problems(config, mine)
        if not mine.train_unet and not mine.train_text_encoder:
            problems.append(say("train_unet and train_text_encoder are both off; nothing would be trained."))
        if mine.bucket_step % self.multiple:
            problems.append(say("bucket_step: must be a multiple of {unit}; got {n}.", unit=self.multiple, n=mine.bucket_step))
        if mine.resolution < mine.bucket_step:
            problems.append(say("resolution: must not be smaller than bucket_step ({n}).", n=mine.bucket_step))
        if problems:
            raise ConfigError(problems)
        examination = examine_pictures(config, mine, rows)
        facts, lines = self.examine_captions(config, mine, rows) if rows else ({}, ())
        more = [*(self._rates(config, mine) if rows else ()), *lines, *(self.remarks(config, mine) if rows else ())]
        more += self._examine_start(config, mine) if config.init_from_adapter else ()
        side = mine.resolution // mine.bucket_step * mine.bucket_step
        more += remarks(mine.sample_prompts or (), mine.sample_negative, side, self.multiple, self.base.guided)
        facts = {**examination.facts, **facts}
        return dataclasses.replace(examination, facts=facts, lines=[*examination.lines, *more])

    def _level_problems(self, keys: ImageKeys) -> list[str]:
        """What is wrong with the levels of noise that are asked for."""
        problems = []
        if keys.min_timestep >= keys.max_timestep:
            problems.append(
                say("min_timestep: must be less than max_timestep ({most}); got {n}.", most=keys.max_timestep, n=keys.min_timestep)
            )
        if self._flow and keys.huber_schedule == "snr":
            problems.append(
                say(
                    "huber_schedule: snr means nothing for {family}, which has no schedule of SNR. Write constant or exponential.",
                    family=self.name,
                )
            )
        return problems

    def _rates(self, config: RunConfig, keys: ImageKeys) -> list[str]:
        """A note on text encoders that are not trained because their rate is 0."""
        given = keys.text_encoder_lr if isinstance(keys.text_encoder_lr, list) else [keys.text_encoder_lr]
        if 0 not in given:
            return []
        if not keys.train_text_encoder:
            return [say("text_encoder_lr: 0: the text encoders are not trained")]
        return [say("text_encoder_lr: {rates}: the text encoders with a rate of 0 are not trained", rates=given)]

    def examine_captions(
        self, config: RunConfig, keys: ImageKeys, rows: Sequence[tuple[Record, Sequence[Span]]]
    ) -> tuple[Mapping[str, Any], Sequence[str]]:
        """What there is to be known of captions before anything is loaded: facts for the estimate, and sentences."""
        from ..data.captions import alternatives, arrangements
        from .training.texts import MOST

        texts = ("".join(span.text for span in spans) for _, spans in rows)
        live = keys.varies_captions and any(arrangements(caption, keys, MOST) is None for text in texts for caption in alternatives(text))
        if not live or keys.train_text_encoder:
            return {}, ()
        return {"captions_in_step": True}, [
            say("captions are put together anew at every step, so the text encoders stay in memory and encode them there")
        ]

    def _examine_start(self, config: RunConfig, keys: ImageKeys) -> Sequence[str]:
        """What there is to say of ``init_from_adapter``, from the shapes of the base's layers; torch is imported for that.

        Raises:
            RunError, ConfigError: if it cannot be taken up.
        """
        from .loading import shapes_only
        from .starts.start import open_start

        opened = open_start(config)  # before the base: what is no LoRA is told at once
        exact = config.model_copy(update={"precision": "fp32"})  # shapes have none, and "auto" is settled on the device
        with shapes_only():
            base = self.load_base(exact, keys.model_dump())
        return self._start(opened, config, keys, base, _trained(base, config, keys)).lines

    def _start(self, opened: Opened, config: RunConfig, keys: ImageKeys, base: ImageBase, modules: Mapping[str, int]) -> Start:
        """What ``init_from_adapter`` names, on the layers that are trained.

        Args:
            modules: the layers with their ranks, without ``block_ranks``.

        Raises:
            RunError, ConfigError: if it cannot be taken up.
        """
        from .starts.start import make_start

        ours = apply_block_ranks(modules, config.block_ranks)
        start = make_start(opened, config, keys, base, ours, self.webui, self.name)
        others = [f"{name} ({rank})" for name, rank in start.ranks.items() if rank != ours[name]] if config.block_ranks else []
        if others:
            raise ConfigError(
                say(
                    "block_ranks: the file that init_from_adapter names has other ranks: {names}. Leave block_ranks out; the ranks of "
                    "layers are taken from the file.",
                    names=first_few(others),
                )
            )
        return start

    def settle(self, keys: KeySet) -> tuple[KeySet, Sequence[str]]:
        from .starts.ranks import settle_ranks

        return settle_ranks(keys, self.webui, conv="conv_rank" not in self.meaningless())

    def remarks(self, config: RunConfig, keys: ImageKeys) -> Sequence[str]:
        """What somebody should know of this run on this base, for ``check``."""
        return ()

    # --- loaded ------------------------------------------------------------------------------------------------------------------

    def load(self, config: RunConfig, keys: KeySet, device: torch.device) -> TrainableImages:
        from loraforge.adapters import lora

        from .starts.start import open_start
        from .trainable import TrainableImages

        mine = keys[ImageKeys]
        base = self._sound(config, self.load_base(config, mine.model_dump()))
        if config.gradient_checkpointing:
            base.enable_gradient_checkpointing()
        base.device = device  # it goes there when the encoders have left: see TrainableImages.on_encoded
        storing.check_tiles(base)
        modules = _trained(base, config, mine)
        start = self._start(open_start(config), config, mine, base, modules) if config.init_from_adapter else None
        modules = {**modules, **start.ranks} if start is not None else modules
        adapted = apply_block_ranks(modules, config.block_ranks)
        self._check_exports(config, base, adapted)
        rates = {f"{name}.": rate for name in base.text_encoders if (rate := mine.text_rate(name)) is not None}
        injected = lora.inject(base.network, config, modules=modules, rates=rates)
        if start is not None:
            lora.fill(injected, start.given)
        replaced = base.replace() if config.kernels == "auto" else {}
        notes = storing.store_denoiser(base, config.precision, mine.model_dump(), device)
        facts = self._facts(config, mine, base, adapted)
        name = stem_of(str(keys.flat().get("output_name") or Path(config.output_dir).absolute().name))
        base.settings |= {"lora_name": name, "multiple": self.multiple, **{key: facts[key] for key in ("base_title", "base_sha256")}}
        trainable = TrainableImages(base, injected, config, mine, device, facts)
        trainable.replaced, trainable.notes = {**injected.replaced, **replaced}, notes
        return trainable

    def _sound(self, config: RunConfig, base: ImageBase) -> ImageBase:
        """Raises:
        ModelError: if weights of the base are no numbers: nothing could be learned on it, and the rate is not to blame.
        """
        from .loading import not_finite

        strange = list(not_finite(base.pipe))
        if not strange:
            return base
        half = say(" In precision: {precision} numbers that are too large become infinite; fp32 tells.", precision=config.precision)
        raise ModelError(
            say(
                "base_model {base}: {n} of its tensors hold values that are no numbers (NaN or infinite): {names}. The file is damaged, or "
                "was saved like that: fetch it again, or take another base.{half}",
                base=config.base_model,
                n=len(strange),
                names=first_few(strange, 5),
                half="" if config.precision == "fp32" else half,
            )
        )

    def _check_exports(self, config: RunConfig, base: ImageBase, modules: Mapping[str, int]) -> None:
        """Raises:
        ConfigError: if an export would be refused when all is trained.
        """
        kind = type(base.pipe)
        if "diffusers" in self._exports(config) and not hasattr(kind, "save_lora_weights"):
            raise ConfigError(say("export: diffusers reads no LoRA files for a {kind}. Use export: [merged].", kind=kind.__name__))
        strange = self.webui.strange(modules) if self.webui is not None and "webui" in self._exports(config) else []
        if strange:
            raise ConfigError(
                say(
                    "export: webui would be refused when all is trained: {base} has {n} modules that no WebUI knows ({names} ...). "
                    "Use export: [diffusers] or [merged].",
                    base=config.base_model,
                    n=len(strange),
                    names=first_few(strange, 3),
                )
            )

    def _exports(self, config: RunConfig) -> Sequence[str]:
        return config.export if config.export is not None else self.exporters or EXPORTERS

    def _facts(self, config: RunConfig, keys: ImageKeys, base: ImageBase, modules: Mapping[str, int]) -> dict[str, Any]:
        """What exporters need of the base."""
        place = locate(config.base_model, config.revision)
        image = {**self.settings(keys), "pipeline": type(base.pipe).__name__}
        if self.webui is not None:
            image["webui"] = self.webui.describe(base.network, modules)
        # What auto turned out to be.
        image["prediction_type"] = "auto" if self._flow else base.objective.prediction
        image["zero_terminal_snr"] = "auto" if self._flow else bool(base.pipe.scheduler.config.get("rescale_betas_zero_snr"))
        return {
            "prediction_type": base.objective.prediction,
            "base_title": title(config.base_model),
            "base_sha256": hash_file(place) if place.is_file() else None,
            "base_hash": old_hash(place) if place.is_file() else None,
            "image": image,
        }

    def open(self, config: RunConfig, adapters: Mapping[str, Adapter], device: torch.device) -> ImageInferenceModel:
        from loraforge.adapters import lora

        from .image_base import make_network
        from .inference import ImageInferenceModel

        known: Mapping[str, Any] = next((adapter.facts["image"] for adapter in adapters.values() if "image" in adapter.facts), {})
        base = self._sound(config, self.load_base(config, {**ImageKeys().model_dump(), "resolution": None, **known}))
        base.device = device
        storing.check_tiles(base)
        storing.tile(base)
        network = make_network(base, base.text_encoders)
        lora.load_adapters(network, adapters)
        storing.store_denoiser(base, config.precision, known, device)
        storing.store_encoders(base, known)
        network.eval()
        base.settings["base_sha256"] = next((adapter.facts.get("base_sha256") for adapter in adapters.values()), None)
        names = {name: called(adapter) for name, adapter in adapters.items()}
        return ImageInferenceModel(base, network, title(config.base_model), self.multiple, names)


def _muon_problems(config: RunConfig, keys: ImageKeys) -> list[str]:
    """Muon's own step sizes beside what it cannot learn, which AdamW does at the same rate."""
    given = [str(one).replace(" ", "") for one in config.optimizer_args]
    strange = any(one.startswith("adjust_lr_fn=") and one.partition("=")[2].strip("'\"") != "match_rms_adamw" for one in given)
    names = [*(["conv_rank"] if keys.conv_rank else []), *(["lora_variant: dora"] if config.lora_variant == "dora" else [])]
    if config.optimizer != "muon" or not strange or not names:
        return []
    return [
        say(
            "optimizer_args: adjust_lr_fn other than match_rms_adamw wants a far higher learning_rate than AdamW, which learns what is no "
            "matrix here ({names}). Leave it out.",
            names=", ".join(names),
        )
    ]


def _trained(base: ImageBase, config: RunConfig, keys: ImageKeys) -> dict[str, int]:
    """The layers that get a LoRA, without those of text encoders whose rate is 0."""
    found = base.targets(config, keys, base.network)
    return {
        name: rank for name, rank in found.items() if not name.startswith("text_encoder") or keys.text_rate(name.partition(".")[0]) != 0
    }
