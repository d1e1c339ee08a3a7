"""An image model with a LoRA, as the loop sees it. Pictures and captions are encoded once; a step sees latents only."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Batch, Example, PluginError, RunConfig, Span, TrainableLora, TrainableModel, cache_folder

from ..data.buckets import Bucket, buckets, choose, fit
from ..data.captions import shuffled, tag_counts
from ..data.pictures import content_hash, read_picture
from ..records import ImageKeys, Picture
from .image_base import Conditioning, Framing, ImageBase
from .latent_cache import Cache, weights_hash
from .samples import Samples

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_CROPS = 4  # places that a random crop is drawn from; each is encoded once
_SHUFFLES = 8  # orders that a shuffled caption is drawn from
# The held-out loss is measured at these quantiles of the levels, each with noise of its own that never changes.
_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class _Row:
    """One picture of a batch."""

    clean: Tensor
    noise: Tensor
    level: float
    weight: float
    text: Conditioning
    extras: Conditioning


class TrainableImages(TrainableModel):
    """A base behind the seam with a LoRA, on cached latents."""

    def __init__(
        self, base: ImageBase, lora: TrainableLora, config: RunConfig, keys: ImageKeys, device: torch.device, facts: Mapping[str, Any]
    ) -> None:
        self.lora = lora
        self._base, self._config, self._keys, self._device, self._facts = base, config, keys, device, dict(facts)
        self._buckets = buckets(keys.resolution, keys.bucket_step, keys.bucket_max_ratio)
        self._cache = Cache(Path(keys.cache_dir).expanduser() if keys.cache_dir else cache_folder())
        self._vae_hash = weights_hash(base.pipe.vae)
        self._text_hash = "" if base.trains_text else "/".join(weights_hash(encoder) for encoder in base.text_encoders.values())
        self._empty = self._text("")
        self._seen: list[tuple[Picture, str, Bucket]] = []
        self._samples: Samples | None = None

    # --- once per record ---------------------------------------------------------------------------------------------------

    def encode(self, record: Any, text: Sequence[Span]) -> Example:
        """Latents of every view of a picture and embeddings (or token ids) of every order of its caption.

        Raises:
            DataError: if the picture cannot be read.
        """
        image = read_picture(Path(record.path))
        bucket = choose(image.size, self._keys, self._buckets)
        caption = "".join(span.text for span in text)
        content = content_hash(image)
        views = self._views(record)
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
            for view in views
        ]
        self._seen.append((record, caption, bucket))
        return {
            "key": hashlib.sha256(f"{content} {caption}".encode()).hexdigest(),
            "latents": latents,
            "texts": [self._text(order) for order in self._orders(caption)],
            "bucket": (bucket.width, bucket.height),
            "extras": [self._base.extras(_framing(image.size, bucket, view)) for view in views],
            "prior": bool(record.prior),
        }

    def _views(self, record: Picture) -> list[tuple[float, float, bool]]:
        """(left, top, mirrored) of every crop that is drawn from; the first is the one that is measured."""
        places = [(0.5, 0.5)]
        if self._keys.crop == "random":
            rng = random.Random(record.sha256)
            places += [(rng.random(), rng.random()) for _ in range(_CROPS - 1)]
        return [(x, y, mirrored) for mirrored in ((False, True) if self._keys.flip else (False,)) for x, y in places]

    def _orders(self, caption: str) -> list[str]:
        if not self._keys.caption_shuffle:
            return [caption]
        rng = random.Random(caption)
        return list(dict.fromkeys([caption, *(shuffled(caption, self._keys.keep_tokens, rng) for _ in range(_SHUFFLES - 1))]))

    def _latents(self, image: Any, bucket: Bucket, view: tuple[float, float, bool]) -> Tensor:
        """float32 (2, channels, ...): mean and standard deviation, scaled as the denoiser expects them."""
        import numpy as np
        import torch

        self._base.pipe.vae.to(self._device)
        fitted = fit(image, bucket, view[:2])
        pixels = torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)[None].float().div(127.5).sub(1)
        pixels = pixels.flip(3) if view[2] else pixels
        with torch.no_grad():
            return self._base.encode(pixels)

    def _text(self, caption: str) -> Conditioning:
        """What the denoiser reads of a caption, or what is kept of it for text encoders that learn; on the CPU."""
        import torch

        if self._base.trains_text:
            return self._base.embed(caption)

        def make() -> dict[str, Tensor]:
            for encoder in self._base.text_encoders.values():
                encoder.to(self._device)
            with torch.no_grad():
                found: Any = self._base.embed(caption)
            if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
                raise PluginError(
                    f"{type(self._base).__name__}.embed must return a mapping of names to tensors; got {type(found).__name__}."
                )
            return {name: value.cpu() for name, value in found.items()}

        return self._cache.get({**self._base.embed_key(caption), "encoder": self._text_hash}, make)

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
            self._samples = Samples(
                self._base, self._keys, prompts, (side, side), self._text, self._device, continued=bool(self._config.init_from_adapter)
            )
        self._base.forget_encoders()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

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
        return {
            "count": len(examples),
            "clean": torch.stack([row.clean for row in rows]),
            "noise": torch.stack([row.noise for row in rows]),
            "levels": torch.tensor([row.level for row in rows]),
            "weights": torch.tensor([row.weight for row in rows]),
            "conditioning": self._base.join([row.text for row in rows]),
            "extras": {name: torch.stack([row.extras[name] for row in rows]) for name in rows[0].extras},
        }

    def _rows(self, example: Example, seed: int | None) -> list[_Row]:
        if seed is None:
            return [self._row(example, 0, example["texts"][0], share, f"{example['key']}/{share}") for share in _LEVELS]
        # The repetition belongs to it: the same picture twice in one step has two noises.
        noise = f"{seed}/{example['key']}/{example.get('repeat', 0)}"
        rng, grain = random.Random(noise), self._base.objective.grain
        view, order, drawn = rng.randrange(len(example["latents"])), rng.randrange(len(example["texts"])), rng.randrange(grain)
        text = self._empty if rng.random() < self._keys.caption_dropout else example["texts"][order]
        return [self._row(example, view, text, (drawn + 0.5) / grain, noise)]

    def _row(self, example: Example, view: int, text: Conditioning, share: float, seed: str) -> _Row:
        """One picture in one view, with noise of its own at the level that ``share`` of the levels lie below."""
        import torch

        generator = torch.Generator().manual_seed(int(hashlib.sha256(seed.encode()).hexdigest()[:15], 16))
        mean, deviation = example["latents"][view]
        clean = mean + deviation * torch.randn(mean.shape, generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        if self._keys.noise_offset:
            noise = noise + self._keys.noise_offset * torch.randn((mean.shape[0], *[1] * (mean.ndim - 1)), generator=generator)
        weight = self._keys.prior_loss_weight if example["prior"] else 1.0
        level = self._base.objective.level(share, self._base.tokens(mean.shape))
        return _Row(clean, noise, level, weight, text, example["extras"][view])

    def weight(self, batch: Batch) -> float:
        """Pictures."""
        return float(batch["count"])

    def units(self, batch: Batch) -> float:
        """Pictures."""
        return float(batch["count"])

    def loss(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of what is predicted per picture, weighed as the objective and the prior weight say."""
        objective, levels = self._base.objective, batch["levels"]
        noisy = objective.add_noise(batch["clean"], batch["noise"], levels)
        guess = model(noisy, levels, batch["conditioning"], batch["extras"])
        target = objective.target(batch["clean"], batch["noise"], levels)
        if guess.shape != target.shape:
            shapes = f"returned {tuple(guess.shape)}, but the latents are {tuple(target.shape)}"
            raise PluginError(f"{type(self._base).__name__}.predict {shapes}: it must answer in the same shape.")
        each = (guess.float() - target.float()).square().mean(dim=tuple(range(1, guess.ndim))) * batch["weights"]
        # What is measured on held-out pictures stays comparable between runs.
        mean: Tensor = (objective.weigh(each, levels) if model.training else each).mean()
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
            "captions": {
                name: {"repeats": f["repeats"], "pictures": f["pictures"], "tags": tag_counts(f["texts"])} for name, f in folders.items()
            },
            "buckets": [[*shape, shapes.count(shape)] for shape in sorted(set(shapes))],
            "trigger_words": [self._keys.trigger_word] if self._keys.trigger_word else [],
        }


def _framing(size: tuple[int, int], bucket: Bucket, view: tuple[float, float, bool]) -> Framing:
    """How a picture of ``size`` comes to its bucket in a view."""
    factor = max(bucket.width / size[0], bucket.height / size[1])
    left, top = (round(size[i] * factor - side) * view[i] for i, side in enumerate((bucket.width, bucket.height)))
    return Framing(size, (round(left), round(top)), (bucket.width, bucket.height))
