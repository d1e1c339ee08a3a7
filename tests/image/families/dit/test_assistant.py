# SPDX-License-Identifier: Apache-2.0
"""The training adapter of a distilled base: it acts in training, is gone in pictures, and is recorded with the run."""

from __future__ import annotations

import shutil

import pytest
from builders.dit import cases
from loraforge_image.families.dit.z_image import ZImage
from loraforge_image.records import ImageKeys

from loraforge import ConfigError, KeySet, RunConfig

Z_IMAGE = cases()["z-image"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny):
    """A file as the published one is: attention and feed-forward of every block, alpha left out, ComfyUI's prefix."""
    import safetensors.torch
    import torch

    tensors, chance = {}, torch.Generator().manual_seed(4)
    base = safetensors.torch.load_file(tiny(Z_IMAGE) / "transformer" / "diffusion_pytorch_model.safetensors")
    for name, value in base.items():
        if name.startswith("layers.") and (".attention.to_" in name or ".feed_forward.w" in name):
            called = f"diffusion_model.{name.removesuffix('.weight')}"
            tensors[f"{called}.lora_A.weight"] = torch.randn(2, value.shape[1], generator=chance) / 4
            tensors[f"{called}.lora_B.weight"] = torch.randn(value.shape[0], 2, generator=chance) / 4
    file = tmp_path_factory.mktemp("assistant") / "turbo_training_adapter.safetensors"
    safetensors.torch.save_file(tensors, file)
    return file


@pytest.fixture(scope="module")
def merged(tmp_path_factory, tiny, adapter):
    """The base with the adapter in its weights."""
    import safetensors.torch

    folder = tmp_path_factory.mktemp("merged") / "base"
    shutil.copytree(tiny(Z_IMAGE), folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    base, given = safetensors.torch.load_file(weights), safetensors.torch.load_file(adapter)
    for name in {key.rpartition(".lora_")[0] for key in given}:
        change = given[f"{name}.lora_B.weight"] @ given[f"{name}.lora_A.weight"]
        base[f"{name.removeprefix('diffusion_model.')}.weight"] += change
    safetensors.torch.save_file(base, weights, metadata={"format": "pt"})
    return folder


def settings(base, **keys):
    config = RunConfig(train_data_dir="x", base_model=str(base), precision="fp32", lora_rank=4, lora_dropout=0.0)
    return config, KeySet({RunConfig: config, ImageKeys: ImageKeys(resolution=64, bucket_step=16, **keys)})


def loaded(base, where, **keys):
    import torch

    config, given = settings(base, cache_dir=str(where), **keys)
    torch.manual_seed(0)
    made = ZImage().load(config, given, torch.device("cpu"))
    with torch.no_grad():
        for name, value in made.model.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) / 10)
    return made


