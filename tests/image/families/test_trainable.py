# SPDX-License-Identifier: Apache-2.0
"""What a step of training sees: noise, weights, captions, learning rates, the running average."""

from __future__ import annotations

import pytest
from loraforge_image.families.stable_diffusion.sd15 import SD15
from loraforge_image.records import ImageKeys, Picture

from loraforge import RunConfig, Span
from loraforge.config.schema import KeySet


@pytest.fixture
def trainable(tmp_path, sd_bases, monkeypatch):
    """``trainable(base=..., learning_rate=..., min_snr_gamma=...)``: a trainable model on the CPU."""
    import torch

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(base=None, **values):
        own = {k: v for k, v in values.items() if k in ImageKeys.model_fields}
        shared = {"lora_rank": 2, "lora_dropout": 0.0, **{k: v for k, v in values.items() if k not in own}}
        config = RunConfig(train_data_dir="x", base_model=str(base or sd_bases("sd15")), precision="fp32", **shared)
        keys = ImageKeys(**{"resolution": 64, "bucket_step": 16, "sample_prompts": [], **own})
        torch.manual_seed(0)
        return SD15().load(config, KeySet({RunConfig: config, ImageKeys: keys}), torch.device("cpu"))

    return make


def examples(trainable, tmp_path, count=1, prior=()):
    """Encoded pictures; those whose numbers are in ``prior`` are of the class."""
    from builders.tiny_images import draw_pictures

    folder = draw_pictures(tmp_path / "drawn", count, sizes=((64, 64),))
    rows = [
        Picture(where=str(i), path=str(folder / f"{i}.png"), caption=f"number {i}", sha256=str(i), prior=i in prior) for i in range(count)
    ]
    return [trainable.encode(row, [Span(row.caption, True)]) for row in rows]


@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_what_was_replaced_in_the_base_is_told(kernels, trainable):
    made = trainable(kernels=kernels)
    assert ("blocks" in made.replaced) is ("LoRA layers" in made.replaced) is (kernels == "auto")
    assert (type(made._base.pipe.unet.mid_block.attentions[0].norm).__name__ == "FastGroupNorm") is (kernels == "auto")


def squared_errors(trainable, batch):
    """Per picture, without any weight: computed here from the noise, the times and the network."""
    import torch

    scheduler = trainable._base.pipe.scheduler
    alphas = scheduler.alphas_cumprod[batch["levels"]].view(-1, 1, 1, 1)
    noisy = alphas.sqrt() * batch["clean"] + (1 - alphas).sqrt() * batch["noise"]
    velocity = alphas.sqrt() * batch["noise"] - (1 - alphas).sqrt() * batch["clean"]
    wanted = velocity if scheduler.config.prediction_type == "v_prediction" else batch["noise"]
    with torch.no_grad():
        guess = trainable.lora.model(noisy, batch["levels"], batch["conditioning"], batch["extras"])
    return (guess - wanted).square().mean(dim=(1, 2, 3)), (alphas / (1 - alphas)).flatten()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weighs_every_noise_level(prediction, trainable, sd_bases, tmp_path):
    import torch

    made = trainable(sd_bases("sd15", prediction=prediction), min_snr_gamma=5.0, prior_loss_weight=0.5)
    batch = {**made.collate(examples(made, tmp_path, 2, prior={1}), seed=1), "levels": torch.tensor([30, 700])}
    errors, snr = squared_errors(made, batch)
    assert snr[0] > 5 > snr[1]  # one is held down, the other is not
    weights = torch.clamp(snr, max=5.0) / (snr + 1 if prediction == "v_prediction" else snr)
    made.lora.model.train()
    with torch.no_grad():
        found = made.loss(made.lora.model, batch)
        made.lora.model.eval()
        measured = made.loss(made.lora.model, batch)
    own = torch.tensor([1.0, 0.5])
    torch.testing.assert_close(found, (errors * weights * own).mean(), rtol=1e-4, atol=1e-6)
    # What is measured on held-out pictures stays comparable between runs.
    torch.testing.assert_close(measured, (errors * own).mean(), rtol=1e-4, atol=1e-6)


def test_the_prior_weight_counts_pictures_of_the_class(trainable, tmp_path):
    import torch

    made = trainable(prior_loss_weight=0.25)
    batch = made.collate(examples(made, tmp_path, 2, prior={1}), seed=3)
    errors, _ = squared_errors(made, batch)
    with torch.no_grad():
        found = made.loss(made.lora.model, batch)
    torch.testing.assert_close(found, (errors[0] + 0.25 * errors[1]) / 2, rtol=1e-4, atol=1e-6)


