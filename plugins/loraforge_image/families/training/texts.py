# SPDX-License-Identifier: Apache-2.0
"""The captions of a run as the denoiser reads them: encoded once where they stay few, in the step where they are new each time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loraforge import PluginError

from ...data.captions import arranged, arrangements, written
from ...records import ImageKeys
from ..fitting.storing import store_encoders
from ..image_base import Conditioning, ImageBase
from ..latent_cache import Cache, weights_hash

if TYPE_CHECKING:
    from torch import Tensor

# A caption that can be put together in so many ways or fewer is encoded in all of them beforehand: four parts in any order have 24.
MOST = 24


class Texts:
    """Encodes captions. Each is encoded by itself, so that neither its neighbours nor the step it comes in change a bit.

    Attributes:
        empty: what the denoiser reads of a hidden caption, as of no negative prompt.
        live: whether captions are encoded in the step, so that the text encoders have to stay.
    """

    def __init__(self, base: ImageBase, keys: ImageKeys, cache: Cache, device: Any) -> None:
        self._base, self._keys, self._cache, self._device = base, keys, cache, device
        self._hash = "" if base.trains_text else "/".join(weights_hash(encoder) for encoder in base.text_encoders.values())
        if not base.trains_text:  # from here on: what was hashed above was whole
            store_encoders(base, base.settings)
        self._kept: dict[str, Conditioning] = {}
        self._measured: dict[str, None] = {}
        self.live = False
        base.blank, self.empty = self.read(""), self.read("", negative=True)

    def add(self, captions: Sequence[str]) -> None:
        """Makes what will be read of a picture's captions, as far as that is known."""
        for number, caption in enumerate(captions):
            plain = written(caption, self._keys)
            self._measured[plain] = None
            ways = arrangements(caption, self._keys, MOST)
            self.live = self.live or ways is None
            for text in dict.fromkeys([*([plain] if not number else []), *(ways or [])]):
                if text not in self._kept:
                    self._kept[text] = self.read(text)

    def measured(self, captions: Sequence[str]) -> Conditioning:
        """The first caption as it is written."""
        return self._conditioning(written(captions[0], self._keys))

    def drawn(self, captions: Sequence[str], rng: random.Random) -> Conditioning:
        """One of the captions, put together as it is in one step."""
        caption = captions[rng.randrange(len(captions))] if len(captions) > 1 else captions[0]
        return self._conditioning(arranged(caption, self._keys, rng))

    def prompt(self, text: str, *, negative: bool = False) -> Conditioning:
        """What is drawn, or drawn without: never cut."""
        self._base.uncut = True
        try:
            return self.read(text, negative=negative)
        finally:
            self._base.uncut = False

    def close(self) -> None:
        """All captions are known: those that are longest decide how long all of them are, and the encoders leave unless they are needed."""
        self._base.read_captions(list(self._measured))
        if not self.live:
            self._base.forget_text_encoders()

    def read(self, text: str, *, negative: bool = False) -> Conditioning:
        """What the denoiser reads of a text, or what is kept of it for text encoders that learn; on the CPU, and from the cache if it is
        there.

        Raises:
            PluginError: if the family's ``embed`` returns something else.
        """
        base = self._base
        if base.trains_text:
            return base.embed_negative(text) if negative else base.embed(text)
        key = base.negative_key(text) if negative else base.embed_key(text)
        return self._cache.get({**key, "encoder": self._hash}, lambda: self._embed(text, negative=negative))

    def _conditioning(self, text: str) -> Conditioning:
        found = self._kept.get(text)
        if found is not None:
            return found
        return self._base.embed(text) if self._base.trains_text else self._embed(text)  # not on disk: there is no end of orders

    def _embed(self, text: str, *, negative: bool = False) -> dict[str, Tensor]:
        import torch

        method = "embed_negative" if negative else "embed"
        for encoder in self._base.text_encoders.values():
            encoder.to(self._device)
        with torch.no_grad():
            found: Any = getattr(self._base, method)(text)
        if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise PluginError(
                f"{type(self._base).__name__}.{method} must return a mapping of names to tensors; got {type(found).__name__}."
            )
        return {name: value.cpu() for name, value in found.items()}
