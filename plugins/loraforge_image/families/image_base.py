# SPDX-License-Identifier: Apache-2.0
"""The seam for image models: a loaded base, as the loop, the cache, the sample pictures, the evaluation and the exporters know it.

Four roles beside the objective: latents (``encode``, ``decode``), conditioning (``embed``, ``join``), the denoiser (``predict``), and
which layers learn (``targets``). What a family does in its own way is behind one of them: packing, position ids, scales of time, signs.
"""

from __future__ import annotations

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from loraforge import PluginError, RunConfig

from .objectives import NO_DIFFUSION, Diffusion, FlowMatching, Objective, with_terminal_snr
from .targets import linear_layers, narrowed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..records import ImageKeys

# What a caption was made into, by name: tensors without a batch axis for one caption, and with one for a batch.
Conditioning = Mapping[str, Any]


@dataclass(frozen=True)
class Framing:
    """How a picture came to its size.

    Attributes:
        original: (width, height) of the file.
        crop: (left, top) of what was cut off, in pixels after resizing.
        target: (width, height) as it is trained.
    """

    original: tuple[int, int]
    crop: tuple[int, int]
    target: tuple[int, int]


class ImageBase(ABC):
    """A loaded base of one family.

    Args:
        pipe: the diffusers pipeline that holds its parts; nothing of it is called unless the family does.
        settings: what was asked for, by the names of ``ImageKeys``.

    Attributes:
        denoiser_name: what the pipeline calls the part that learns.
        vae_scale: pixels of one latent, each way.
        layers: which linear layers of the denoiser a LoRA may be put on: a regular expression that finds their paths.
        guided: whether drawing follows the prompt by classifier-free guidance; a distilled base does not.
        usual_steps, usual_cfg: what its pictures are drawn with where nobody says.
        device, dtype: where it is, and in which type its weights are.
        cfg: the strength of the guidance while a picture is drawn, for denoisers that are told; None in training and in evaluation.
        blank: what ``embed`` makes of no caption, for families that fill up the shorter captions of a batch with it.
        assisted: whether a training adapter acts, where there is one: not while a picture is drawn.
        uncut: whether ``embed`` is given what is to be drawn, which is not cut at the longest caption of the training.
        version: of what ``encode`` and ``embed`` call; raise it when that changes, so that cached results are made again.
    """

    denoiser_name: ClassVar[str] = "transformer"
    vae_scale: ClassVar[int] = 8
    layers: ClassVar[str] = ""
    guided: bool = True
    usual_steps: int = 20
    usual_cfg: float = 7.0
    version: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        """Raises:
        TypeError: if a method is spelt almost as one of these: it would never be called.
        """
        super().__init_subclass__()
        known = [name for name in dir(ImageBase) if not name.startswith("_")]
        for name, method in vars(cls).items():
            strange = callable(method) and not name.startswith("_") and name not in known
            meant = difflib.get_close_matches(name, known, 1, 0.9) if strange else []
            if meant:
                raise TypeError(f"{cls.__name__}.{name} is never called; did you mean {meant[0]}?")

    def __init__(self, pipe: Any, dtype: torch.dtype, settings: Mapping[str, Any]) -> None:
        self.pipe, self.dtype, self.settings = pipe, dtype, dict(settings)
        self.device: Any = pipe.vae.device
        self.cfg: float | None = None
        self.assisted = True
        self.trains_text = bool(settings.get("train_text_encoder"))
        predicted, ends = settings.get("prediction_type") or "auto", settings.get("zero_terminal_snr")
        if predicted != "auto":
            pipe.scheduler.register_to_config(prediction_type=predicted)
        if isinstance(ends, bool) and not type(pipe.scheduler).__name__.startswith(NO_DIFFUSION):
            pipe.scheduler = with_terminal_snr(pipe.scheduler, ends)
        self.blank: Conditioning | None = None
        self.uncut = False
        self.objective = self.make_objective()
        if isinstance(self.objective, Objective):
            self.objective.settle(settings)
        self._network: torch.nn.Module | None = None
        self._tokenizers_read = ""
        for part in (self.denoiser, pipe.vae, *self.text_encoders.values()):
            part.requires_grad_(False)
            part.eval()

    @property
    def denoiser(self) -> torch.nn.Module:
        """The part that learns."""
        part: torch.nn.Module | None = getattr(self.pipe, self.denoiser_name, None)
        if part is None:
            names = ", ".join(sorted(self.pipe.components))
            raise PluginError(f"{type(self).__name__}: denoiser_name is '{self.denoiser_name}', but the pipeline has {names}.")
        return part

    @property
    def text_encoders(self) -> dict[str, Any]:
        """The text encoders that are in memory, by the pipeline's names."""
        names = sorted(name for name in self.pipe.components if name.startswith("text_encoder"))
        return {name: part for name in names if (part := getattr(self.pipe, name, None)) is not None}

    def make_objective(self) -> Objective:
        """What the base predicts, as its scheduler says."""
        schedule = self.pipe.scheduler
        if type(schedule).__name__.startswith("FlowMatch"):
            return FlowMatching(schedule)
        return Diffusion(schedule)

    # --- latents -----------------------------------------------------------------------------------------------------------------

    def encode(self, pixels: Tensor) -> Tensor:
        """One picture, float32 (1, 3, height, width) of -1 to 1, as the denoiser reads it: float32 (2, channels, ...), mean and standard
        deviation. Not packed."""
        import torch

        vae = self.pipe.vae
        posterior = vae.encode(pixels.to(vae.device)).latent_dist
        factor, shift = vae.config.scaling_factor, vae.config.get("shift_factor") or 0.0
        mean = posterior.mean - shift if shift else posterior.mean
        return torch.cat([mean * factor, posterior.std * factor]).float().cpu()

    def decode(self, latents: Tensor) -> Tensor:
        """One picture, (1, channels, ...) -> (1, 3, height, width) of about -1 to 1."""
        vae = self.pipe.vae
        shift = vae.config.get("shift_factor") or 0.0
        scaled = latents.to(vae.device) / vae.config.scaling_factor
        pixels: Tensor = vae.decode(scaled + shift if shift else scaled).sample
        return pixels

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """The shape of one picture's latents, (channels, ...), for its size in pixels."""
        return (int(self.pipe.vae.config.latent_channels), height // self.vae_scale, width // self.vae_scale)

    def extras(self, framing: Framing) -> Conditioning:
        """What else the denoiser is told of a picture, without a batch axis: SDXL's sizes."""
        return {}

    @property
    def side(self) -> int:
        """The side in pixels that the base is made for."""
        return int(getattr(self.denoiser.config, "sample_size", None) or 1024 // self.vae_scale) * self.vae_scale

    # --- conditioning ------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def embed(self, caption: str) -> Conditioning:
        """What the denoiser reads of a caption, without a batch axis, on any device; called without gradients, and kept on disk."""

    def embed_negative(self, caption: str) -> Conditioning:
        """What the denoiser reads of what a picture is drawn without, and of a caption that ``caption_dropout`` hides: as ``embed``, unless
        the base was made with something around a prompt that stands around no negative one."""
        return self.embed(caption)

    def latent_key(self) -> Mapping[str, Any]:
        """All that decides ``encode``'s result besides the pixels and the autoencoder's weights, as plain JSON values."""
        config = {name: value for name, value in self.pipe.vae.config.items() if not name.startswith("_")}
        return {"encode": _identity(type(self).encode), "autoencoder": config, "version": self.version}

    def embed_key(self, caption: str) -> Mapping[str, Any]:
        """All that decides ``embed``'s result besides the text encoders' weights, as plain JSON values."""
        return {"caption": caption, "embed": _identity(type(self).embed), "tokenizers": self._tokenizer_hash(), "version": self.version}

    def negative_key(self, caption: str) -> Mapping[str, Any]:
        """The same of ``embed_negative``: that of ``embed``, unless it is another."""
        plain = type(self).embed_negative is ImageBase.embed_negative
        return {**self.embed_key(caption), **({} if plain else {"negative": _identity(type(self).embed_negative)})}

    def _tokenizer_hash(self) -> str:
        if not self._tokenizers_read:
            for name, part in sorted(self.pipe.components.items()):
                if name.startswith("tokenizer") and part is not None:
                    words = part.backend_tokenizer.to_str() if hasattr(part, "backend_tokenizer") else sorted(part.get_vocab().items())
                    self._tokenizers_read += hashlib.sha256(f"{words} {getattr(part, 'chat_template', '')}".encode()).hexdigest()
        return self._tokenizers_read

    def join(self, rows: Sequence[Conditioning]) -> Conditioning:
        """Rows to a batch: stacked. A family whose captions differ in length pads them with a mask, or makes lists of them."""
        import torch

        for name in rows[0]:
            shapes = {tuple(row[name].shape) for row in rows}
            if len(shapes) > 1:
                kind, found = type(self).__name__, ", ".join(map(str, sorted(shapes)))
                raise PluginError(f"{kind}: '{name}' of several captions has the shapes {found}; write join, to pad or list them.")
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def read_captions(self, captions: Sequence[str]) -> None:
        """All captions of a run, told once and before the first step: a family may make every batch as long as the longest needs."""
        return

    def condition(self, captions: Sequence[str], negatives: Sequence[str] = ()) -> Conditioning:
        """A batch of what is to be drawn: the negative prompts, and then the captions."""
        return self.join([*map(self.embed_negative, negatives), *map(self.embed, captions)])

    def resolve(self, conditioning: Conditioning) -> Conditioning:
        """What ``embed`` left to the step, because text encoders that learn give another result each time."""
        return conditioning

    # --- denoiser ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        """What the denoiser says of (rows, channels, ...) at (rows,) levels: the objective's target, in the same shape."""

    def guide(self, without: Tensor, guess: Tensor, cfg: float) -> Tensor:
        """Classifier-free guidance (Ho and Salimans 2022): of the guesses without and with the prompt."""
        return without + cfg * (guess - without)

    def tokens(self, shape: Sequence[int]) -> int:
        """How many tokens the denoiser makes of latents of ``shape``, for levels that depend on it: one of 2 x 2."""
        return int(shape[-1] * shape[-2] // 4)

    # --- layers ------------------------------------------------------------------------------------------------------------------

    def targets(self, config: RunConfig, keys: ImageKeys, network: torch.nn.Module) -> dict[str, int]:
        """The layers that get a LoRA, by their names in ``network`` (the pipeline's part, then the path), each with its rank.

        Raises:
            ConfigError: if ``lora_target`` means none.
        """
        found = linear_layers(network, self.denoiser_name, self.layers, config.lora_rank)
        if not found:
            some = list(linear_layers(network, self.denoiser_name, "", 1))[:6]
            names = ", ".join(name.partition(".")[2] for name in some)
            raise PluginError(f"{type(self).__name__}: layers finds no linear layer of the denoiser. There are: {names} ...")
        return narrowed(found, config.lora_target)

    def replace(self) -> Mapping[str, int]:
        """Exchanges what computes the same in less, in place; how many modules, by kind."""
        return {}

    # --- memory ------------------------------------------------------------------------------------------------------------------

    def to(self, device: Any) -> None:
        """Moves what learns; encoders and autoencoder follow when they are used."""
        self.device = device
        self.network.to(device)

    @property
    def network(self) -> torch.nn.Module:
        """The module that is trained: the denoiser, with the text encoders if they are trained too."""
        if self._network is None:
            self._network = make_network(self, self.text_encoders if self.trains_text else {})
        return self._network

    def enable_gradient_checkpointing(self) -> None:
        """Of everything that learns."""
        denoiser: Any = self.denoiser
        denoiser.enable_gradient_checkpointing()
        for encoder in self.text_encoders.values() if self.trains_text else ():
            encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def forget_encoders(self) -> None:
        """Lets go of what only encoding pictures needed: the autoencoder keeps its decoder, for drawing."""
        for name in ("encoder", "quant_conv"):
            if getattr(self.pipe.vae, name, None) is not None:
                setattr(self.pipe.vae, name, None)

    def forget_text_encoders(self) -> None:
        """Lets go of text encoders that do not learn: nothing is embedded any more."""
        for name in () if self.trains_text else tuple(self.text_encoders):
            setattr(self.pipe, name, None)

    def facts(self) -> Mapping[str, Any]:
        """What is kept with an adapter beside the settings, because drawing and exporting need it: plain JSON values."""
        return {}


def _identity(function: Any) -> str:
    """Where a function was written, and what it does."""
    from loraforge.kernels import program

    return f"{function.__module__}.{function.__qualname__} {program.digest(function)}"


def make_network(base: ImageBase, encoders: Mapping[str, torch.nn.Module]) -> torch.nn.Module:
    """Denoiser and text encoders as one module, so that one LoRA, one optimizer and one checkpoint hold both."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(base.denoiser_name, base.denoiser)
            for name, encoder in encoders.items():
                self.add_module(name, encoder)

        def forward(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
            """``ImageBase.predict``."""
            return base.predict(noisy, levels, base.resolve(conditioning), extras)

    return Network()
