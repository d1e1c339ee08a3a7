# SPDX-License-Identifier: Apache-2.0
"""What a denoiser learns to predict, and the schedulers that draw with it: noise or velocity (diffusion), or a flow to noise.

A level is what the denoiser is told about the noise in a picture: an integer time in diffusion, 0 (none) to 1 (noise alone) in a flow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

from loraforge import ConfigError, ModelError, speaker

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)


class Objective(ABC):
    """How noise is added, what is predicted, and what draws.

    Attributes:
        samplers: the values of ``--sampler`` that work, with what A1111 calls them; the first is the usual one.
        prediction: what is predicted: epsilon, v_prediction or flow.
        grain: how many levels training tells apart.
        loss_type, huber_c, huber_schedule: how errors count, see ``errors``.
        trained: from which to which level is trained, as parts of the noisiest one.
    """

    samplers: ClassVar[Mapping[str, str]]
    prediction: str
    grain: int
    loss_type: str = "l2"
    huber_c: float = 0.1
    huber_schedule: str = "constant"
    trained: tuple[float, float] = (0.0, 1.0)

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Takes over what a run says of levels and errors, by the names of ``ImageKeys``."""
        self.loss_type = str(settings.get("loss_type") or "l2")
        self.huber_c = float(settings.get("huber_c") or self.huber_c)
        self.huber_schedule = str(settings.get("huber_schedule") or self.huber_schedule)
        first, last = settings.get("min_timestep") or 0, settings.get("max_timestep") or 1000
        self.trained = (first / 1000, last / 1000)

    def drawn(self, chance: Random, tokens: int) -> float:
        """A level to train at, drawn from those that are trained."""
        share = (chance.randrange(self.grain) + 0.5) / self.grain
        if self.trained != (0.0, 1.0):
            low, high = (self.below(bound, tokens) for bound in self.trained)
            share = low + (high - low) * share
        return self.level(share, tokens)

    def below(self, part: float, tokens: int) -> float:
        """The share of the training's levels that lie below ``part`` of the noisiest level: what ``level`` turns round."""
        if part in (0, 1):
            return part
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.level(middle, tokens) < part else (low, middle)
        return (low + high) / 2

    def errors(self, guess: Tensor, target: Tensor, levels: Tensor) -> Tensor:
        """What counts of each number of a guess, (rows, ...): its squared error, or what ``loss_type`` makes of it (as sd-scripts has it).

        With e the error and c the threshold of the row's level, huber is 2 c (sqrt(e² + c²) - c) and smooth_l1 2 (sqrt(e² + c²) - c): like
        e² for small errors, of which the second is scaled by 1 / c.
        """
        apart = guess - target
        if self.loss_type == "l2":
            return apart.square()
        threshold = self.thresholds(levels).to(apart.device, apart.dtype).view(-1, *[1] * (apart.ndim - 1))
        rounded = 2 * ((apart.square() + threshold.square()).sqrt() - threshold)
        return rounded * threshold if self.loss_type == "huber" else rounded

    def thresholds(self, levels: Tensor) -> Tensor:
        """From which error on errors count less, (rows,): constant, or falling from 1 at no noise to ``huber_c`` at the noisiest level."""
        import torch

        parts = self.part(levels)
        if self.huber_schedule == "exponential":
            return self.huber_c**parts
        return torch.full_like(parts, self.huber_c)

    def part(self, levels: Tensor) -> Tensor:
        """Levels as parts of the noisiest one, float32 of 0 to 1."""
        return levels.float()

    @abstractmethod
    def level(self, share: float, tokens: int) -> float:
        """The level below which ``share`` of the training's levels lie: a quantile, so that a random number between 0 and 1 draws from
        the distribution, and fixed ones cover it.

        Args:
            tokens: of the picture, where levels depend on its size.
        """

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """(rows, ...) of each and (rows,) levels -> (rows, ...)."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """What the denoiser should say of it, (rows, ...)."""

    def weigh(self, errors: Tensor, levels: Tensor) -> Tensor:
        """The squared errors of a training step, (rows,), each as much as its level counts."""
        return errors

    @abstractmethod
    def scheduler(self, sampler: str, steps: int, tokens: int, device: Any) -> Any:
        """diffusers' scheduler with its times set; ``sampler`` is one of ``samplers``."""

    def level_of(self, time: Tensor) -> Tensor:
        """The level that a scheduler's time stands for."""
        return time

    def chosen(self, sampler: str) -> str:
        """``sampler``, or the usual one for "auto".

        Raises:
            ConfigError: if this does not work here.
        """
        if sampler == "auto":
            return next(iter(self.samplers))
        if sampler not in self.samplers:
            names = ", ".join(self.samplers)
            raise ConfigError(say("--sampler: {value} does not draw with this base; use {names}.", value=sampler, names=names))
        return sampler


