# SPDX-License-Identifier: Apache-2.0
"""What the families of transformers share before a base is loaded: recognition, single files, and what else a config may ask of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from loraforge import Examination, KeySet, MemoryEstimate, ModelError, Record, RunConfig, Span, fetch_base, first_few, speaker

from ...records import ImageKeys
from ..base_files import EMBEDDED, OTHERS, PICKLES, SMALL, is_hub_id, is_ours, licensed, locate, pipeline_files, pipeline_name, title
from ..image_base import ImageBase
from ..image_family import ImageFamily
from .assistant import assistant_file
from .loading import strange
from .single_file import Layout, pickle_text, pickled_parts, read_names, transformer_file

if TYPE_CHECKING:
    import torch

    from ..trainable import TrainableImages
    from .memory import Walk

say = speaker(__name__)

# Of the folder that base_config names: all but the transformer, which the single file is.
_REST = ("vae/*.safetensors*", "text_encoder*/*.safetensors*")


class TransformerFamily(ImageFamily):
    """A family of flow transformers: a diffusers folder, a hub id, or the transformer alone in one file with ``base_config`` for the rest.

    Attributes:
        title: what people call it.
        transformer: the denoiser's class in diffusers.
        layouts: how the tensors of its single files are called: of the original model, and of diffusers.
        source: a hub id that ``base_config`` may name.
        distilled: the word in the names of its distilled bases, which draw in few steps and want an ``assistant_adapter`` in training;
            empty: there are none.
        relatives: pipelines of the same make that are not trained; of strangers another sentence says what they are.
        smallest: the side in pixels down to which it still draws well.
        tokenizer: the folder of the tokenizer that makes most tokens of a caption.
        text_tokens: (tokens of the template, the most that are read); the same number twice where captions are padded to a length.
    """

    title: ClassVar[str] = ""
    transformer: ClassVar[str] = ""
    layouts: ClassVar[tuple[Layout, ...]] = ()
    source: ClassVar[str] = ""
    distilled: ClassVar[str] = ""
    relatives: ClassVar[tuple[str, ...]] = ()
    smallest: ClassVar[int] = 512
    tokenizer: ClassVar[str] = "tokenizer"
    text_tokens: ClassVar[tuple[int, int]] = (512, 512)

    def walk(self, config: Mapping[str, Any], walk: Walk) -> None:
        """Goes through the transformer's layers, see ``memory``.

        Args:
            config: the transformer's ``config.json``.
        """
        raise NotImplementedError

    def text_width(self, configs: Mapping[str, Mapping[str, Any]]) -> int:
        """Numbers of one token of a caption as it is kept: those of the last text encoder.

        Args:
            configs: of every part, by its folder's name.
        """
        encoder = configs[max(name for name in configs if name.startswith("text_encoder"))]
        inner = encoder.get("text_config")
        return int(encoder.get("hidden_size") or encoder.get("d_model") or (inner["hidden_size"] if isinstance(inner, dict) else 0))

    def counted(self, folder: Path) -> tuple[str, int]:
        """(the folder of the tokenizer that makes most tokens of a caption, how many of these are read, without its signs and template).

        Args:
            folder: with the configurations of all parts.
        """
        template, most = self.text_tokens
        return self.tokenizer, most if template == most else most - template

    # --- what a base is ----------------------------------------------------------------------------------------------------------

    def meaningless(self) -> Mapping[str, str]:
        given = super().meaningless()
        known = ("allow_pickle", "base_config", *(["assistant_adapter"] if self.distilled else []))
        return {key: reason for key, reason in given.items() if key not in known}

    def settings(self, keys: ImageKeys) -> dict[str, Any]:
        known = {"distilled": True} if keys.assistant_adapter else {}
        return {**super().settings(keys), "allow_pickle": keys.allow_pickle, "base_config": keys.base_config, **known}

    def matches(self, base_model: str) -> bool:
        if not is_ours(base_model):
            return False
        file = transformer_file(base_model)
        return self._fits(file) if file is not None else super().matches(base_model)

    def _fits(self, file: Path) -> bool:
        names = read_names(file).names
        return any(layout.fits(names) for layout in self.layouts)

    def describe_base(self, base_model: str) -> str:
        if not is_ours(base_model):
            return ""
        file = transformer_file(base_model)
        if file is None:
            found = pipeline_name(base_model)
            text = say(
                "{path} is one of a {found}; of {title}, LoRAForge trains those of a {wanted}",
                path=base_model,
                found=found,
                title=self.title,
                wanted=self.pipeline,
            )
            return text if found in self.relatives else ""
        return say("{path} is the transformer of a {title}", path=file, title=self.title) if self._fits(file) else ""

    def problems(self, config: RunConfig, keys: ImageKeys) -> list[str]:
        place = locate(config.base_model, config.revision)
        if place.is_dir():
            found = super().problems(config, keys)
            if keys.base_config is not None:
                found.append(
                    say(
                        "base_config: base_model {base} is a folder and brings all of its parts; base_config belongs to single files. "
                        "Leave it out.",
                        base=config.base_model,
                    )
                )
            if not keys.allow_pickle:
                found += pickled_parts(place)
            return found
        if place.suffix.lower() in PICKLES:
            if keys.allow_pickle:
                return self._config_problems(place, keys)
            return [pickle_text(place.name, place)]
        return [*self._file_problems(place), *self._config_problems(place, keys)]

    def _file_problems(self, file: Path) -> list[str]:
        if not self._fits(file):
            return [strange(file, self)]
        packed = read_names(file).packed
        if not packed:
            return []
        return [
            say(
                "base_model {file} is stored in 8 or 4 bits with scales ({n} tensors: {names}), which only the program that packed it "
                "unpacks. Take the file in bf16; precision decides in what it is trained.",
                file=file,
                n=len(packed),
                names=first_few(packed, 2),
            )
        ]

    def _config_problems(self, file: Path, keys: ImageKeys) -> list[str]:
        try:
            self.config_folder(file, keys.base_config, ())
        except ModelError as error:
            return list(error.problems)
        return []

    def config_folder(self, file: Path, base_config: str | None, weights: Sequence[str] = _REST) -> Path:
        """The diffusers folder that brings what a single file lacks: encoders, autoencoder, scheduler and configurations.

        Args:
            weights: patterns of the weights that are fetched of a hub id.

        Raises:
            ModelError: if it is not named, is not there, is incomplete, or is of another family.
        """
        if not base_config:
            raise ModelError(
                say(
                    "base_model {file} is the transformer of a {title} alone. base_config names the diffusers folder or hub id that its "
                    "text encoder, autoencoder and scheduler come from, such as base_config: {source}.",
                    file=file,
                    title=self.title,
                    source=self.source,
                )
            )
        folder = EMBEDDED.get(base_config) or Path(base_config).expanduser()
        if not folder.is_dir():
            if not base_config.startswith("modelscope:") and not is_hub_id(base_config):
                raise ModelError(say("base_config: '{value}' is neither a folder nor a hub id of the form org/name.", value=base_config))
            folder = fetch_base(base_config, None, [*SMALL, *weights], OTHERS, "base_config")
        found = pipeline_name(str(folder))
        if found != self.pipeline:
            raise ModelError(
                say(
                    "base_config: {file} is a {title} and needs a folder of a {wanted}, but {folder} is one of {found}.",
                    file=file,
                    title=self.title,
                    wanted=self.pipeline,
                    folder=base_config,
                    found=found or say("nothing"),
                )
            )
        gone = [name for name in ("transformer", "vae", "scheduler") if not any((folder / name).glob("*.json"))]
        if gone:
            raise ModelError(say("base_config {folder} lacks {names}.", folder=base_config, names=", ".join(gone)))
        return folder.absolute()

    def remarks(self, config: RunConfig, keys: ImageKeys) -> Sequence[str]:
        file = transformer_file(config.base_model, config.revision)
        others = read_names(file).others if file is not None else ()
        found = [*self._distilled_remarks(config, keys), *self._drawing_remarks(config, keys)]
        if not others:
            return found
        return (
            *found,
            say(
                "base_model {file} holds more than the transformer ({names}); encoders and autoencoder are taken from base_config all "
                "the same",
                file=file,
                names=first_few(others, 5),
            ),
        )

    def _distilled_remarks(self, config: RunConfig, keys: ImageKeys) -> list[str]:
        """What to know of bases that draw in few steps, which nothing but their names tells."""
        if not self.distilled:
            return []
        found, given = self._is_distilled(config, keys), keys.assistant_adapter
        if found and not given:
            return [
                say(
                    "base_model {base} is called {word}: such a base is distilled, and plain training wears that off: drawings in few "
                    "steps become blurred. Name its training adapter (assistant_adapter), or train the base that it was made from",
                    base=config.base_model,
                    word=self.distilled,
                )
            ]
        if given and not found:
            return [
                say(
                    "assistant_adapter: base_model {base} is not called {word}; a training adapter belongs to the distilled base that it "
                    "was made for, and spoils the training of any other",
                    base=config.base_model,
                    word=self.distilled,
                )
            ]
        draws = keys.sample_prompts is None or bool(keys.sample_prompts)
        if given and draws and (keys.sample_cfg or 1) > 1:
            return [
                say(
                    "sample_cfg: {cfg}: a distilled base draws without guidance and in few steps; write sample_cfg: 1 and sample_steps: 8",
                    cfg=keys.sample_cfg,
                )
            ]
        return []

    def _is_distilled(self, config: RunConfig, keys: ImageKeys) -> bool:
        return self.called_distilled(config.base_model)

    def called_distilled(self, base_model: str) -> bool:
        """Whether a base's own name says that it is distilled, where nothing else of it does."""
        return bool(self.distilled) and self.distilled in title(base_model).lower()

    def _drawing_remarks(self, config: RunConfig, keys: ImageKeys) -> list[str]:
        """A note on steps and guidance of the sample pictures that are far from those that such a base is made for."""
        draws = keys.sample_prompts is None or bool(keys.sample_prompts)
        if not draws or self._is_distilled(config, keys):
            return []
        steps, cfg = self.base.usual_steps, self.base.usual_cfg
        asked = (keys.sample_steps or steps, keys.sample_cfg or cfg)
        if asked[0] >= steps / 2 and asked[1] <= 1.5 * cfg:
            return []
        return [
            say(
                "sample_steps: {steps} and sample_cfg: {cfg}: a {title} is drawn in about {usual} steps with a cfg of {guidance}; other "
                "pictures look unfinished or burnt, whatever is trained",
                steps=asked[0],
                cfg=asked[1],
                title=self.title,
                usual=steps,
                guidance=cfg,
            )
        ]

    # --- loading -----------------------------------------------------------------------------------------------------------------

    def base_files(self, config: RunConfig) -> Sequence[Path]:
        place = locate(config.base_model, config.revision)
        return [place] if place.is_file() else super().base_files(config)

    def brought_files(self, config: RunConfig, keys: KeySet) -> Mapping[str, Path]:
        mine = keys[ImageKeys]
        found: dict[str, Path] = {}
        if mine.assistant_adapter:
            found["assistant_adapter"] = assistant_file(mine.assistant_adapter)
        place = locate(config.base_model, config.revision)
        if place.is_file():
            folder = self.config_folder(place, mine.base_config)
            there = (file for file in pipeline_files(folder) if file.parent.name != "transformer" or file.suffix == ".json")
            found |= {f"base_config: {file.relative_to(folder).as_posix()}": file for file in there}
        return found

    def examine(self, config: RunConfig, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]]) -> Examination:
        examination = super().examine(config, keys, rows)
        wanted = keys[ImageKeys].assistant_adapter
        if not wanted:
            return examination
        from ..loading import shapes_only
        from .assistant import Assistant

        exact = config.model_copy(update={"precision": "fp32"})  # shapes have none, and "auto" is settled on the device
        with shapes_only():
            base = self.load_base(exact, keys[ImageKeys].model_dump())
        return dataclasses.replace(examination, lines=[*examination.lines, Assistant(base, wanted).line])

    def load(self, config: RunConfig, keys: KeySet, device: torch.device) -> TrainableImages:
        from .assistant import Assistant

        made = super().load(config, keys, device)
        if wanted := keys[ImageKeys].assistant_adapter:
            Assistant(made.base, wanted).attach(made.model, device)
        return made

    def parts_folder(self, config: RunConfig, base_config: str | None) -> Path:
        """The folder with the configurations of all parts.

        Raises:
            ModelError: if there is none.
        """
        place = locate(config.base_model, config.revision)
        return place if place.is_dir() else self.config_folder(place, base_config, ())

    def load_base(self, config: RunConfig, settings: Mapping[str, Any]) -> ImageBase:
        from ..loading import type_of

        dtype = type_of(config.precision)
        known = settings.get("distilled") or settings.get("assistant_adapter") or self.called_distilled(config.base_model)
        settings = {**settings, "distilled": bool(known)}
        return self.base(self.load_pipe(config.base_model, config.revision, dtype, settings), dtype, settings)

    def load_pipe(self, base_model: str, revision: str | None, dtype: torch.dtype, settings: Mapping[str, Any]) -> Any:
        """The base as diffusers' pipeline, on the CPU.

        Args:
            settings: what ``settings`` kept, or all of ``ImageKeys``.

        Raises:
            ModelError: if it cannot be loaded.
        """
        from ..loading import load_pipeline, wants_weights
        from .loading import load_transformer

        place, allowed = locate(base_model, revision), bool(settings.get("allow_pickle"))
        if place.is_dir():
            return load_pipeline(base_model, revision, self.pipeline, dtype, allow_pickle=allowed)
        folder = self.config_folder(place, settings.get("base_config"), _REST if wants_weights() else ())
        given = {"transformer": load_transformer(place, folder, self, dtype, allow_pickle=allowed)} if wants_weights() else {}
        return load_pipeline(str(folder), None, self.pipeline, dtype, allow_pickle=allowed, given=given)

    # --- memory ------------------------------------------------------------------------------------------------------------------

    def examine_captions(
        self, config: RunConfig, keys: ImageKeys, rows: Sequence[tuple[Record, Sequence[Span]]]
    ) -> tuple[Mapping[str, Any], Sequence[str]]:
        from .captions import caption_lengths, encoded_texts

        facts, lines = super().examine_captions(config, keys, rows)
        texts = ["".join(span.text for span in spans) for _, spans in rows]
        facts = {**facts, "texts": encoded_texts(texts, keys)}
        folder = self.parts_folder(config, keys.base_config)
        tokenizer, read = self.counted(folder)
        counted = caption_lengths(folder / tokenizer, texts, keys)
        if counted is None:
            return facts, [*lines, say("the captions' tokens cannot be counted: the base's tokenizer is not on this computer")]
        template, most = self.text_tokens
        cut = [f"{record.where} ({count})" for (record, _), count in zip(rows, counted, strict=True) if count > read]
        if cut:
            lines = [*lines, say("{n} captions are cut at {tokens} tokens: {names}", n=len(cut), tokens=read, names=first_few(cut, 5))]
        return {**facts, "caption_tokens": min(most, template + max(counted, default=0))}, lines

    def estimate_memory(self, config: RunConfig, keys: KeySet, facts: Mapping[str, Any], device: str) -> MemoryEstimate | None:
        from .memory import estimate_memory

        mine = keys[ImageKeys]
        try:
            folder = self.parts_folder(config, mine.base_config)
        except ModelError:
            return None
        return licensed(estimate_memory(self, folder, config, mine, facts, device), config.base_model, config.revision)
