# SPDX-License-Identifier: Apache-2.0
"""What is learned at which level of noise: against scipy's distributions and diffusers' own schedulers."""

from __future__ import annotations

import math

import pytest
from loraforge_image.families import Diffusion, FlowMatching
from loraforge_image.families.objectives import with_terminal_snr

from loraforge import ConfigError, ModelError

SHARES = (0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999)


def flow(dynamic: bool = False, **options):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatching(FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic), **options)


def noise_schedule(prediction: str = "epsilon", **options):
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction, **options)


@pytest.mark.parametrize("share", SHARES)
def test_levels_of_a_flow_are_quantiles_of_the_logit_normal_distribution(share):
    from scipy import special, stats

    plain = special.expit(stats.norm.ppf(share))
    assert flow().level(share, 1024) == pytest.approx(plain, rel=1e-9)
    assert flow(shift=3.0).level(share, 1024) == pytest.approx(3 * plain / (1 + 2 * plain), rel=1e-9)
    by_size = flow(mu=lambda tokens: tokens / 1024)  # exp(mu) is the shift
    assert by_size.level(share, 2048) == pytest.approx(math.exp(2) * plain / (1 + (math.exp(2) - 1) * plain), rel=1e-9)


def test_a_flow_goes_from_the_picture_to_the_noise():
    import torch

    clean, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    made = flow()
    levels = torch.tensor([0.0, 0.25, 1.0])
    noisy = made.add_noise(clean, noise, levels)
    torch.testing.assert_close(noisy[0], clean[0])
    torch.testing.assert_close(noisy[1], 0.75 * clean[1] + 0.25 * noise[1])
    torch.testing.assert_close(noisy[2], noise[2])
    # One step of diffusers' scheduler along what should be predicted ends at the picture.
    scheduler = made.scheduler("euler", 1, 4, "cpu")
    scheduler.set_timesteps(sigmas=[1.0], device="cpu")
    done = scheduler.step(made.target(clean, noise, levels)[2], scheduler.timesteps[0], noise[2], return_dict=False)[0]
    torch.testing.assert_close(done, clean[2])
    assert made.weigh(levels, levels) is levels


def test_the_times_of_a_flows_scheduler_are_its_levels():
    import torch

    made = flow()
    scheduler = made.scheduler("euler", 7, 4, "cpu")
    torch.testing.assert_close(made.level_of(scheduler.timesteps), scheduler.sigmas[:-1])
    own = flow(dynamic=True, mu=lambda tokens: math.log(2), sigmas=lambda steps: [1.0, 0.5])
    torch.testing.assert_close(own.level_of(own.scheduler("euler", 99, 4, "cpu").timesteps), torch.tensor([1.0, 2 / 3]))
    # Drawn with another shift than it is trained with, by tokens and steps.
    other = flow(
        dynamic=True, mu=lambda tokens: 0.0, sigmas=lambda steps: [1.0, 0.5], drawn_mu=lambda tokens, steps: math.log(tokens + steps)
    )
    torch.testing.assert_close(other.level_of(other.scheduler("euler", 3, 4, "cpu").timesteps), torch.tensor([1.0, 7 / 8]))
    assert other.level(0.5, 4) == pytest.approx(0.5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_diffusion_is_that_of_the_bases_schedule(prediction):
    import torch

    schedule = noise_schedule(prediction)
    made, times = Diffusion(schedule), torch.tensor([0, 400, 999])
    clean, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[times].view(-1, 1, 1, 1)
    torch.testing.assert_close(made.add_noise(clean, noise, times), alphas.sqrt() * clean + (1 - alphas).sqrt() * noise)
    velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * clean
    torch.testing.assert_close(made.target(clean, noise, times), velocity if prediction == "v_prediction" else noise)
    assert [made.level(share, 0) for share in (0.0005, 0.1, 0.5, 0.9995)] == [0, 100, 500, 999]
    # Every time is drawn, and equally often.
    assert {made.level((drawn + 0.5) / made.grain, 0) for drawn in range(made.grain)} == set(range(1000))
    assert made.level_of(times) is times


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_never_divides_by_nothing(prediction):
    import torch

    ends_in_noise = Diffusion(noise_schedule(prediction, rescale_betas_zero_snr=True))
    ends_in_noise.min_snr_gamma = 5.0
    assert torch.isfinite(ends_in_noise.weigh(torch.ones(2), torch.tensor([0, 999]))).all()


# --- what is minimised: sd-scripts' rules, written down once more --------------------------------------------------------------


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [0.0, 5.0])
def test_debiased_estimation_weighs_by_the_root_of_the_snr(prediction, gamma, zero):
    import torch

    schedule = noise_schedule(prediction, rescale_betas_zero_snr=zero)
    made, times = Diffusion(schedule), torch.tensor([0, 10, 400, 900, 999])
    made.settle({"debiased_estimation": True, "min_snr_gamma": gamma})
    errors = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    found = made.weigh(errors, times)
    for time, error, value in zip(times.tolist(), errors.tolist(), found.tolist(), strict=True):
        alpha = float(schedule.alphas_cumprod[time])
        snr = max(alpha / (1 - alpha), 1e-8)
        weight = 1 / (min(snr, 1000) + 1) if prediction == "v_prediction" else 1 / math.sqrt(min(snr, 1000))
        if gamma:
            weight *= min(snr, gamma) / (snr + 1 if prediction == "v_prediction" else snr)
        assert value == pytest.approx(error * weight, rel=1e-4)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
