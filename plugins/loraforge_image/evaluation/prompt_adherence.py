# SPDX-License-Identifier: Apache-2.0
"""How well pictures follow their prompts: the cosine of CLIP's two embeddings (Radford et al. 2021). torch is imported when asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import ModelError, fetch_base, read_text, require_files, speaker

say = speaker(__name__)

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
# Mean and spread of the colours of CLIP's training pictures, for models whose folder says nothing.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_SPREAD = (0.26862954, 0.26130258, 0.27577711)
_AT_ONCE = 16


class Scorer:
    """A CLIP model that is loaded; code that comes with a model is never run.

    Args:
        model: a folder, or a repository of Hugging Face (``modelscope:`` in front for ModelScope).

    Raises:
        ModelError: if it is not there, has no safetensors, or is no CLIP model.
    """

    def __init__(self, model: str) -> None:
        folder = _folder(model)
        import torch
        from transformers import AutoTokenizer, CLIPModel

        options: dict[str, Any] = {"local_files_only": True}
        try:
            require_files(folder)
            kind = json.loads(read_text(folder / "config.json")).get("model_type")
            if kind != "clip":
                raise ValueError(f"model_type {kind}")
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
            self._model: Any = CLIPModel.from_pretrained(folder, use_safetensors=True, **options).eval()
            self._longest = int(self._model.config.text_config.max_position_embeddings)
            self._side = int(self._model.config.vision_config.image_size)
            self._mean, self._spread = _colours(folder)
        except Exception as error:  # transformers raises whatever a damaged or foreign folder leads to
            reason = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")[:300]
            raise ModelError(
                say(
                    "prompt_scorer: {model} cannot be loaded as a CLIP model: {reason}. It must be a model like "
                    "openai/clip-vit-base-patch32 with weights in safetensors.",
                    model=model,
                    reason=reason,
                )
            ) from None
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def prepare(self, picture: Image.Image) -> Any:
        """What the model sees of a picture: (3, side, side), the shorter side resized to ``side``, the middle cut out, normalised.

        transformers' own image processor wants torchvision, which nothing else here needs.
        """
        import numpy as np

        rgb = picture.convert("RGB")
        factor = self._side / min(rgb.size)
        rgb = rgb.resize(
            (max(self._side, int(rgb.width * factor)), max(self._side, int(rgb.height * factor))), resample=Image.Resampling.BICUBIC
        )
        left, top = (rgb.width - self._side) // 2, (rgb.height - self._side) // 2
        values = np.asarray(rgb.crop((left, top, left + self._side, top + self._side)), dtype=np.float64) / 255
        return ((values - np.array(self._mean)) / np.array(self._spread)).astype(np.float32).transpose(2, 0, 1)

    def score(self, prepared: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        """The cosine of each picture with its own prompt, -1 to 1: about 0.2 for a foreign one and 0.3 for its own with OpenAI's models."""
        import numpy as np
        import torch

        self._model.to(self._device)
        found: list[float] = []
        for start in range(0, len(prepared), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            words = self._tokenizer(list(prompts[part]), padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
            with torch.inference_mode():
                seen = self._model(
                    input_ids=words["input_ids"].to(self._device),
                    attention_mask=words["attention_mask"].to(self._device),
                    pixel_values=torch.from_numpy(np.stack(list(prepared[part]))).to(self._device),
                )
                cosines = torch.nn.functional.cosine_similarity(seen.image_embeds.float(), seen.text_embeds.float(), dim=-1)
            found += [float(value) for value in cosines]
        return found


def _colours(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    file = folder / "preprocessor_config.json"
    said: Mapping[str, Any] = json.loads(read_text(file)) if file.is_file() else {}
    return said.get("image_mean", _MEAN), said.get("image_std", _SPREAD)


def _folder(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or model.startswith((".", "~")) or "/" not in model:
        raise ModelError(
            say(
                "prompt_scorer: {model}: there is no such folder, and a repository is called like openai/clip-vit-base-patch32.",
                model=model,
            )
        )
    return fetch_base(model, None, _FILES, (), "prompt_scorer")