def test_noise_offset_shifts_whole_channels(trainable, tmp_path):
    import torch

    offset = 0.5
    made = trainable(noise_offset=offset)
    (example,) = examples(made, tmp_path)
    noise = torch.cat([made.collate([example], draw)["noise"] for draw in range(600)])
    means = noise.mean(dim=(2, 3))  # of 2400 channels: variance offset^2, and 1 / 64 of the noise itself
    assert float(means.var()) == pytest.approx(offset**2 + 1 / 64, rel=0.12)
    assert float((noise - means[:, :, None, None]).var()) == pytest.approx(63 / 64, rel=0.02)
    assert float(torch.corrcoef(means.T).triu(1).abs().max()) < 0.2  # every channel has its own
    plain = trainable()
    assert float(torch.cat([plain.collate([example], d)["noise"] for d in range(200)]).mean(dim=(2, 3)).var()) < 0.03


def test_latents_are_drawn_from_the_distribution_of_the_autoencoder(trainable, tmp_path):
    import torch

    made = trainable()
    (example,) = examples(made, tmp_path)
    mean, deviation = example["latents"][0]
    assert float(deviation.min()) > 0
    example["latents"] = [torch.stack([mean, torch.full_like(mean, 2.0)])]
    apart = torch.cat([made.collate([example], draw)["clean"] for draw in range(300)]) - mean
    assert float(apart.std()) == pytest.approx(2, rel=0.02) and abs(float(apart.mean())) < 0.02
    held_out = made.collate([example])
    assert held_out["levels"].tolist() == [100, 300, 500, 700, 900]
    assert held_out["clean"].equal(made.collate([example])["clean"])
    drawn = [int(made.collate([example], draw)["levels"][0]) for draw in range(400)]
    assert min(drawn) < 30 and max(drawn) > 970 and 450 < sum(drawn) / 400 < 550


def test_every_level_is_drawn_in_training(trainable, tmp_path, monkeypatch):
    """Of a number that is drawn, the middle of its share: its lower end would lose levels to rounding, and a flow has none at 0."""
    from loraforge_image.families import FlowMatching
    from loraforge_image.families import trainable as module

    made = trainable()
    (example,) = examples(made, tmp_path)
    now = [0]

    class Chance(module.random.Random):
        def randrange(self, count):
            return now[0] if count > 1 else 0

    monkeypatch.setattr(module.random, "Random", Chance)

    def levels(grain):
        for now[0] in range(grain):
            yield made.collate([example], 1)["levels"].item()

    assert list(levels(1000)) == list(range(1000))

    class Few(FlowMatching):
        grain = 4

        def __init__(self):
            super().__init__(made._base.pipe.scheduler)

    made._base.objective = Few()
    from scipy import special, stats

    assert list(levels(4)) == pytest.approx(special.expit(stats.norm.ppf([0.125, 0.375, 0.625, 0.875])), rel=1e-6)


def test_what_exporters_are_told(trainable, tmp_path):
    from builders.tiny_images import draw_pictures

    made = trainable(trigger_word="zzz", prior_loss_weight=0.5)
    folder = draw_pictures(tmp_path / "drawn", 5, sizes=((64, 64), (96, 48)))
    for i, (name, caption) in enumerate((("x", "a, b"), ("x", "a"), ("", "c"), ("y", "other"), ("x", "A"))):
        more = {"repeats": 3} if name == "x" else {}
        row = Picture(where=str(i), path=str(folder / f"{i}.png"), caption=caption, sha256=str(i), prior=name == "y", folder=name, **more)
        made.encode(row, [Span(caption, True)])
    facts = made.facts()
    assert facts["captions"] == {
        "x": {"repeats": 3, "pictures": 3, "tags": {"a": 3, "b": 1}}, "images": {"repeats": 1, "pictures": 1, "tags": {"c": 1}},
    }  # fmt: skip
    assert facts["buckets"] == [[64, 64, 3], [80, 48, 1]] and facts["trigger_words"] == ["zzz"]
    assert trainable().facts()["trigger_words"] == []
    from loraforge_image.families.trainable import TrainableImages

    assert TrainableImages.weight(made, {"count": 3}) == TrainableImages.units(made, {"count": 3}) == 3.0


def test_the_same_picture_in_another_size_is_encoded_anew(trainable, tmp_path):
    made = trainable()
    (example,) = examples(made, tmp_path)
    first = (made._cache.made, made._cache.found)
    (again,) = examples(made, tmp_path)
    assert again["latents"][0].equal(example["latents"][0]) and again["key"] == example["key"]
    assert (made._cache.made, made._cache.found) == (first[0], first[1] + 1)  # latents; the caption is in memory
    row = Picture(where="0", path=str(tmp_path / "drawn" / "0.png"), caption="number 0", sha256="0", resolution=32)
    small = made.encode(row, [Span(row.caption, True)])
    assert example["latents"][0].shape[-2:] == (8, 8) and small["latents"][0].shape[-2:] == (4, 4)


