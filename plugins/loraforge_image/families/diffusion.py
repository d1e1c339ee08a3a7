"""What all Stable Diffusion families share: the model that is trained. Pictures and captions are encoded once; a step sees latents only."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Batch, Example, RunConfig, Span, TrainableLora, TrainableModel

from ..data.buckets import Bucket, assign, buckets, fit
from ..data.captions import shuffled, tag_counts
from ..data.pictures import content_hash, read_picture
from ..records import ImageKeys, Picture
from .latent_cache import Cache, default_folder, weights_hash
from .parts import Parts, embed, token_ids
from .samples import Samples

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_CROPS = 4  # places that a random crop is drawn from; each is encoded once
_SHUFFLES = 8  # orders that a shuffled caption is drawn from
# The held-out loss is measured at these shares of the noise schedule, each with noise of its own that never changes.
_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def make_network(parts: Parts, text: bool) -> torch.nn.Module:
    """The module that is trained: the U-Net, with the text encoders if they are trained too."""
    import torch

    class Network(torch.nn.Module):
        """U-Net and text encoders as one module, so that one LoRA, one optimizer and one checkpoint hold both."""

        def __init__(self) -> None:
            super().__init__()
            self.unet = parts.unet
            if text:
                for index, encoder in enumerate(parts.text_encoders):
                    self.add_module("text_encoder" if index == 0 else "text_encoder_2", encoder)

        def forward(self, noisy: Tensor, times: Tensor, batch: Mapping[str, Any], clip_skip: int) -> Tensor:
            """The prediction, (pictures, 4, height / 8, width / 8)."""
            context, pooled = batch.get("context"), batch.get("pooled")
            if "ids" in batch:
                encoders = [module for name, module in self.named_children() if name != "unet"]
                context, pooled = embed(parts.family, encoders, batch["ids"], clip_skip)
            extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": batch["time_ids"]}} if parts.family == "sdxl" else {}
            assert context is not None
            guess: Tensor = self.unet(noisy.to(parts.dtype), times, context.to(parts.dtype), **extra).sample
            return guess

    return Network()


class TrainableDiffusion(TrainableModel):
    """Stable Diffusion with a LoRA: noise (or velocity) prediction on cached latents."""

    def __init__(
        self, parts: Parts, lora: TrainableLora, config: RunConfig, keys: ImageKeys, device: torch.device, facts: Mapping[str, Any]
    ) -> None:
        self.lora = lora
        self._parts, self._config, self._keys, self._device, self._facts = parts, config, keys, device, dict(facts)
        self._trains_text = keys.train_text_encoder
        self._buckets = buckets(keys.resolution, keys.bucket_step, keys.bucket_max_ratio)
        self._cache = Cache(Path(keys.cache_dir).expanduser() if keys.cache_dir else default_folder())
        self._vae_hash = weights_hash(parts.vae)
        self._text_hash = "" if self._trains_text else "/".join(weights_hash(encoder) for encoder in parts.text_encoders)
        self._windows = keys.max_caption_tokens // 75
        self._empty: Mapping[str, Any] = self._text("")
        self._seen: list[tuple[Picture, str, Bucket]] = []
        self._samples: Samples | None = None
        self._alphas = parts.scheduler.alphas_cumprod

    # --- once per record ---------------------------------------------------------------------------------------------------

    def encode(self, record: Any, text: Sequence[Span]) -> Example:
        """Latents of every view of a picture and embeddings (or token ids) of every order of its caption.

        Raises:
            DataError: if the picture cannot be read.
        """
        image = read_picture(Path(record.path))
        bucket = assign(image.size, self._buckets)
        caption = "".join(span.text for span in text)
        content = content_hash(image)
        views = self._views(record)
        latents = [
            self._cache.get(
                {"picture": content, "size": [bucket.width, bucket.height], "view": list(view), "encoder": self._vae_hash, "version": 1},
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
            "times": [self._time_ids(image.size, bucket, view) for view in views],
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

    def _latents(self, image: Any, bucket: Bucket, view: tuple[float, float, bool]) -> Any:
        """float32 (2, 4, height / 8, width / 8): mean and standard deviation, scaled as the U-Net expects them."""
        import numpy as np
        import torch

        vae = self._parts.vae.to(self._device)
        fitted = fit(image, bucket, view[:2])
        pixels = torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)[None].float().div(127.5).sub(1)
        pixels = pixels.flip(3) if view[2] else pixels
        with torch.no_grad():
            posterior = vae.encode(pixels.to(self._device)).latent_dist
        factor = vae.config.scaling_factor
        return torch.cat([posterior.mean * factor, posterior.std * factor]).float().cpu()

    def _time_ids(self, size: tuple[int, int], bucket: Bucket, view: tuple[float, float, bool]) -> list[int]:
        """SDXL's (original height, width, crop top, left, target height, width)."""
        factor = max(bucket.width / size[0], bucket.height / size[1])
        left, top = (round(size[i] * factor - side) * view[i] for i, side in enumerate((bucket.width, bucket.height)))
        return [size[1], size[0], round(top), round(left), bucket.height, bucket.width]

    def _text(self, caption: str) -> Mapping[str, Any]:
        """``ids``, or ``context`` and SDXL's ``pooled`` where the text encoders are not trained."""
        import torch

        ids = token_ids(self._parts, caption, self._windows)
        if self._trains_text:
            return {"ids": ids}

        def make() -> dict[str, Any]:
            encoders = [encoder.to(self._device) for encoder in self._parts.text_encoders]
            with torch.no_grad():
                context, pooled = embed(self._parts.family, encoders, ids[None].to(self._device), self._keys.clip_skip)
            made = {"context": context[0].to(self._parts.dtype).cpu()}
            return made if pooled is None else {**made, "pooled": pooled[0].to(self._parts.dtype).cpu()}

        key = {"ids": ids.tolist(), "encoder": self._text_hash, "clip_skip": self._keys.clip_skip, "version": 1}
        return self._cache.get(key, make)

    def on_encoded(self) -> None:
        """Prepares the sample pictures; then the encoders leave memory, and of the autoencoder what only encoding needs."""
        import gc

        import torch

        texts = [caption for picture, caption, _ in self._seen if not picture.prior]
        wanted = self._keys.sample_prompts
        prompts = list(wanted) if wanted is not None else list(dict.fromkeys(texts))[:4]
        vae = self._parts.vae.to("cpu")
        side = self._keys.resolution // self._keys.bucket_step * self._keys.bucket_step
        if prompts:
            self._samples = Samples(self._parts, self._keys, prompts, (side, side), self._text, self._device)
        for name in ("encoder", "quant_conv"):
            if getattr(vae, name, None) is not None:
                setattr(vae, name, None)
        if not self._trains_text:
            self._parts.text_encoders.clear()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    # --- steps -------------------------------------------------------------------------------------------------------------

    def group(self, example: Example) -> Hashable:
        """The bucket."""
        bucket: tuple[int, int] = example["bucket"]
        return bucket

    def collate(self, examples: Sequence[Example], seed: int | None = None) -> Batch:
        """``clean``, ``noise`` (rows, 4, h, w), ``times`` (rows,), ``weights`` (rows,) and the captions; several rows for each picture
        when held-out pictures are measured."""
        import torch

        rows = [row for example in examples for row in self._rows(example, seed)]
        batch: dict[str, Any] = {"count": len(examples)}
        for name in rows[0]:
            values = [row[name] for row in rows]
            batch[name] = torch.stack(values) if hasattr(values[0], "shape") else torch.tensor(values)
        return batch

    def _rows(self, example: Example, seed: int | None) -> list[dict[str, Any]]:
        steps = int(self._parts.scheduler.config.num_train_timesteps)
        if seed is None:
            return [self._row(example, 0, example["texts"][0], int(level * steps), f"{example['key']}/{level}") for level in _LEVELS]
        # The repetition belongs to it: the same picture twice in one step has two noises.
        noise = f"{seed}/{example['key']}/{example.get('repeat', 0)}"
        rng = random.Random(noise)
        view, order, time = rng.randrange(len(example["latents"])), rng.randrange(len(example["texts"])), rng.randrange(steps)
        text = self._empty if rng.random() < self._keys.caption_dropout else example["texts"][order]
        return [self._row(example, view, text, time, noise)]

    def _row(self, example: Example, view: int, text: Mapping[str, Any], time: int, seed: str) -> dict[str, Any]:
        import torch

        generator = torch.Generator().manual_seed(int(hashlib.sha256(seed.encode()).hexdigest()[:15], 16))
        mean, deviation = example["latents"][view]
        clean = mean + deviation * torch.randn(mean.shape, generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        if self._keys.noise_offset:
            noise = noise + self._keys.noise_offset * torch.randn((mean.shape[0], 1, 1), generator=generator)
        weight = self._keys.prior_loss_weight if example["prior"] else 1.0
        return {"clean": clean, "noise": noise, "times": time, "weights": weight, "time_ids": example["times"][view], **text}

    def weight(self, batch: Batch) -> float:
        """Pictures."""
        return float(batch["count"])

    def units(self, batch: Batch) -> float:
        """Pictures."""
        return float(batch["count"])

    def loss(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the predicted noise (or velocity) per picture, weighed by min-SNR if that is set."""
        import torch
        from diffusers.training_utils import compute_snr

        scheduler, times, noise = self._parts.scheduler, batch["times"], batch["noise"]
        noisy = scheduler.add_noise(batch["clean"], noise, times)
        batch = {**batch, "time_ids": batch["time_ids"].to(noisy.dtype)}
        guess = model(noisy, times, batch, self._keys.clip_skip)
        velocity = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(batch["clean"], noise, times) if velocity else noise
        per_picture = (guess.float() - target.float()).square().mean(dim=(1, 2, 3)) * batch["weights"]
        gamma = self._keys.min_snr_gamma
        if gamma and model.training:
            snr = compute_snr(scheduler, times).clamp_min(1e-8)  # a schedule that ends in pure noise has an SNR of zero there
            per_picture = per_picture * torch.clamp(snr, max=gamma) / (snr + 1 if velocity else snr)
        mean: Tensor = per_picture.mean()
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
