# SPDX-License-Identifier: Apache-2.0
"""An image model with a LoRA, as the loop sees it. Pictures and captions are encoded once; a step sees latents only."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Batch, Example, PluginError, RunConfig, Span, TrainableLora, TrainableModel, cache_folder

from ..data.buckets import Bucket, choose, fit
from ..data.captions import alternatives, tag_counts, written
from ..data.pictures import content_hash, read_picture
from ..records import ImageKeys, Picture
from .fitting.storing import tile
from .image_base import Conditioning, ImageBase
from .latent_cache import Cache, weights_hash
from .samples import Samples
from .training import noise
from .training.masks import mask_of, weight_map
from .training.texts import Texts
from .training.views import View, framing, views

if TYPE_CHECKING:
    import torch
    from torch import Tensor


# The held-out loss is measured at these quantiles of the levels, each with noise of its own that never changes.
_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class _Row:
    """One picture of a batch.

    Attributes:
        read: the noise that the denoiser reads, where it is another than the one that it learns (``ip_noise_gamma``).
        mask: how much each place counts; None: all alike.
    """

    clean: Tensor
    noise: Tensor
    level: float
    weight: float
    text: Conditioning
    extras: Conditioning
    read: Tensor | None = None
    mask: Tensor | None = None


class TrainableImages(TrainableModel):
    """A base behind the seam with a LoRA, on cached latents."""

    def __init__(
        self, base: ImageBase, lora: TrainableLora, config: RunConfig, keys: ImageKeys, device: torch.device, facts: Mapping[str, Any]
    ) -> None:
        self.lora = lora
        self._base, self._config, self._keys, self._device, self._facts = base, config, keys, device, dict(facts)
        self._cache = Cache(Path(keys.cache_dir).expanduser() if keys.cache_dir else cache_folder())
        self._vae_hash = weights_hash(base.pipe.vae)
        self._texts = Texts(base, keys, self._cache, device)
        self._seen: list[tuple[Picture, str, Bucket]] = []
        self._samples: Samples | None = None

    @property
    def base(self) -> ImageBase:
        """The base that is trained on."""
        return self._base

    # --- once per record ---------------------------------------------------------------------------------------------------

    def encode(self, record: Any, text: Sequence[Span]) -> Example:
        """Latents and weights of every view of a picture, and its captions, one a line of ``text``.

        Raises:
            DataError: if the picture or its mask cannot be read.
        """
        image = read_picture(Path(record.path))
        bucket = choose(image.size, self._keys, resolution=record.resolution)
        captions = alternatives("".join(span.text for span in text))
        content, seen = content_hash(image), views(record, self._keys)
        latents = [
            self._cache.get(
                {
                    "picture": content,
                    "size": [bucket.width, bucket.height],
                    "view": list(view),
                    "encoder": self._vae_hash,
                    **self._base.latent_key(),
                },
                lambda view=view: {"latents": self._latents(image, bucket, view)},  # type: ignore[misc]
            )["latents"]
            for view in seen
        ]
        mask, outside = mask_of(record, self._keys, image.size), self._keys.unmasked_weight
        self._texts.add(captions)
        self._seen.append((record, written(captions[0], self._keys), bucket))
        own = f" {record.resolution}" if record.resolution else ""
        return {
            "key": hashlib.sha256(f"{content} {chr(10).join(captions)}{own}".encode()).hexdigest(),
            "latents": latents,
            "masks": [weight_map(mask, bucket, view, latents[0].shape[1:], outside) for view in seen] if mask is not None else None,
            "captions": captions,
            "bucket": (bucket.width, bucket.height),
            "extras": [self._base.extras(framing(image.size, bucket, view)) for view in seen],
            "prior": bool(record.prior),
        }

    def _latents(self, image: Any, bucket: Bucket, view: View) -> Tensor:
        """float32 (2, channels, ...): mean and standard deviation, scaled as the denoiser expects them."""
        import numpy as np
        import torch

        self._base.pipe.vae.to(self._device)
        fitted = fit(image, bucket, view[:2])
        pixels = torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)[None].float().div(127.5).sub(1)
        pixels = pixels.flip(3) if view[2] else pixels
        with torch.no_grad():
            return self._base.encode(pixels)

    def on_encoded(self) -> None:
        """Prepares the sample pictures; then the encoders leave memory, and of the autoencoder what only encoding needs."""
        import gc

        import torch

        texts = [caption for picture, caption, _ in self._seen if not picture.prior]
        wanted = self._keys.sample_prompts
        prompts = list(wanted) if wanted is not None else list(dict.fromkeys(texts))[:4]
        self._base.pipe.vae.to("cpu")
        side = self._keys.resolution // self._keys.bucket_step * self._keys.bucket_step
        if prompts:
            continued = bool(self._config.init_from_adapter)
            self._samples = Samples(self._base, self._keys, prompts, (side, side), self._texts.prompt, self._device, continued=continued)
        self._texts.close()
        self._base.forget_encoders()
        tile(self._base)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._base.to(self._base.device)  # not before: text encoders and denoiser together are more than a card may hold

    # --- steps -------------------------------------------------------------------------------------------------------------

    def group(self, example: Example) -> Hashable:
        """The bucket."""
        bucket: tuple[int, int] = example["bucket"]
        return bucket

    def collate(self, examples: Sequence[Example], seed: int | None = None) -> Batch:
        """``clean``, ``noise`` (rows, channels, ...), ``levels`` (rows,), ``weights`` (rows,), ``conditioning`` and ``extras``; several
        rows for each picture when held-out pictures are measured."""
        import torch

        rows = [row for example in examples for row in self._rows(example, seed)]
        batch = {
            "count": len(examples),
            "clean": torch.stack([row.clean for row in rows]),
            "noise": torch.stack([row.noise for row in rows]),
            "levels": torch.tensor([row.level for row in rows]),
            "weights": torch.tensor([row.weight for row in rows]),
            "conditioning": self._base.join([row.text for row in rows]),
            "extras": {name: torch.stack([row.extras[name] for row in rows]) for name in rows[0].extras},
        }
        if any(row.read is not None for row in rows):
            batch["read"] = torch.stack([row.noise if row.read is None else row.read for row in rows])
        masks = [row.mask for row in rows if row.mask is not None]
        if masks:
            batch["masks"] = torch.stack([torch.ones_like(masks[0]) if row.mask is None else row.mask for row in rows])
        return batch

    def _rows(self, example: Example, seed: int | None) -> list[_Row]:
        if seed is None:
            text = self._texts.measured(example["captions"])
            return [self._measured(example, text, share, f"{example['key']}/{share}") for share in _LEVELS]
        # The repetition belongs to it: the same picture twice in one step has two noises.
        grain = f"{seed}/{example['key']}/{example.get('repeat', 0)}"
        rng, objective = random.Random(grain), self._base.objective
        view = rng.randrange(len(example["latents"]))
        rng.randrange(1)  # once an order of the caption, which has random numbers of its own by now: the others stay what they were
        level = objective.drawn(rng, self._base.tokens(example["latents"][view].shape[1:]))
        empty = rng.random() < self._keys.caption_dropout
        text = self._texts.empty if empty else self._texts.drawn(example["captions"], random.Random(f"{grain}/caption"))
        return [self._trained(example, view, text, level, grain)]

    def _measured(self, example: Example, text: Conditioning, share: float, seed: str) -> _Row:
        """Of a held-out picture at the level that ``share`` of the levels lie below: plain noise, the whole picture, no weights of levels,
        so that runs with other keys can be compared."""
        import torch

        chance = noise.generator(seed)
        mean, deviation = example["latents"][0]
        clean = mean + deviation * torch.randn(mean.shape, generator=chance)
        white = torch.randn(mean.shape, generator=chance)
        level = self._base.objective.level(share, self._base.tokens(mean.shape))
        return _Row(clean, white, level, self._weight(example), text, example["extras"][0])

    def _trained(self, example: Example, view: int, text: Conditioning, level: float, seed: str) -> _Row:
        """One picture in one view at one level, with noise of its own."""
        import torch

        chance, keys = noise.generator(seed), self._keys
        mean, deviation = example["latents"][view]
        clean = mean + deviation * torch.randn(mean.shape, generator=chance)
        learned = noise.coloured(torch.randn(mean.shape, generator=chance), keys, chance)
        read = learned + keys.ip_noise_gamma * torch.randn(mean.shape, generator=chance) if keys.ip_noise_gamma else None
        mask = example["masks"][view] if example["masks"] is not None else None
        return _Row(clean, learned, level, self._weight(example), text, example["extras"][view], read, mask)

    def _weight(self, example: Example) -> float:
        return self._keys.prior_loss_weight if example["prior"] else 1.0

    def weight(self, batch: Batch) -> float:
        """Pictures."""
        return float(batch["count"])

    def units(self, batch: Batch) -> float:
        """Pictures."""
        return float(batch["count"])

    def loss(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """The mean error of what is predicted per picture, weighed as objective, mask and prior weight say: the mean over the whole
        picture, of which less counts where a mask says so. Of what is held out, the mean squared error."""
        objective, levels = self._base.objective, batch["levels"]
        noisy = objective.add_noise(batch["clean"], batch.get("read", batch["noise"]), levels)
        guess = model(noisy, levels, batch["conditioning"], batch["extras"])
        target = objective.target(batch["clean"], batch["noise"], levels)
        if guess.shape != target.shape:
            shapes = f"returned {tuple(guess.shape)}, but the latents are {tuple(target.shape)}"
            raise PluginError(f"{type(self._base).__name__}.predict {shapes}: it must answer in the same shape.")
        axes = tuple(range(1, guess.ndim))
        if not model.training:
            apart = (guess.float() - target.float()).square().mean(dim=axes) * batch["weights"]
            measured: Tensor = apart.mean()
            return measured
        errors = objective.errors(guess.float(), target.float(), levels)
        errors = errors * batch["masks"] if "masks" in batch else errors
        mean: Tensor = objective.weigh(errors.mean(dim=axes) * batch["weights"], levels).mean()
        return mean

    # --- to look at, and for readers ---------------------------------------------------------------------------------------

    def sample(self, folder: Path, step: int) -> Path | None:
        """See ``TrainableModel.sample``."""
        return self._samples.draw(self.lora, folder, step) if self._samples is not None else None

    def files(self) -> Mapping[str, bytes]:
        """``preview.png``: of the last pictures the one that is most like the training pictures."""
        if self._samples is None:
            return {}
        preview = self._samples.best([Path(picture.path) for picture, _, _ in self._seen if not picture.prior][:48])
        return {"preview.png": preview} if preview else {}

    def facts(self) -> Mapping[str, Any]:
        """Tags, buckets and base, as the exporters need them."""
        mine = [(picture, caption, bucket) for picture, caption, bucket in self._seen if not picture.prior]
        folders: dict[str, dict[str, Any]] = {}
        for picture, caption, _ in mine:
            place = folders.setdefault(picture.folder or "images", {"repeats": picture.repeats, "pictures": 0, "texts": []})
            place["pictures"] += 1
            place["texts"].append(caption)
        shapes = [(bucket.width, bucket.height) for _, _, bucket in mine]
        return {
            **self._facts,
            "image": {**self._facts.get("image", {}), **self._base.facts()},
            "captions": {
                name: {"repeats": f["repeats"], "pictures": f["pictures"], "tags": tag_counts(f["texts"])} for name, f in folders.items()
            },
            "buckets": [[*shape, shapes.count(shape)] for shape in sorted(set(shapes))],
            "trigger_words": [self._keys.trigger_word] if self._keys.trigger_word else [],
        }