def test_a_mirrored_view_is_the_picture_from_left_to_right(trainable, tmp_path):
    import torch
    from PIL import Image, ImageOps

    made = trainable(flip=True)
    examples(made, tmp_path)
    picture = Image.open(tmp_path / "drawn" / "0.png")
    ImageOps.mirror(picture).save(tmp_path / "mirrored.png")
    rows = [
        Picture(where="a", path=str(path), caption="a", sha256="a") for path in (tmp_path / "drawn" / "0.png", tmp_path / "mirrored.png")
    ]
    one, two = (made.encode(row, [Span("a", True)])["latents"] for row in rows)
    torch.testing.assert_close(one[1], two[0])
    assert not one[0].equal(one[1])


@pytest.mark.parametrize("text", [False, True])
def test_caption_dropout_empties_its_share_of_captions(text, trainable, tmp_path):
    made = trainable(caption_dropout=0.3, train_text_encoder=text)
    (example,) = examples(made, tmp_path)
    name = "ids" if text else "context"
    empty, full = made._texts.empty[name], made._texts.measured(example["captions"])[name]
    assert not empty.equal(full)
    seen = [made.collate([example], draw)["conditioning"][name][0] for draw in range(600)]
    without = sum(each.equal(empty) for each in seen)
    assert 0.24 < without / 600 < 0.36 and without + sum(each.equal(full) for each in seen) == 600
    assert all(row.equal(full) for row in made.collate([example])["conditioning"][name])  # never where it is measured


def test_a_step_reads_the_same_bits_in_a_run_that_goes_on(trainable, tmp_path):
    """Orders, dropped parts and the chosen caption are functions of the seed of the step: nothing is remembered."""
    keys = {"caption_shuffle": True, "tag_dropout": 0.2, "keep_tokens": 1, "multires_noise_iterations": 4, "ip_noise_gamma": 0.1}
    caption = "k, a, b, c, d, e, f\nanother, x, y, z, q, w, v"

    def step(number, cache):
        made = trainable(**keys, cache_dir=str(tmp_path / cache))
        (example,) = examples(made, tmp_path)
        row = Picture(where="0", path=str(tmp_path / "drawn" / "0.png"), caption=caption, sha256="0")
        batch = made.collate([made.encode(row, [Span(caption)]), example], number)
        return [batch[name] for name in ("clean", "noise", "read", "levels")] + [batch["conditioning"]["context"]]

    first, again, other = step(7, "a"), step(7, "b"), step(8, "a")
    assert all(one.equal(two) for one, two in zip(first, again, strict=True))
    assert not any(one.equal(two) for one, two in zip(first, other, strict=True))


# --- masks -------------------------------------------------------------------------------------------------------------------