def guesses_and_gradients(made, training: bool):
    import torch

    base = made.base
    noisy = torch.randn(2, *base.latent_shape(64, 64), generator=torch.Generator().manual_seed(2))
    rows = [{"context": torch.randn(n, 32, generator=torch.Generator().manual_seed(n))} for n in (5, 40)]
    made.model.train(training)
    guess = made.model(noisy, torch.tensor([0.3, 0.8]), base.join(rows), {})
    guess.square().mean().backward()
    return guess.detach(), {name: value.grad for name, value in made.model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_with_it_is_training_on_the_merged_base(checkpointing, tiny, adapter, merged, tmp_path):
    import torch

    ours, theirs = loaded(tiny(Z_IMAGE), tmp_path, assistant_adapter=str(adapter)), loaded(merged, tmp_path)
    if checkpointing:
        ours.base.enable_gradient_checkpointing()
    plain, _ = guesses_and_gradients(loaded(tiny(Z_IMAGE), tmp_path), True)
    for training in (True, False):
        (guess, gradients), (wanted, others) = (guesses_and_gradients(one, training) for one in (ours, theirs))
        assert float((guess - plain).abs().max()) > 0.01
        torch.testing.assert_close(guess, wanted, rtol=1e-4, atol=1e-5)
        assert gradients.keys() == others.keys()
        for name, value in gradients.items():
            torch.testing.assert_close(value, others[name], rtol=1e-3, atol=1e-6)


def test_pictures_are_drawn_without_it(tiny, adapter, tmp_path):
    import torch
    from loraforge_image.families.drawing import draw

    def picture(made) -> bytes:
        texts = made.base.join([{"context": torch.randn(9, 32, generator=torch.Generator().manual_seed(3))}])
        (drawn,) = draw(made.base, torch.device("cpu"), texts, [1], (64, 64), steps=2, cfg=1)
        return drawn.tobytes()

    made = loaded(tiny(Z_IMAGE), tmp_path, assistant_adapter=str(adapter))
    before, _ = guesses_and_gradients(made, True)
    assert picture(made) == picture(loaded(tiny(Z_IMAGE), tmp_path))
    assert guesses_and_gradients(made, True)[0].equal(before)  # and acts again, to the bit


def test_it_is_checked_before_training(tiny, adapter, tmp_path):
    import safetensors.torch
    import torch

    family, folder = ZImage(), tiny(Z_IMAGE)
    found = family.examine(*settings(folder, assistant_adapter=str(adapter), sample_prompts=[]), [])
    assert found.lines[-1] == (
        "assistant_adapter: turbo_training_adapter.safetensors acts on 14 layers in training and in the held-out loss; "
        "pictures are drawn without it"
    )
    tensors = safetensors.torch.load_file(adapter)
    shapes = {"wide": {name: torch.zeros(value.shape[0] + 1, value.shape[1]) if "lora_B" in name else value for name, value in tensors.items()},
              "strange": {name.replace("layers.1.", "layers.7."): value for name, value in tensors.items()}}  # fmt: skip
    for name, content in shapes.items():
        safetensors.torch.save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(ConfigError, match="was made for another base model, or is no training adapter: 7|14 of its 14"):
            family.examine(*settings(folder, assistant_adapter=str(tmp_path / f"{name}.safetensors")), [])
    with pytest.raises(ConfigError, match="assistant_adapter: "):
        family.examine(*settings(folder, assistant_adapter=str(folder / "model_index.json")), [])


def test_it_is_recorded_and_a_change_is_found(tiny, adapter, gallery, tmp_path, paint, host):
    from loraforge.audit.verify import verify

    file = str(shutil.copy(adapter, tmp_path / "helper.safetensors"))
    run = paint(gallery(base_model=str(tiny(Z_IMAGE)), assistant_adapter=file, max_steps=1, sample_prompts=[], eval_ratio=0)).run
    (said,) = run.manifest()["base"]["brought"].items()
    assert said[0] == "assistant_adapter" and said[1]["path"] == file

    def state() -> str:
        return next(part.state for part in verify(host, run.path).parts if part.name == "assistant_adapter")

    assert state() == "unchanged"
    (tmp_path / "helper.safetensors").write_bytes(b"x")
    assert state() == "altered"
    (tmp_path / "helper.safetensors").unlink()
    assert state() == "missing"


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("Z-Image", {"sample_prompts": []}, ""),
        ("Z-Image", {}, ""),
        ("Z-Image", {"sample_steps": 20, "sample_cfg": 7.0}, "is drawn in about 50 steps with a cfg of 4.0"),
        ("Z-Image", {"sample_steps": 30, "sample_cfg": 5.0}, ""),
        ("Z-Image-Turbo", {}, "is called turbo: such a base is distilled"),
        ("Z-Image", {"assistant_adapter": "x"}, "is not called turbo"),
        ("Z-Image-Turbo", {"assistant_adapter": "x", "sample_cfg": 4.0}, "write sample_cfg: 1 and sample_steps: 8"),
        ("Z-Image-Turbo", {"assistant_adapter": "x", "sample_cfg": 1.0}, ""),
        ("Z-Image-Turbo", {"assistant_adapter": "x", "sample_prompts": []}, ""),
    ],
)
def test_what_is_said_of_distilled_bases(name, keys, said, tiny, tmp_path):
    (tmp_path / name).symlink_to(tiny(Z_IMAGE))
    config, given = settings(tmp_path / name, **keys)
    found = "\n".join(ZImage().remarks(config, given[ImageKeys]))
    assert said in found if said else not found


@pytest.mark.parametrize(("name", "keys", "usual"), [("Z-Image", {}, (50, 4.0)), ("Z-Image-Turbo", {}, (8, 1.0)), ("mine", {"assistant_adapter": "x"}, (8, 1.0))])  # fmt: skip
def test_a_run_is_drawn_from_as_it_was_drawn_in_training(name, keys, usual, tiny, tmp_path):
    """8 steps without guidance are what Turbo was made for; the folder around the base says nothing of it."""
    (tmp_path / "turbo").mkdir()
    (tmp_path / "turbo" / name).symlink_to(tiny(Z_IMAGE))
    config, given = settings(tmp_path / "turbo" / name, **keys)
    family = ZImage()
    trained = family.load_base(config, given[ImageKeys].model_dump())
    opened = family.load_base(config, family.settings(given[ImageKeys]))
    assert (trained.usual_steps, trained.usual_cfg) == (opened.usual_steps, opened.usual_cfg) == usual
    assert trained.objective.level(0.5, 16) == opened.objective.level(0.5, 16)
