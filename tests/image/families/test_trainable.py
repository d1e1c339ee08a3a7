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
    assert (made._cache.made, made._cache.found) == (first[0], first[1] + 2)  # latents and caption
    (small,) = examples(trainable(resolution=32), tmp_path)
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