@pytest.mark.parametrize("schedule", ["snr", "exponential", "constant", None])
@pytest.mark.parametrize("c", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("zero", [False, True])
def test_large_errors_count_less(kind, schedule, c, zero):
    import numpy as np
    import torch

    noise = noise_schedule("v_prediction", rescale_betas_zero_snr=zero)
    made, times = Diffusion(noise), torch.tensor([0, 300, 999])
    made.settle({"loss_type": kind, "huber_c": c, "huber_schedule": schedule})
    guess, target = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    found = made.errors(guess, target, times).numpy()
    for row, time in enumerate(times.tolist()):
        alpha = float(noise.alphas_cumprod[time])
        sigma = math.sqrt((1 - alpha) / alpha) if alpha else math.inf
        at = {"exponential": math.exp(-(-math.log(c) / 1000) * time), "constant": c}.get(schedule or "snr", (1 - c) / (1 + sigma) ** 2 + c)
        root = np.sqrt(((guess - target)[row].double().numpy()) ** 2 + at**2) - at
        np.testing.assert_allclose(found[row], (2 * at if kind == "huber" else 2) * root, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("schedule", "threshold"), [(None, 0.1), ("constant", 0.1), ("exponential", 0.1**0.25)])
def test_a_flow_has_thresholds_by_its_level(schedule, threshold):
    import torch

    made = flow()
    made.settle({"loss_type": "huber", "huber_c": 0.1, "huber_schedule": schedule})
    found = made.errors(torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([0.25]))
    assert float(found) == pytest.approx(2 * threshold * (math.sqrt(4 + threshold**2) - threshold), rel=1e-5)


def test_errors_are_squared_unless_something_else_is_asked_for():
    import torch

    for made in (flow(), Diffusion(noise_schedule())):
        made.settle({})
        assert made.errors(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([5])).tolist() == [4.0]


@pytest.mark.parametrize("bounds", [(0, 1000), (300, 700), (0, 7), (993, 1000), (250, 1000)])
def test_times_between_two_bounds_are_drawn_equally_often(bounds):
    import random

    made, chance = Diffusion(noise_schedule()), random.Random(1)
    made.settle({"min_timestep": bounds[0], "max_timestep": bounds[1]})
    drawn = [made.drawn(chance, 0) for _ in range(4000)]
    assert set(drawn) <= set(range(*bounds)) and len(set(drawn)) > 0.9 * min(4000 / 5, bounds[1] - bounds[0])
    assert sum(drawn) / 4000 == pytest.approx((bounds[0] + bounds[1] - 1) / 2, abs=(bounds[1] - bounds[0]) / 30 + 0.1)
    assert made.level(0.5, 0) == 500  # what is measured stays where it was


@pytest.mark.parametrize("bounds", [(0, 1000), (200, 600), (900, 1000)])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_of_a_flow_between_two_bounds_keep_their_distribution(bounds, shift):
    """The logit-normal distribution, shifted, cut at both bounds: scipy's numbers."""
    import random

    from scipy import special, stats

    made, chance = flow(shift=shift), random.Random(1)
    made.settle({"min_timestep": bounds[0], "max_timestep": bounds[1]})
    drawn = sorted(made.drawn(chance, 4) for _ in range(1500))
    low, high = bounds[0] / 1000, bounds[1] / 1000
    assert low <= drawn[0] and drawn[-1] <= high

    def below(level):
        plain = level / (shift - (shift - 1) * level)
        return stats.norm.cdf(special.logit(plain))

    ends = below(low), below(high)
    assert stats.kstest(drawn, lambda levels: (below(levels) - ends[0]) / (ends[1] - ends[0])).pvalue > 0.01


# --- a schedule that ends in noise alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("zero", [False, True])
def test_the_schedule_is_made_anew_where_it_ends_in_noise_alone(kind, zero):
    """Against diffusers' own rescaling; changing the settings of a scheduler changes none of its numbers."""
    import diffusers
    import torch

    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
    made = Diffusion(with_terminal_snr(getattr(diffusers, kind)(**options), zero))
    right = diffusers.DDPMScheduler(**options, rescale_betas_zero_snr=zero)
    torch.testing.assert_close(made._schedule.alphas_cumprod, right.alphas_cumprod, rtol=0, atol=0)
    assert (float(made._schedule.alphas_cumprod[-1]) == 0) == zero and made.prediction == "v_prediction"
    drawn = made.scheduler("ddim", 10, 0, "cpu")
    assert (int(drawn.timesteps[0]) == 999) == zero
    assert with_terminal_snr(right, zero) is right
    back = with_terminal_snr(right, False)
    assert float(back.alphas_cumprod[-1]) == pytest.approx(0.00466, rel=0.01)


def test_a_sampler_that_does_not_draw_with_the_base_is_named():
    made = flow()
    assert made.chosen("auto") == made.chosen("euler") == "euler"
    assert Diffusion(noise_schedule()).chosen("auto") == "ddim"
    with pytest.raises(ConfigError, match="--sampler: dpmpp_2m does not draw with this base; use euler"):
        made.chosen("dpmpp_2m")


@pytest.mark.parametrize("kind", ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "DDIMScheduler", "PNDMScheduler"])
def test_noise_is_added_alike_whatever_scheduler_the_base_draws_with(kind):
    """A scheduler for drawing counts its times from the end when it adds noise, or has no velocity at all."""
    import diffusers
    import torch

    options = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
    made = Diffusion(getattr(diffusers, kind)(**options))
    clean, noise, times = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([10, 400, 900])
    alphas = torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000), 0)[times].view(-1, 1, 1, 1)
    torch.testing.assert_close(made.add_noise(clean, noise, times), alphas.sqrt() * clean + (1 - alphas).sqrt() * noise)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("sampler", ["ddim", "euler", "euler_a", "dpmpp_2m"])
