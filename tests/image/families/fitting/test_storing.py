# SPDX-License-Identifier: Apache-2.0
"""Training on a rounded base and with weights that wait: against float32, resumed, exported, drawn. On a tiny Z-Image."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from loraforge_image.families.dit.z_image import ZImage
from loraforge_image.records import ImageKeys, Picture

from loraforge import ConfigError, RunConfig, Span, load_run
from loraforge.config.schema import KeySet
from loraforge.training import loop

STEPS = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a tiny Z-Image of four blocks."""
    from builders.dit.z_image import make

    return make(tmp_path_factory.mktemp("fitting") / "base")


def measured(images, examples):
    """The loss at fixed levels with fixed noise."""
    import torch

    images.model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=images._base.dtype == torch.bfloat16):
        loss = float(images.loss(images.model, images.collate(examples)))
    images.model.train()
    return loss


@pytest.fixture(scope="module")
def trained(tmp_path_factory, base):
    """``trained(precision="fp8", offload="blocks")``: the losses of some steps, those at fixed levels before and after them, and what was
    trained; each is made once."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from builders.tiny_images import draw_pictures

    place = tmp_path_factory.mktemp("storing")
    folder = draw_pictures(place / "drawn", 4, sizes=((64, 64),))
    rows = [Picture(where=str(i), path=str(folder / f"{i}.png"), caption=f"number {i}", sha256=str(i)) for i in range(4)]
    made = {}

    def get(precision="fp32", **values):
        kind = (precision, *sorted(values.items()))
        if kind in made:
            return made[kind]
        own = {k: v for k, v in values.items() if k in ImageKeys.model_fields}
        shared = {"lora_rank": 4, "lora_dropout": 0.0, "batch_size": 4, "epochs": STEPS, "learning_rate": 2e-2, "lr_scheduler": "constant"}
        shared |= {k: v for k, v in values.items() if k not in own}
        config = RunConfig(train_data_dir="x", base_model=str(base), precision=precision, **shared)
        keys = ImageKeys(**{"resolution": 64, "bucket_step": 16, "sample_prompts": [], "cache_dir": str(place / "cache"), **own})
        torch.manual_seed(0)
        images = ZImage().load(config, KeySet({RunConfig: config, ImageKeys: keys}), torch.device("cpu"))
        examples = [images.encode(row, [Span(row.caption, True)]) for row in rows]
        images.on_encoded()
        AcceleratorState._reset_state(True)
        accelerator = Accelerator(cpu=True, mixed_precision="no" if precision == "fp32" else "bf16")
        one = loop.Loop(images, loop.Examples(examples), config, accelerator, loop.Callbacks(tell=lambda event: None))
        before = measured(images, examples)
        losses = [one.step(range(4), step).loss for step in range(1, STEPS + 1)]
        losses += [before, measured(images, examples)]
        AcceleratorState._reset_state(True)
        made[kind] = losses, images
        return made[kind]

    return get


WAITING = {"offload": "blocks", "offload_share": 0.5, "gradient_checkpointing": True}


@pytest.mark.parametrize(
    ("values", "off"),
    [
        ({"precision": "fp8"}, 0.01),
        ({"precision": "4bit"}, 0.03),
        ({"precision": "fp8", "lora_variant": "dora"}, 0.01),
    ],
    ids=str,
)
def test_losses_are_near_those_of_float32(trained, values, off):
    """The largest difference of a loss that was measured is in docs/train-image.md; what the steps learn is far more than it."""
    pytest.importorskip("bitsandbytes")
    exact, _ = trained(**{key: value for key, value in values.items() if key == "lora_variant"})
    losses, images = trained(**values)
    apart = max(abs(one / two - 1) for one, two in zip(losses, exact, strict=True))
    learned = exact[-2] - exact[-1]
    assert apart < off and learned > 0 and losses[-2] - losses[-1] == pytest.approx(learned, rel=0.25), (apart, exact, losses)
    assert f"precision: {values['precision']}: 31 layers of the denoiser take " in images.notes[0]


def test_waiting_and_checkpointing_change_no_bit(trained):
    plain, _ = trained(precision="fp8")
    assert trained(precision="fp8", **WAITING)[0] == plain


def test_what_is_stored_how(trained):
    from loraforge_image.kernels import stored

    pytest.importorskip("bitsandbytes")
    for precision, more in (("fp8", {}), ("4bit", {}), ("fp8", WAITING)):
        _, images = trained(precision=precision, **more)
        layers = [module for module in images.model.modules() if isinstance(module, stored.StoredLinear)]
        assert {type(layer.stored).__name__ for layer in layers} == {"Nf4" if precision == "4bit" else "Float8"}
        home = sum(layer.stored_parameters for layer in layers if layer.stored.at_home) / sum(layer.stored_parameters for layer in layers)
        assert 0.35 < home < 0.65 if more else home == 0
        assert all(value.dtype.itemsize == 4 for value in images.model.parameters() if value.requires_grad)
        assert images.lora.count() == trained()[1].lora.count()
        assert not more or "nothing is moved, since a CPU computes in main memory" in images.notes[1]


def test_four_bits_are_for_matrices_and_convolutions_get_eight():
    import torch
    from loraforge_image.families.fitting import storing

    pytest.importorskip("bitsandbytes")
    blocks = torch.nn.Module()
    blocks.list = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Conv2d(8, 8, 3)) for _ in range(2)])
    base = SimpleNamespace(denoiser=blocks.requires_grad_(False))
    assert "4 layers" in storing.store_denoiser(base, "4bit", {}, torch.device("cpu"))[0]
    assert [type(layer.stored).__name__ for one in blocks.list for layer in one] == ["Nf4", "Float8"] * 2
    assert storing.store_denoiser(base, "bf16", {"offload": "encoders"}, torch.device("cpu")) == ()


def test_captions_are_read_to_the_bit_the_same_by_encoders_that_wait(trained, tmp_path):
    import torch

    plain, waiting = (
        trained(**values)[1]._texts.empty for values in ({}, {"offload": "encoders", "cache_dir": str(tmp_path / "a"), "epochs": 1})
    )
    assert plain and all(torch.equal(plain[name], waiting[name]) for name in plain)


def test_the_denoiser_comes_to_the_card_after_the_encoders_have_left(base, tmp_path, monkeypatch):
    import torch

    config = RunConfig(train_data_dir="x", base_model=str(base), precision="fp32", lora_rank=2)
    keys = ImageKeys(resolution=64, bucket_step=16, sample_prompts=[], cache_dir=str(tmp_path))
    moved = []
    monkeypatch.setattr(
        ZImage.base, "to", lambda self, device: moved.append((str(device), dict(self.text_encoders), self.pipe.vae.encoder))
    )
    images = ZImage().load(config, KeySet({RunConfig: config, ImageKeys: keys}), torch.device("cpu"))
    assert moved == []
    images.on_encoded()
    assert moved == [("cpu", {}, None)]


@pytest.mark.parametrize("room", [True, False])
def test_encoders_and_denoiser_take_turns_where_there_is_no_room(room, monkeypatch):
    import torch
    from loraforge_image.families.fitting import turns

    one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    assert turns.free_memory(torch.device("cpu")) is None and turns.held([one]) == 80
    monkeypatch.setattr(turns, "free_memory", lambda device: 2e9 + (80 if room else 79))
    assert turns.bring([one], [two], torch.device("meta")) is not room and one.weight.device.type == "meta"
    assert turns.bring([one], [two], torch.device("meta")) is False  # it is there by now
    assert turns.bring([two], [], torch.device("cpu")) is False


def test_only_what_is_drawn_is_cut_into_tiles(trained, tmp_path):
    import torch

    whole, cut = trained(), trained(vae_tiling=True, cache_dir=str(tmp_path))
    assert cut[0] == whole[0], "the latents that are learned are the same"
    vaes = [images._base.pipe.vae for _, images in (whole, cut)]
    assert [vae.use_tiling for vae in vaes] == [False, True]
    side = vaes[1].tile_latent_min_size
    latents = torch.randn(1, vaes[0].config.latent_channels, side + 4, side + 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        small, large = ([images._base.decode(one) for _, images in (whole, cut)] for one in (latents[..., :side, :side], latents))
    assert torch.equal(*small) and large[0].shape == large[1].shape and not torch.equal(*large)


def test_an_autoencoder_without_tiles_is_named():
    from loraforge_image.families.fitting import storing

    base = SimpleNamespace(pipe=SimpleNamespace(vae=object()), settings={"vae_tiling": True})
    with pytest.raises(ConfigError, match=r"vae_tiling: the autoencoder of this base \(object\)"):
        storing.check_tiles(base)


@pytest.mark.parametrize(
    ("shared", "keys", "said"),
    [
        ({"precision": "4bit"}, {}, "precision: 4bit needs bitsandbytes: pip install"),
        ({"precision": "fp8"}, {"train_unet": False}, "precision: fp8 rounds the denoiser, which does not learn here"),
        ({}, {"train_text_encoder": True, "offload": "encoders"}, "offload: encoders: the text encoders learn here"),
        ({}, {"offload": "encoders", "offload_share": 0.5}, "offload_share belongs to offload: blocks"),
        ({"precision": "fp8", "lora_variant": "dora"}, {"offload": "blocks", "offload_share": 0.5}, ""),
    ],
    ids=str,
)
def test_what_does_not_go_together(shared, keys, said, monkeypatch):
    from loraforge_image.families.fitting import storing

    monkeypatch.setattr(storing.importlib.util, "find_spec", lambda name: None)
    found = storing.problems(RunConfig(train_data_dir="x", base_model="y", **shared), ImageKeys(**keys))
    assert "\n".join(found).startswith(said) and bool(found) is bool(said)


# --- whole runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(gallery, paint, base):
    pytest.importorskip("bitsandbytes")
    options = {
        "base_model": str(base),
        "precision": "4bit",
        "offload": "blocks",
        "offload_share": 0.5,
        "eval_ratio": 0,
        "sample_prompts": [],
    }

    def go(name, **more):
        config = gallery(
            f"{name}.yaml", **{**options, "output_dir": str(gallery().parent / name), "lora_dropout": 0.1, "save_steps": 1, **more}
        )
        return lambda **kind: paint(config, **kind)

    return go


def adapter_of(outcome):
    import safetensors.torch

    return safetensors.torch.load_file(outcome.run.path / "adapter" / "adapter_model.safetensors")


def resumed(cut, monkeypatch):
    """The adapter of a run that was stopped before its second step and taken up again."""
    real = loop.Loop.step

    def stop(self, rows, step):
        if step == 2:
            raise KeyboardInterrupt
        return real(self, rows, step)

    monkeypatch.setattr(loop.Loop, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        cut()
    monkeypatch.setattr(loop.Loop, "step", real)
    return adapter_of(cut(resume=True))


def test_a_run_goes_on_to_the_bit_and_is_exported_on_the_full_base(run, base, host, monkeypatch):
    """The merged model is the base in its own precision plus what was trained, by the formula; the run draws on its rounded base."""
    import safetensors.torch
    import torch

    done = run("out", export=["diffusers", "merged"])()
    adapter, again = adapter_of(done), resumed(run("cut"), monkeypatch)
    assert adapter.keys() == again.keys() and all(adapter[name].equal(again[name]) for name in adapter)
    before, merged = (
        safetensors.torch.load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
        for folder in (base, done.exports["merged"])
    )
    start = "base_model.model.transformer."
    names = [name[len(start) : -len(".lora_A.weight")] for name in adapter if name.endswith(".lora_A.weight")]
    file = safetensors.torch.load_file(done.exports["diffusers"])
    assert len(names) == 2 * 7 and set(file) == {f"transformer.{name}.lora_{part}.weight" for name in names for part in "AB"}
    for name in names:
        a, b = (adapter[f"{start}{name}.lora_{part}.weight"] for part in "AB")
        change = 2 * b @ a  # alpha is twice the rank
        torch.testing.assert_close(merged[f"{name}.weight"], before[f"{name}.weight"] + change, rtol=1e-5, atol=1e-6)
        found = file[f"transformer.{name}.lora_B.weight"] @ file[f"transformer.{name}.lora_A.weight"]
        torch.testing.assert_close(found, change, rtol=1e-5, atol=1e-6)
    untouched = [name for name in before if name.removesuffix(".weight") not in names]
    assert untouched and all(merged[name].equal(before[name]) for name in untouched)
    opened = load_run(host, done.run.path)
    adapters = opened.adapters()
    assert next(iter(adapters.values())).facts["image"]["offload"] == "blocks"
    model = opened.inference_model(adapters)
    pictures = [model.generate(["a ball"], adapter, steps=2, cfg=1, size="64x64")[0] for adapter in (None, *adapters)]
    assert "Nf4" in {type(layer.stored).__name__ for layer in model._network.modules() if hasattr(layer, "stored")}
    assert all(picture.data[:4] == b"\x89PNG" for picture in pictures) and pictures[0].data != pictures[1].data