def masked_example(made, tmp_path, value=0, alpha=False):
    """A picture of which the right half is learned; at the left the mask has ``value``."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (64, 64), value)
    ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill=255)
    picture = Image.new("RGB", (64, 64), (200, 30, 90))
    ImageDraw.Draw(picture).ellipse((8, 8, 50, 50), fill=(10, 200, 90))
    if alpha:
        picture.putalpha(mask)
    picture.save(tmp_path / "masked.png")
    mask.save(tmp_path / "mask.png")
    row = Picture(where="m", path=str(tmp_path / "masked.png"), caption="m", sha256="m", mask="" if alpha else str(tmp_path / "mask.png"))
    return made.encode(row, [Span("m")])


def gradient(made, batch, masks=None):
    """How the loss moves with what the denoiser says, (rows, channels, height, width)."""
    import torch

    guess = torch.zeros_like(batch["clean"]).requires_grad_()

    class Says(torch.nn.Module):
        def forward(self, *_):
            return guess

    model = Says()
    model.train()
    made.loss(model, {name: value for name, value in batch.items() if name != "masks"} if masks is False else batch).backward()
    return guess.grad


@pytest.mark.parametrize(("value", "outside", "weight"), [(0, 0.1, 0.1), (0, 0.0, 0.0), (0, 1.0, 1.0), (102, 0.1, 0.4), (10, 0.1, 0.1)])
@pytest.mark.parametrize("options", [{}, {"loss_type": "huber"}, {"min_snr_gamma": 5.0}], ids=str)
def test_what_lies_outside_of_a_mask_moves_the_weights_less_by_exactly_that(options, value, outside, weight, trainable, tmp_path):
    import torch

    made = trainable(unmasked_weight=outside, **options)
    batch = made.collate([masked_example(made, tmp_path, value)], 5)
    found, plain = gradient(made, batch), gradient(made, batch, masks=False)
    scale = torch.ones(8, 8)
    scale[:, :4] = weight
    torch.testing.assert_close(found, plain * scale, rtol=1e-6, atol=1e-10)
    assert float(plain.abs().min()) >= 0 and float(plain.abs().mean()) > 0


def test_masked_pictures_stand_beside_whole_ones_and_alpha_is_a_mask_too(trainable, tmp_path):
    import torch

    made = trainable(flip=True)
    (whole,) = examples(made, tmp_path)
    masked = masked_example(made, tmp_path)
    batch = made.collate([whole, masked], 3)
    assert batch["masks"].shape == (2, 1, 8, 8) and batch["masks"][0].eq(1).all() and batch["masks"][1].sum() == pytest.approx(32 * 1.1)
    assert masked["masks"][1].equal(masked["masks"][0].flip(2))  # the mirrored view
    assert "masks" not in made.collate([whole], 3)
    # What is held out is measured as a whole, so that runs can be compared.
    assert "masks" not in made.collate([masked])
    alpha = trainable(mask="alpha")
    assert masked_example(alpha, tmp_path, alpha=True)["masks"][0].equal(masked["masks"][0])
    assert masked_example(trainable(mask="off"), tmp_path)["masks"] is None
    torch.testing.assert_close(gradient(made, batch)[0], gradient(made, batch, masks=False)[0])


# --- noise and levels ----------------------------------------------------------------------------------------------------------


def test_the_denoiser_reads_disturbed_noise_and_learns_what_was_not(trainable, tmp_path):
    """Ning et al. 2023: only the input is perturbed."""
    made = trainable(ip_noise_gamma=0.5)
    (example,) = examples(made, tmp_path)
    plain = trainable()
    batches = [made.collate([example], draw) for draw in range(200)]
    apart = [batch["read"] - batch["noise"] for batch in batches]
    spread = sum(float(one.square().mean()) for one in apart) / len(apart)
    assert spread == pytest.approx(0.25, rel=0.05)
    assert batches[0]["noise"].equal(plain.collate([example], 0)["noise"]) and "read" not in plain.collate([example], 0)
    heard = []

    class Says(__import__("torch").nn.Module):
        def forward(self, noisy, *_):
            heard.append(noisy)
            return batches[0]["noise"]

    assert float(made.loss(Says().train(), batches[0])) == 0  # the noise itself is the target
    right = made._base.objective.add_noise(batches[0]["clean"], batches[0]["read"], batches[0]["levels"])
    assert heard[0].equal(right) and "read" not in made.collate([example])


def test_held_out_pictures_are_measured_alike_whatever_is_minimised(trainable, tmp_path):
    import torch

    keys = [
        {},
        {"noise_offset": 0.5},
        {"multires_noise_iterations": 6, "ip_noise_gamma": 0.3},
        {"loss_type": "huber", "huber_c": 0.01, "debiased_estimation": True, "min_snr_gamma": 1.0},
        {"min_timestep": 600, "max_timestep": 900, "tag_dropout": 0.5, "caption_shuffle": True},
    ]
    found = []
    for one in keys:
        made = trainable(**one)
        (example,) = examples(made, tmp_path)
        made.lora.model.eval()
        with torch.no_grad():
            found.append(float(made.loss(made.lora.model, made.collate([example]))))
    assert found == [found[0]] * len(keys)


def test_only_the_levels_that_are_asked_for_are_trained(trainable, tmp_path):
    made = trainable(min_timestep=300, max_timestep=310)
    (example,) = examples(made, tmp_path)
    drawn = [int(made.collate([example], draw)["levels"][0]) for draw in range(300)]
    assert set(drawn) == set(range(300, 310))
    assert made.collate([example])["levels"].tolist() == [100, 300, 500, 700, 900]


def test_a_picture_has_the_resolution_of_its_own(trainable, tmp_path):
    from builders.tiny_images import draw_pictures

    made = trainable(resolution=64)
    folder = draw_pictures(tmp_path / "drawn", 1, sizes=((96, 96),))
    rows = [Picture(where="a", path=str(folder / "0.png"), caption="a", sha256="a", resolution=side) for side in (None, 32, 96)]
    found = [made.encode(row, [Span("a")]) for row in rows]
    assert [example["latents"][0].shape[-2:] for example in found] == [(8, 8), (4, 4), (12, 12)]
    assert [made.group(example) for example in found] == [(64, 64), (32, 32), (96, 96)] and len({example["key"] for example in found}) == 3
    assert made.facts()["buckets"] == [[32, 32, 1], [64, 64, 1], [96, 96, 1]]


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_only_encoding_needed_leaves_memory(device, text, trainable, monkeypatch):
    import torch

    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    made = trainable(train_text_encoder=text)
    made._device = torch.device(device)
    made.on_encoded()
    pipe = made._base.pipe
    assert pipe.vae.encoder is None and pipe.vae.quant_conv is None and pipe.vae.decoder is not None
    assert (pipe.text_encoder is None) is not text
    assert emptied == ([1] if device == "cuda" else [])


def loop_of(trainable, rows):
    from accelerate import Accelerator

    from loraforge.training.loop import Callbacks, Examples, Loop

    return Loop(trainable, Examples(rows), trainable._config, Accelerator(cpu=True), Callbacks(tell=lambda event: None))


def test_each_text_encoder_has_its_rate_and_one_with_none_is_left_alone(sd_bases, tmp_path, monkeypatch):
    import torch
    from loraforge_image.families.stable_diffusion.sdxl import SDXL

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = RunConfig(train_data_dir="x", base_model=str(sd_bases("sdxl")), precision="fp32", lora_rank=2, learning_rate=1e-3)

    def load(rate):
        keys = ImageKeys(resolution=64, bucket_step=16, sample_prompts=[], train_text_encoder=True, text_encoder_lr=rate)
        lora = SDXL().load(config, KeySet({RunConfig: config, ImageKeys: keys}), torch.device("cpu")).lora
        rates = {}
        for name, parameter in lora.model.named_parameters():
            if parameter.requires_grad:
                rates.setdefault(name.partition(".")[0], set()).add(lora.rate(name))
        return rates

    assert load([1e-4, 2e-5]) == {"text_encoder": {1e-4}, "text_encoder_2": {2e-5}, "unet": {1e-3}}
    assert load([0, 2e-5]) == {"text_encoder_2": {2e-5}, "unet": {1e-3}}
    assert load(3e-5) == {"text_encoder": {3e-5}, "text_encoder_2": {3e-5}, "unet": {1e-3}}
    assert load(0) == {"unet": {1e-3}}


def test_the_text_encoders_learn_at_their_own_rate(trainable, tmp_path):
    options = {"learning_rate": 1e-3, "weight_decay": 0.0, "max_grad_norm": 0.0, "lr_scheduler": "constant", "warmup": 0}
    made = trainable(train_text_encoder=True, text_encoder_lr=1e-5, **options)
    loop = loop_of(made, examples(made, tmp_path))
    before = {name: p.detach().clone() for name, p in loop.parameters.items()}
    loop.step([0], 1)
    # AdamW's first step is as long as the rate, whatever the gradient, unless that is nearly nothing.
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in loop.parameters.items() if "lora_B" in name}
    text = {name: length for name, length in moved.items() if name.startswith("text_encoder")}
    assert 0 < len(text) < len(moved)
    assert max(text.values()) == pytest.approx(1e-5, rel=0.05)
    assert max(length for name, length in moved.items() if name not in text) == pytest.approx(1e-3, rel=0.05)


def test_the_saved_adapter_is_the_running_average(gallery, paint, monkeypatch):
    import safetensors.torch
    import torch

    from loraforge.training import loop

    history: list[dict] = []
    real = loop.Loop.step

    def step(self, indices, number):
        if not history:
            history.append({name: p.detach().clone() for name, p in self.parameters.items()})
        done = real(self, indices, number)
        history.append({name: p.detach().clone() for name, p in self.parameters.items()})
        return done

    monkeypatch.setattr(loop.Loop, "step", step)
    outcome = paint(gallery(ema_decay=0.25, max_steps=4, epochs=9, eval_ratio=0, sample_prompts=[], lora_target="attention"))
    assert len(history) == 5
    average = history[0]
    for number, now in enumerate(history[1:], 1):
        decay = min(0.25, (1 + number) / (10 + number))  # it starts quickly: 2/11, then 3/12
        average = {name: decay * average[name] + (1 - decay) * now[name] for name in now}
    saved = safetensors.torch.load_file(outcome.run.path / "adapter" / "adapter_model.safetensors")
    for name, value in average.items():
        found = saved["base_model.model." + name.replace(".default", "").removeprefix("base_model.model.")]
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-7)
    moved = max(float((average[name] - history[-1][name]).abs().max()) for name in average)
    assert moved > 1e-4  # and not the last weights
