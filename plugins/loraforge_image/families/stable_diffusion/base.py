"""A loaded Stable Diffusion behind the seam: CLIP's windows, the U-Net, and the layers that kohya's trainer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from loraforge import RunConfig

from ..image_base import Conditioning, ImageBase

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...records import ImageKeys

WINDOW = 75  # CLIP's tokens without beginning and end


class StableDiffusionBase(ImageBase):
    """What all three families share; captions are ``ids`` where the text encoders learn, otherwise ``context``."""

    denoiser_name = "unet"
    family: ClassVar[str]

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
        longest = max((len(self._tokenizers[0](c, add_special_tokens=False, verbose=False).input_ids) for c in captions), default=0)
        return max(1, -(-longest // WINDOW))

    def embed(self, caption: str) -> Conditioning:
        ids = self.token_ids(caption, int(self.settings["max_caption_tokens"]) // WINDOW)
        if self.trains_text:
            return {"ids": ids}
        return {name: value[0] for name, value in self.embed_ids(ids[None]).items()}

    def embed_key(self, caption: str) -> Mapping[str, Any]:
        ids = self.token_ids(caption, int(self.settings["max_caption_tokens"]) // WINDOW)
        return {"ids": ids.tolist(), "clip_skip": self.settings["clip_skip"], "version": self.version}

    def condition(self, captions: Sequence[str]) -> Conditioning:
        import torch

        windows = self._windows(captions)
        return self.embed_ids(torch.stack([self.token_ids(caption, windows) for caption in captions]))

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