def test_what_draws_has_the_bases_schedule_and_clips_nothing(sampler, zero_snr):
    """Latents are no pictures of -1 to 1, and a schedule that ends in pure noise has to begin with its last time (Lin et al. 2024)."""
    import torch

    schedule = noise_schedule("v_prediction", rescale_betas_zero_snr=zero_snr)
    made = Diffusion(schedule).scheduler(sampler, 10, 0, "cpu")
    assert made.config.prediction_type == "v_prediction" and not made.config.get("clip_sample")
    assert (made.config.timestep_spacing == "trailing") == zero_snr and len(made.timesteps) == 10
    if zero_snr:
        assert int(made.timesteps[0]) == 999
    torch.testing.assert_close(made.alphas_cumprod[:990], schedule.alphas_cumprod[:990])


@pytest.mark.parametrize("kind", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_noise_of_another_kind_is_not_taken_for_a_schedule_of_alphas(kind, sd_bases, tmp_path):
    import json
    import shutil

    import diffusers
    from loraforge_image.families.stable_diffusion.identify import identify

    schedule = getattr(diffusers, kind)()
    schedule.register_to_config(prediction_type="epsilon")
    with pytest.raises(ModelError, match=f"draws with a {kind}"):
        Diffusion(schedule)
    folder = shutil.copytree(sd_bases("sdxl"), tmp_path / "base")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "_class_name": kind}), encoding="utf-8")
    found = identify(str(folder))
    assert found.family == "" and kind in found.what