# Schedulers whose noise does not follow a schedule of alphas.
NO_DIFFUSION = ("EDM", "FlowMatch")


def with_terminal_snr(schedule: Any, zero: bool) -> Any:
    """diffusers' DDPMScheduler of the same settings, whose last level is noise alone (Lin et al. 2024), or is not.

    It is made anew: a scheduler computes its noise when it is made, and changing its settings afterwards changes none of it.
    """
    from diffusers import DDPMScheduler

    if zero == bool(schedule.config.get("rescale_betas_zero_snr")):
        return schedule
    spacing = {"timestep_spacing": "trailing"} if zero else {}
    own = {"prediction_type": str(schedule.config.prediction_type), "rescale_betas_zero_snr": zero, **spacing}
    return DDPMScheduler.from_config(schedule.config, **own)


class Diffusion(Objective):
    """Noise (Ho et al. 2020) or velocity (Salimans and Ho 2022) prediction on the base's own schedule, all times equally often.

    Args:
        schedule: the base's scheduler; its config decides.

    Attributes:
        min_snr_gamma: noise levels are weighed by min-SNR (Hang et al. 2023) with it; 0: all alike.
        debiased: whether they are weighed by 1 / sqrt(SNR) (Yu et al. 2023), or 1 / (SNR + 1) where velocity is predicted.
    """

    samplers: ClassVar[Mapping[str, str]] = {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M"}

    def __init__(self, schedule: Any) -> None:
        from diffusers import DDPMScheduler

        kind = type(schedule).__name__
        if kind.startswith(NO_DIFFUSION):
            raise ModelError(say("the base draws with a {name}, which is not a schedule of noise that Diffusion can learn on.", name=kind))
        self.min_snr_gamma, self.debiased, self.huber_schedule = 0.0, False, "snr"
        self.prediction = str(schedule.config.prediction_type)
        self.grain = int(schedule.config.num_train_timesteps)
        # A scheduler that is made for drawing counts its times from the end when it adds noise.
        self._schedule = (
            schedule if isinstance(schedule, DDPMScheduler) else DDPMScheduler.from_config(schedule.config, prediction_type=self.prediction)
        )

    def settle(self, settings: Mapping[str, Any]) -> None:
        super().settle(settings)
        self.min_snr_gamma = float(settings.get("min_snr_gamma") or 0)
        self.debiased = bool(settings.get("debiased_estimation"))

    def level(self, share: float, tokens: int) -> int:
        return int(share * self.grain)

    def drawn(self, chance: Random, tokens: int) -> int:
        """All of the trained times are drawn equally often."""
        first, last = (round(bound * self.grain) for bound in self.trained)
        return first + chance.randrange(max(1, last - first))

    def part(self, levels: Tensor) -> Tensor:
        return levels / self.grain

    def thresholds(self, levels: Tensor) -> Tensor:
        if self.huber_schedule != "snr":
            return super().thresholds(levels)
        alphas = self._schedule.alphas_cumprod.to(levels.device)[levels]
        deviation = ((1 - alphas) / alphas).sqrt()  # infinite where a schedule ends in noise alone, which leaves huber_c
        thresholds: Tensor = (1 - self.huber_c) / (1 + deviation) ** 2 + self.huber_c
        return thresholds

    def add_noise(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        noisy: Tensor = self._schedule.add_noise(clean, noise, levels)
        return noisy

    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        if self.prediction != "v_prediction":
            return noise
        velocity: Tensor = self._schedule.get_velocity(clean, noise, levels)
        return velocity

    def weigh(self, errors: Tensor, levels: Tensor) -> Tensor:
        if not self.min_snr_gamma and not self.debiased:
            return errors
        import torch
        from diffusers.training_utils import compute_snr

        snr = compute_snr(self._schedule, levels).clamp_min(1e-8)  # a schedule that ends in pure noise has an SNR of zero there
        velocity = self.prediction == "v_prediction"
        if self.min_snr_gamma:
            errors = errors * torch.clamp(snr, max=self.min_snr_gamma) / (snr + 1 if velocity else snr)
        if self.debiased:
            snr = snr.clamp_max(1000)  # as sd-scripts has it: without any noise the weight would be nothing
            errors = errors / (snr + 1 if velocity else snr.sqrt())
        return errors

    def scheduler(self, sampler: str, steps: int, tokens: int, device: Any) -> Any:
        import diffusers

        config = self._schedule.config
        # Given apart: what a base's file does not say is a default, and defaults in a config are replaced by the new scheduler's.
        own: dict[str, Any] = {"prediction_type": self.prediction}
        if sampler == "ddim":
            own["clip_sample"] = False
        if config.get("rescale_betas_zero_snr"):
            own["timestep_spacing"] = "trailing"
        kinds = {
            "ddim": diffusers.DDIMScheduler,
            "euler": diffusers.EulerDiscreteScheduler,
            "euler_a": diffusers.EulerAncestralDiscreteScheduler,
            "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
        }
        made = kinds[sampler].from_config(config, **own)
        made.set_timesteps(steps, device=device)
        return made


class FlowMatching(Objective):
    """The flow from a picture to noise (Lipman et al. 2022; Esser et al. 2024): of the mixture (1 - level) x picture + level x noise the
    denoiser says noise - picture.

    Levels are drawn as the sigmoid of a normal number, then shifted towards noise: k s / (1 + (k - 1) s).

    Args:
        schedule: the base's FlowMatchEulerDiscreteScheduler; its config decides how it draws.
        shift: k of the training, which differs from the scheduler's in most published recipes.
        mu: for bases whose shift depends on the size: the logarithm of k for so many tokens, in training and in drawing.
        drawn_mu: for drawing, where it is another one: by the numbers of tokens and of steps.
        sigmas: the levels that are drawn through, by the number of steps; by default the scheduler's own.
    """

    samplers: ClassVar[Mapping[str, str]] = {"euler": "Euler"}
    prediction = "flow"
    grain = 2**20

    def __init__(
        self,
        schedule: Any,
        shift: float = 1.0,
        mu: Callable[[int], float] | None = None,
        sigmas: Callable[[int], Sequence[float]] | None = None,
        drawn_mu: Callable[[int, int], float] | None = None,
    ) -> None:
        self._schedule, self._shift, self._mu, self._sigmas, self._drawn_mu = schedule, shift, mu, sigmas, drawn_mu
        self._times = int(schedule.config.num_train_timesteps)

    def level(self, share: float, tokens: int) -> float:
        import math

        shift = self._shift if self._mu is None else math.exp(self._mu(tokens))
        plain = 1 / (1 + math.exp(-NormalDist().inv_cdf(share)))
        return shift * plain / (1 + (shift - 1) * plain)

    def add_noise(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        share = levels.view(-1, *[1] * (clean.ndim - 1))
        return (1 - share) * clean + share * noise

    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        return noise - clean

    def scheduler(self, sampler: str, steps: int, tokens: int, device: Any) -> Any:
        from diffusers import FlowMatchEulerDiscreteScheduler

        made = FlowMatchEulerDiscreteScheduler.from_config(self._schedule.config)
        shifted = {} if self._mu is None else {"mu": self._mu(tokens)}
        if self._drawn_mu is not None:
            shifted = {"mu": self._drawn_mu(tokens, steps)}
        if self._sigmas is None:
            made.set_timesteps(steps, device=device, **shifted)
        else:
            made.set_timesteps(sigmas=list(self._sigmas(steps)), device=device, **shifted)
        return made

    def level_of(self, time: Tensor) -> Tensor:
        return time / self._times
