# SPDX-License-Identifier: Apache-2.0
"""A loaded Stable Diffusion behind the seam: CLIP's windows, the U-Net, and the layers that kohya's trainer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from loraforge import RunConfig

from ..image_base import Conditioning, ImageBase
from .caption_length import WINDOW, WINDOWS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...records import ImageKeys


class StableDiffusionBase(ImageBase):
    """What all three families share; captions are ``ids`` where the text encoders learn, otherwise ``context``."""

    denoiser_name = "unet"
    family: ClassVar[str]
    _longest: int | None = None

    @property
    def _tokenizers(self) -> list[Any]:
        return [self.pipe.components[name.replace("text_encoder", "tokenizer")] for name in self._encoder_names]

    @property
    def _encoder_names(self) -> list[str]:
        return [name for name in ("text_encoder", "text_encoder_2") if name in self.pipe.components]

    # --- conditioning ------------------------------------------------------------------------------------------------------------

    def token_ids(self, caption: str, windows: int) -> Tensor:
        """int64 (text encoders, windows, 77): each window has its own beginning and end, as the WebUIs do it; what is longer is cut."""
        import torch

        rows = []
        for tokenizer in self._tokenizers:
            ids = tokenizer(caption, add_special_tokens=False, verbose=False).input_ids[: WINDOW * windows]
            cut = [ids[i * WINDOW : (i + 1) * WINDOW] for i in range(windows)]
            pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
            whole = [[tokenizer.bos_token_id, *part, tokenizer.eos_token_id] for part in cut]
            rows.append([row + [pad] * (WINDOW + 2 - len(row)) for row in whole])
        return torch.tensor(rows)

    def _windows(self, captions: Sequence[str]) -> int:
        """How many windows the longest of the captions needs."""
        longest = max((self._tokens(caption) for caption in captions), default=0)
        return max(1, -(-longest // WINDOW))

    def _tokens(self, caption: str) -> int:
        return max(len(tokenizer(caption, add_special_tokens=False, verbose=False).input_ids) for tokenizer in self._tokenizers)

    @property
    def _limit(self) -> int:
        """The windows that a caption of the training may have."""
        wanted = self.settings.get("max_caption_tokens") or "auto"
        return WINDOWS if wanted == "auto" else int(wanted) // WINDOW

    @property
    def windows(self) -> int:
        """The windows that every caption is filled up to, as sd-scripts does it."""
        if self._longest is not None:
            return self._longest
        return self._limit if (self.settings.get("max_caption_tokens") or "auto") != "auto" else 1

    def read_captions(self, captions: Sequence[str]) -> None:
        if (self.settings.get("max_caption_tokens") or "auto") == "auto":
            self._longest = min(self._windows(captions), WINDOWS)

    def facts(self) -> Mapping[str, Any]:
        return {"max_caption_tokens": WINDOW * self.windows}

    def embed(self, caption: str) -> Conditioning:
        ids = self._ids(caption)
        if self.trains_text:
            return {"ids": ids}
        return {name: value[0] for name, value in self.embed_ids(ids[None]).items()}

    def _ids(self, caption: str) -> Tensor:
        needed = self._windows([caption])
        return self.token_ids(caption, needed if self.uncut else min(needed, self._limit))

    def embed_key(self, caption: str) -> Mapping[str, Any]:
        return {"ids": self._ids(caption).tolist(), "clip_skip": self.settings["clip_skip"], "version": self.version}

    def join(self, rows: Sequence[Conditioning]) -> Conditioning:
        """Captions of fewer windows are filled up with those of no caption."""
        count = max(self.windows, *(self._held(row) for row in rows))
        return super().join([self._filled(row, count) for row in rows])

    def _held(self, row: Conditioning) -> int:
        return int(row["ids"].shape[1]) if "ids" in row else int(row["context"].shape[0]) // (WINDOW + 2)

    def _filled(self, row: Conditioning, count: int) -> Conditioning:
        import torch

        missing = count - self._held(row)
        if not missing:
            return row
        if self.blank is None:
            self.blank = self.embed("")
        if "ids" in row:
            return {**row, "ids": torch.cat([row["ids"], *[self.blank["ids"][:, :1]] * missing], 1)}
        return {**row, "context": torch.cat([row["context"], *[self.blank["context"][: WINDOW + 2]] * missing])}

    def condition(self, captions: Sequence[str], negatives: Sequence[str] = ()) -> Conditioning:
        import torch

        every = [*negatives, *captions]
        windows = max(self.windows, self._windows(every))
        return self.embed_ids(torch.stack([self.token_ids(caption, windows) for caption in every]))

    def resolve(self, conditioning: Conditioning) -> Conditioning:
        return self.embed_ids(conditioning["ids"]) if "ids" in conditioning else conditioning

    def embed_ids(self, ids: Tensor) -> dict[str, Tensor]:
        """int64 (captions, text encoders, windows, 77) -> ``context`` (captions, windows * 77, width), and what else the family has."""
        states = self._states(self.text_encoders["text_encoder"], ids[:, 0])
        return {"context": states.to(self.dtype)}

    def _states(self, encoder: Any, ids: Tensor) -> Tensor:
        count, windows, length = ids.shape
        out = encoder(ids.reshape(count * windows, length).to(encoder.device), output_hidden_states=True)
        skip = int(self.settings["clip_skip"])
        if skip == 1:
            states = out.last_hidden_state
        else:
            inner = getattr(encoder, "text_model", encoder)  # transformers put the level away
            states = inner.final_layer_norm(out.hidden_states[-skip])
        whole: Tensor = states.reshape(count, windows * length, -1)
        return whole

    # --- denoiser ----------------------------------------------------------------------------------------------------------------

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        unet: Any = self.denoiser
        guess: Tensor = unet(noisy.to(self.dtype), levels, conditioning["context"].to(self.dtype)).sample
        return guess

    # --- layers ------------------------------------------------------------------------------------------------------------------

    def targets(self, config: RunConfig, keys: ImageKeys, network: torch.nn.Module) -> dict[str, int]:
        from .targets import lora_modules, readable

        return readable(lora_modules(network, config, keys), self.family)

    def replace(self) -> Mapping[str, int]:
        from ...kernels import replace

        return replace(self.denoiser)
