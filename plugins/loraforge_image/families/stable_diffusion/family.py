# SPDX-License-Identifier: Apache-2.0
"""What the families sd15, sd2 and sdxl share before a base is loaded: which bases are theirs, what a config may ask, what a run needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import KeySet, MemoryEstimate, ModelError, Record, RunConfig, Span, first_few, speaker

from ...records import ImageKeys
from ..base_files import is_ours, licensed, locate, pipeline_files
from ..image_base import ImageBase
from ..image_family import ImageFamily
from ..objectives import Diffusion
from .caption_length import WINDOW, counts, windows
from .identify import WEIGHTS, Base, check_family, config_folder, identify, lacking, unet_config
from .memory import estimate_memory
from .published import PUBLISHED

say = speaker(__name__)

_TYPICAL_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {"tiny-sd": {"learning_rate": (5e-4, 1e-2)}}


class StableDiffusion(ImageFamily):
    """One of the three; they differ in text encoders, names and sizes."""

    multiple = 8
    objective = Diffusion

    def meaningless(self) -> Mapping[str, str]:
        return {key: reason for key, reason in super().meaningless().items() if key == "assistant_adapter"}

    def matches(self, base_model: str) -> bool:
        return is_ours(base_model) and identify(base_model).family == self.name

    def describe_base(self, base_model: str) -> str:
        return identify(base_model).what if is_ours(base_model) else ""

    def typical_ranges(self, base_model: str) -> Mapping[str, tuple[float, float]]:
        return {**super().typical_ranges(base_model), **_TYPICAL_RANGES.get(base_model, {})}

    def problems(self, config: RunConfig, keys: ImageKeys) -> list[str]:
        base = identify(config.base_model, config.revision)
        check_family(config.base_model, base, self.name)
        problems = []
        if not base.read and not keys.allow_pickle:
            problems.append(
                say(
                    "base_model {file} is a pickle, which may run code when it is read. Convert it to safetensors, or set "
                    "allow_pickle: true, which reads numbers only (weights_only).",
                    file=base.place,
                )
            )
        if base.place.is_dir() and (gone := lacking(base.place, self.name)):
            problems.append(say("base_model {folder} lacks {names}.", folder=base.place, names=", ".join(gone)))
        if base.place.is_file():
            try:
                config_folder(base.place, self.name, keys.base_config)
            except ModelError as error:
                problems += error.problems
        predicts = base.predicts if keys.prediction_type == "auto" else keys.prediction_type
        if keys.zero_terminal_snr is True and predicts == "epsilon":
            problems.append(
                say(
                    "zero_terminal_snr: true goes with bases that predict velocity; this one predicts noise, and of noise alone nothing "
                    "can be told. Leave it out, or set prediction_type: v_prediction if the base is one."
                )
            )
        return problems

    def examine_captions(
        self, config: RunConfig, keys: ImageKeys, rows: Sequence[tuple[Record, Sequence[Span]]]
    ) -> tuple[Mapping[str, Any], Sequence[str]]:
        facts, lines = super().examine_captions(config, keys, rows)
        counted = counts(config, self.name, keys, ["".join(span.text for span in spans) for _, spans in rows])
        if counted is None:
            return facts, [*lines, say("the captions' tokens cannot be counted: the base's tokenizer is not on this computer")]
        tokens = windows(max(counted, default=0)) * WINDOW if keys.max_caption_tokens == "auto" else keys.max_caption_tokens
        more = []
        if keys.max_caption_tokens == "auto" and tokens > WINDOW:
            more.append(say("captions have up to {longest} tokens: max_caption_tokens is {tokens}", longest=max(counted), tokens=tokens))
        cut = [f"{record.where} ({count})" for (record, _), count in zip(rows, counted, strict=True) if count > tokens]
        if cut:
            more.append(say("{n} captions are cut at {tokens} tokens: {names}", n=len(cut), tokens=tokens, names=first_few(cut, 5)))
        return {**facts, "max_caption_tokens": tokens}, [*lines, *more]

    def remarks(self, config: RunConfig, keys: ImageKeys) -> Sequence[str]:
        """Lines for what the base says of itself, and for the convolutions that get no LoRA although ``conv_rank`` asks for one."""
        from .targets import strange_convolutions

        said = list(self._declared(identify(config.base_model, config.revision), keys))
        if not keys.conv_rank or not keys.train_unet:
            return said
        names = strange_convolutions(unet_config(config.base_model, config.revision, self.name, keys.base_config), self.name)
        if not names:
            return said
        return [
            *said,
            say(
                "conv_rank leaves out {names}: {title} has no such layer, so no WebUI would read a LoRA on it",
                names=", ".join(names),
                title=PUBLISHED[self.name].title,
            ),
        ]

    def _declared(self, base: Base, keys: ImageKeys) -> Iterator[str]:
        """What a single file says of itself that changes the training, or that the config does otherwise."""
        predicts = base.predicts if keys.prediction_type == "auto" else keys.prediction_type
        if base.zero_snr and keys.zero_terminal_snr == "auto" and predicts == "v_prediction":
            yield say("the base says that its noise ends in noise alone (zero terminal SNR); it is trained and drawn so")
        if base.zero_snr and predicts == "epsilon":
            yield say(
                "the base says that its noise ends in noise alone (zero terminal SNR), but not that it predicts velocity; it is trained as "
                "one that predicts noise, without it. If it predicts velocity, set prediction_type: v_prediction"
            )
        for key, found in (("prediction_type", base.prediction), ("zero_terminal_snr", base.zero_snr)):
            wanted = getattr(keys, key)
            if wanted != "auto" and found not in ("", None, wanted):
                yield say(
                    "{key}: {wanted} is what the config says; the base says {found}",
                    key=key,
                    wanted=str(wanted).lower() if isinstance(wanted, bool) else wanted,
                    found=str(found).lower() if isinstance(found, bool) else found,
                )
        if base.clip_skip and base.clip_skip != keys.clip_skip and "clip_skip" not in self.meaningless():
            yield say("the base says that it was trained with clip_skip: {n}; the config has {own}", n=base.clip_skip, own=keys.clip_skip)

    def estimate_memory(self, config: RunConfig, keys: KeySet, facts: Mapping[str, Any], device: str) -> MemoryEstimate | None:
        found = estimate_memory(config, keys[ImageKeys], self.name, facts, device)
        return licensed(found, config.base_model, config.revision)

    def base_files(self, config: RunConfig) -> Sequence[Path]:
        place = locate(config.base_model, config.revision, WEIGHTS)
        if place.is_file():
            return [place]
        published = PUBLISHED[self.name]
        used = {"unet", "vae", "scheduler", *published.encoders, *published.tokenizers}
        return [file for file in pipeline_files(place) if file.parent == place or file.parent.name in used]

    def settings(self, keys: ImageKeys) -> dict[str, Any]:
        kept = ("clip_skip", "allow_pickle", "base_config")
        return {**super().settings(keys), **{name: getattr(keys, name) for name in kept}}

    def load_base(self, config: RunConfig, settings: Mapping[str, Any]) -> ImageBase:
        from ..loading import type_of
        from .loading import load_base

        dtype = type_of(config.precision)
        pipe = load_base(
            config.base_model,
            config.revision,
            dtype,
            self.name,
            prediction=settings["prediction_type"],
            allow_pickle=settings["allow_pickle"],
            base_config=settings["base_config"],
            zero_snr=settings.get("zero_terminal_snr", "auto"),
        )
        return self.base(pipe, dtype, settings)
