# SPDX-License-Identifier: Apache-2.0
"""Image runs on tiny random bases: what is trained, repeated, resumed, drawn and exported."""

from __future__ import annotations

import gc
import io
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from builders import everyday, nightly

from loraforge import ConfigError, ModelError, load_run
from loraforge.data.dataset import load_data
from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan
from loraforge.training import loop


def weights(folder: Path):
    import safetensors.torch

    return safetensors.torch.load_file(folder / "adapter" / "adapter_model.safetensors")


def same(one: Path, two: Path, tolerance: float = 0.0) -> None:
    import torch

    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance)


def differ(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return any(not a[name].equal(b[name]) for name in a)


# --- training ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "options", "modules"),
    everyday(
        [
            ("sd15", {}, 192),
            ("sd15", {"train_text_encoder": True, "text_encoder_lr": 1e-3}, 264),
            ("sd15", {"conv_rank": 2, "lora_target": "all-linear"}, 278),
            ("sd2", {"train_text_encoder": True, "min_snr_gamma": 5, "noise_offset": 0.05}, 210),
            ("sdxl", {"train_text_encoder": True, "conv_rank": 2}, None),
            ("sd15", {"lora_target": "attention", "ema_decay": 0.99}, 128),
            ("sd15", {"caption_shuffle": True, "caption_dropout": 0.3, "crop": "random", "flip": True, "max_caption_tokens": 150}, 192),
        ],
        3,
        4,
    ),
)
def test_every_family_trains_and_the_webui_file_is_written(family, options, modules, gallery, paint):
    outcome = paint(gallery(family=family, export=["webui"], **options))
    manifest = outcome.run.manifest()
    assert manifest["family"] == family and outcome.metrics["held_out_loss"] != outcome.metrics["held_out_loss_base"]
    found = {name.rpartition(".lora_")[0] for name in weights(outcome.run.path)}
    assert modules is None or len(found) == modules
    file = outcome.exports["webui"]
    assert file.suffix == ".safetensors" and file.with_suffix(".json").is_file() and file.with_suffix(".png").is_file()
    assert any(line.startswith("# in the prompt: <lora:out:0.8>") for line in outcome.usage["webui"])


def test_the_real_topologies_have_kohyas_numbers_of_modules(sd_bases):
    from builders.tiny_images import load_sd, network_of
    from loraforge_image.families.stable_diffusion.kohya_names import known_modules, kohya_name
    from loraforge_image.families.stable_diffusion.targets import lora_modules
    from loraforge_image.records import ImageKeys

    from loraforge import RunConfig

    config = RunConfig(train_data_dir="x", base_model="y")
    for family, plain, convolutions in (("sd15", 264, 86), ("sdxl", 986, 66)):
        network = network_of(load_sd(sd_bases(family, full=True), family), True)
        chosen = lora_modules(network, config, ImageKeys(train_text_encoder=True))
        assert len(chosen) == plain
        everything = lora_modules(network, config, ImageKeys(train_text_encoder=True, conv_rank=4))
        assert len(everything) == plain + convolutions
        names = {kohya_name(module, family) for module in everything}
        assert names == known_modules(family)


def test_v_prediction_is_recognised_and_used(gallery, paint, sd_bases):
    outcome = paint(gallery(family="sd2", base_model=str(sd_bases("sd2", prediction="v_prediction")), export=["webui"]))
    from safetensors import safe_open

    with safe_open(outcome.exports["webui"], "pt") as file:
        values = file.metadata()
    assert values["ss_base_model_version"] == "sd_v2_v" and values["modelspec.prediction_type"] == "v" and values["ss_v2"] == "True"


def test_the_loss_falls(gallery, paint):
    outcome = paint(gallery(epochs=6, learning_rate=0.02, eval_ratio=0.2, sample_prompts=[]))
    assert outcome.metrics["held_out_loss"] < outcome.metrics["held_out_loss_base"]
    assert outcome.metrics["best_held_out_loss"] <= outcome.metrics["held_out_loss"]


def test_equal_runs_are_equal_to_the_bit_and_the_seed_matters(gallery, paint, tmp_path):
    noisy = {"flip": True, "crop": "random", "caption_dropout": 0.3, "caption_shuffle": True, "lora_dropout": 0.1}
    runs = [paint(gallery(f"{n}.yaml", output_dir=str(tmp_path / n), seed=s, **noisy)).run.path for n, s in (("a", 1), ("b", 1), ("c", 2))]
    same(runs[0], runs[1])
    assert differ(runs[0], runs[2])


def test_no_way_of_cutting_a_step_changes_it(gallery, paint, tmp_path):
    runs = [
        paint(
            gallery(
                f"{b}.yaml", output_dir=str(tmp_path / str(b)), batch_size=b, gradient_accumulation=4 // b, sample_prompts=[], repeats=2
            )
        )
        for b in everyday((4, 2, 1), 0, 2)
    ]
    for other in runs[1:]:
        same(runs[0].run.path, other.run.path, 2e-4)


@pytest.mark.parametrize(
    "variant",
    everyday(
        [
            {},
            {"lora_variant": "loha", "block_ranks": ["down_blocks.1=2", "mid_block=0"], "sample_prompts": []},
            {"lora_variant": "lokr", "lokr_factor": 4, "conv_rank": 2, "lora_dropout": 0.1, "ema_decay": 0.9, "sample_prompts": []},
        ],
        0,
    ),
    ids=lambda values: values.get("lora_variant", "lora"),
)
def test_stopped_and_resumed_equals_never_stopped(gallery, paint, tmp_path, monkeypatch, variant):
    options = {"save_steps": 2, "epochs": 2, "lora_dropout": 0.1, "ema_decay": 0.9, "flip": True, "trigger_word": "sks", **variant}
    done = paint(gallery("whole.yaml", output_dir=str(tmp_path / "whole"), **options))
    assert done.question.startswith("sks, "), "what to try next calls what was trained"
    whole = done.run.path
    config = gallery("cut.yaml", output_dir=str(tmp_path / "cut"), **options)
    real = loop.Loop.step

    def stop(self, indices, step):
        if step == 3:
            raise KeyboardInterrupt
        return real(self, indices, step)

    monkeypatch.setattr(loop.Loop, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        paint(config)
    monkeypatch.setattr(loop.Loop, "step", real)
    resumed = paint(config, resume=True).run.path
    same(whole, resumed)
    if not variant:
        assert (whole / "samples" / "grid.png").read_bytes() == (resumed / "samples" / "grid.png").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_TWO_PROCESSES" not in os.environ, reason="half a minute; the loop's own test of two processes is always run")
def test_two_processes_are_the_same_as_one(gallery, paint, tmp_path):
    options = {"flip": True, "caption_dropout": 0.3, "caption_shuffle": True, "epochs": 2, "sample_prompts": []}
    one = paint(gallery("one.yaml", output_dir=str(tmp_path / "one"), batch_size=4, **options)).run.path
    config = gallery("two.yaml", output_dir=str(tmp_path / "two"), batch_size=2, **options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port", "0",
         "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m", "loraforge", "train", "image", str(config)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = tmp_path / "two"
    losses = [[json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()] for run in (one, two)]
    losses = [[event["loss"] for event in events if event["event"] in ("StepFinished", "Evaluated")] for events in losses]
    assert len(losses[0]) > 3 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    same(one, two, 2e-4)


def test_kohya_repeats_make_more_steps(tmp_path, gallery, host):
    from builders.tiny_images import draw_pictures

    draw_pictures(tmp_path / "kohya" / "3_ball", 4)
    (tmp_path / "kohya" / "3_ball" / "metadata.csv").unlink()
    plan = make_plan(host, "image", gallery(train_data_dir=str(tmp_path / "kohya"), eval_ratio=0))
    data = load_data(plan)
    assert len(data.records) == 4 and len(data.learned()) == 12
    assert data.texts[0][0].text == "ball"
    assert any("4 pictures, 12 with repeats" in line for line in data.examination.lines)


# --- memory and cache --------------------------------------------------------------------------------------------------------


def test_pictures_are_encoded_once_and_the_encoders_leave_memory(gallery, host, sd_bases, monkeypatch):
    import torch
    from accelerate.utils import set_seed
    from loraforge_image.families.stable_diffusion.loading import load_base as real

    config = gallery(flip=True)
    kept = []

    def remember(*given, **options):
        parts = real(*given, **options)
        kept[:] = [weakref.ref(parts.text_encoder), weakref.ref(parts.vae.encoder)]
        return parts

    monkeypatch.setattr("loraforge_image.families.stable_diffusion.loading.load_base", remember)
    counts = []
    for _ in range(2):
        plan = make_plan(host, "image", config)
        data = load_data(plan)
        set_seed(1)
        trainable = plan.family.load(plan.config.model_copy(update={"precision": "fp32"}), plan.keys, torch.device("cpu"))
        examples = [trainable.encode(record, text) for record, text in zip(data.records, data.texts, strict=True)]
        trainable.on_encoded()
        gc.collect()
        assert all(reference() is None for reference in kept)
        counts.append((trainable._cache.made, trainable._cache.found))
        assert len(examples[0]["latents"]) == 2
    assert counts[0][0] == 6 * 2 + 6 + 2 and counts[1] == (0, sum(counts[0]))


def test_held_out_pictures_are_measured_with_the_same_noise_however_they_are_batched(gallery, host):
    import torch

    plan = make_plan(host, "image", gallery(flip=True))
    data = load_data(plan)
    trainable = plan.family.load(plan.config.model_copy(update={"precision": "fp32"}), plan.keys, torch.device("cpu"))
    examples = [trainable.encode(r, t) for r, t in zip(data.records, data.texts, strict=True)]
    square = [e for e in examples if e["bucket"] == (64, 64)]
    trainable.model.eval()
    with torch.no_grad():
        together = trainable.loss(trainable.model, trainable.collate(square))
        apart = [trainable.loss(trainable.model, trainable.collate([e])) for e in square]
    torch.testing.assert_close(together, torch.stack(apart).mean())
    one, two = trainable.collate(square, 7), trainable.collate(square, 8)
    assert not one["noise"].equal(two["noise"]) and one["noise"].equal(trainable.collate(square, 7)["noise"])
    doubled = trainable.collate([square[0], {**square[0], "repeat": 1}], 7)
    assert not doubled["noise"][0].equal(doubled["noise"][1])


def test_prior_pictures_count_as_much_as_they_should(gallery, host, tmp_path):
    from builders.tiny_images import draw_pictures

    prior = draw_pictures(tmp_path / "prior", 3)
    plan = make_plan(host, "image", gallery(prior_data_dir=str(prior), prior_loss_weight=0.25, trigger_word="zzz"))
    data = load_data(plan)
    assert [r.prior for r in data.records].count(True) == 3
    assert all(("zzz" in t[0].text) != r.prior for r, t in zip(data.records, data.texts, strict=True))


# --- the loss by hand --------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_diffusion_loss(gallery, host, sd_bases):
    """The same number from diffusers' own parts, put together by hand."""
    import torch
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    plan = make_plan(host, "image", gallery())
    data = load_data(plan)
    trainable = plan.family.load(plan.config.model_copy(update={"precision": "fp32"}), plan.keys, torch.device("cpu"))
    batch = trainable.collate([trainable.encode(data.records[0], data.texts[0])], 5)
    base = sd_bases("sd15")
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    ids = tokenizer([data.texts[0][0].text], padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        ours = trainable.loss(trainable.model, batch)
        states = CLIPTextModel.from_pretrained(base / "text_encoder")(ids).last_hidden_state
        noisy = DDPMScheduler.from_pretrained(base / "scheduler").add_noise(batch["clean"], batch["noise"], batch["levels"])
        guess = UNet2DConditionModel.from_pretrained(base / "unet")(noisy, batch["levels"], states).sample
    torch.testing.assert_close(ours, (guess - batch["noise"]).square().mean(), rtol=1e-4, atol=1e-5)


# --- pictures ----------------------------------------------------------------------------------------------------------------


def test_samples_at_every_save_with_the_base_in_the_first_row(gallery, paint):
    from PIL import Image

    outcome = paint(gallery(save_steps=1, epochs=1, learning_rate=0.2, sample_prompts=["a ball", "a wall"]))
    places = sorted(p.name for p in (outcome.run.path / "samples").glob("step-*"))
    assert places[0] == "step-000000" and len(places) == outcome.run.manifest()["facts"]["steps"] + 1
    first, last = (outcome.run.path / "samples" / p / "01-a-ball.png" for p in (places[0], places[-1]))
    assert first.read_bytes() != last.read_bytes()
    with Image.open(outcome.samples) as sheet:
        assert sheet.height > len(places) * 64
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(outcome.run.path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert len(events.Images("samples")) == len(places)


def test_sample_writes_pngs_with_their_settings(gallery, paint, command, tmp_path):
    from PIL import Image

    run = paint(gallery(learning_rate=0.3, epochs=2)).run.path
    options = ["--steps", "2", "--seed", "7", "--scale", "0.8", "--size", "64x96", "--json", "--out", tmp_path / "made"]
    code, out, err = command("sample", run, "a ball, red", "--base", *options)
    assert code == 0, err
    answers = json.loads(out)[0]["answers"]
    assert set(answers) == {"base", "out", "beside"}
    with Image.open(answers["out"]) as picture:
        assert picture.size == (64, 96)
        assert picture.text["parameters"].startswith(
            "a ball, red <lora:out:0.8>\nSteps: 2, Sampler: DDIM, CFG scale: 7, Seed: 7, Size: 64x96"
        )
    assert Path(answers["base"]).read_bytes() != Path(answers["out"]).read_bytes()
    again = json.loads(command("sample", run, "a ball, red", *options)[1])[0]["answers"]["out"]
    assert again != answers["out"] and Path(again).read_bytes() == Path(answers["out"]).read_bytes()


def test_a_strength_of_nothing_is_the_base_and_several_act_together(gallery, paint, host, tmp_path):
    one = paint(gallery("a.yaml", output_dir=str(tmp_path / "a"), learning_rate=0.3)).run.path
    two = paint(gallery("b.yaml", output_dir=str(tmp_path / "b"), learning_rate=0.3, seed=9)).run.path
    opened = load_run(host, one)
    inference_model = opened.inference_model(opened.adapters([one, two]))

    def drawn(adapter):
        return inference_model.generate(["a ball"], adapter, steps=2)[0].data

    from PIL import Image, ImageChops

    def pixels(adapter):
        return Image.open(io.BytesIO(drawn(adapter)))

    assert ImageChops.difference(pixels(None), pixels({"a": 0.0})).getbbox() is None
    alone = [pixels({"a": 1.0}), pixels({"b": 1.0})]
    both = pixels({"a": 1.0, "b": 1.0})
    assert all(ImageChops.difference(both, other).getbbox() for other in alone)
    assert drawn(None) == drawn(None)


@nightly
def test_eval_measures_a_distance_for_both(gallery, paint, command):
    run = paint(gallery(export=["webui"], output_name="x")).run.path
    code, out, err = command("eval", run, "--limit", "2", "--json")
    assert code == 0, err
    figures = json.loads(out)["figures"]["style distance"]
    assert set(figures) == {"base", "adapter"} and all(float(v) >= 0 for v in figures.values())


# --- exports -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", everyday(["sd15", "sd2", "sdxl"], 0))
def test_diffusers_draws_from_every_export_what_we_draw(family, gallery, paint, host, sd_bases):
    """webui and diffusers files through load_lora_weights, and the merged model, against our own sampling."""
    import numpy as np
    import torch
    from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
    from PIL import Image

    config = gallery(
        family=family,
        learning_rate=0.1,
        train_text_encoder=True,
        conv_rank=2,
        save_precision="fp32",
        export=["webui", "diffusers", "merged"],
    )
    outcome = paint(config)
    opened = load_run(host, outcome.run.path)
    settings = {"steps": 2, "size": "64x64", "seed": 3}
    ours = opened.inference_model(opened.adapters()).generate(["a ball"], "out", **settings)[0].data
    plain = opened.inference_model(opened.adapters()).generate(["a ball"], None, **settings)[0].data
    ours, plain = (np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in (ours, plain))
    assert np.abs(ours - plain).max() > 3
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline

    def drawn(pipe):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
        made = pipe("a ball", negative_prompt="", num_inference_steps=2, guidance_scale=7.0, width=64, height=64,
                    generator=torch.Generator().manual_seed(3)).images[0]  # fmt: skip
        return np.asarray(made).astype(int)

    for name in ("webui", "diffusers"):
        pipe = kind.from_pretrained(sd_bases(family))
        file = outcome.exports[name]
        pipe.load_lora_weights(file.parent, weight_name=file.name)
        assert np.abs(drawn(pipe) - ours).max() <= 1, name
    assert np.abs(drawn(DiffusionPipeline.from_pretrained(outcome.exports["merged"])) - ours).max() <= 1


def test_convolutions_that_no_webui_knows_get_no_lora_and_it_is_said(gallery, paint, command):
    """tiny-sd grows once more than Stable Diffusion 1.x, so it has a shortcut there that no reader's table holds."""
    config = gallery(base_model="tiny-sd", resolution=128, conv_rank=2, max_steps=1, sample_prompts=[], export=["webui"])
    code, out, err = command("check", "image", config)
    assert code == 0, err
    said = "conv_rank leaves out down_blocks.3.resnets.0.conv_shortcut: Stable Diffusion 1.x has no such layer"
    assert said in " ".join(out.split())
    outcome = paint(config)
    found = {name.rpartition(".lora_")[0] for name in weights(outcome.run.path)}
    assert len(found) == 192 + 85 and "unet.down_blocks.3.resnets.0.conv_shortcut" not in found
    assert outcome.exports["webui"].is_file()
    assert "leaves out" not in command("check", "image", gallery(conv_rank=2))[1]  # the topology of Stable Diffusion itself


def test_what_is_said_to_be_left_out_is_what_is_left_out(sd_bases):
    from builders.tiny_images import load_sd, network_of
    from loraforge_image.families.stable_diffusion.identify import unet_config
    from loraforge_image.families.stable_diffusion.targets import lora_modules, readable, strange_convolutions
    from loraforge_image.records import ImageKeys

    from loraforge import RunConfig

    for base, family in (("tiny-sd", "sd15"), *((str(sd_bases(f)), f) for f in ("sd15", "sd2", "sdxl"))):
        network = network_of(load_sd(base, family), False)
        chosen = lora_modules(network, RunConfig(train_data_dir="x", base_model="y"), ImageKeys(conv_rank=2))
        gone = chosen.keys() - readable(chosen, family).keys()
        assert gone == {f"unet.{name}" for name in strange_convolutions(unet_config(base, None, family, None), family)}, base
        assert len(gone) == (base == "tiny-sd")


def test_what_the_webui_would_refuse_is_refused_before_training(gallery, host, paint, sd_bases, tmp_path):
    import shutil

    from diffusers import UNet2DConditionModel

    for target in ("q,v", "q_proj", r".*self_attn\.(q|k|v)_proj"):
        config = gallery(lora_target=target, train_text_encoder=True, export=["webui"])
        with pytest.raises(ConfigError, match="only if q, k, v and out all have a LoRA"):
            make_plan(host, "image", config)
        make_plan(host, "image", gallery(lora_target=target, train_text_encoder=True, export=["diffusers"]))
    for target in ("attention", "all-linear", "to_q", "q,v"):
        make_plan(host, "image", gallery(lora_target=target, train_text_encoder=target != "q,v", export=["webui"]))
    # A U-Net with one attention layer more than any that was published.
    folder = tmp_path / "deep"
    shutil.copytree(sd_bases("sd15"), folder)
    settings = {**UNet2DConditionModel.load_config(folder / "unet"), "transformer_layers_per_block": 2}
    UNet2DConditionModel.from_config(settings).save_pretrained(folder / "unet")
    with pytest.raises(ConfigError, match=r"export: webui would be refused when all is trained: .* has 160 modules that no WebUI knows"):
        paint(gallery(base_model=str(folder), export=["webui"]))
    assert not (tmp_path / "out" / "adapter").exists()
    assert paint(
        gallery(base_model=str(folder), export=["diffusers"], max_steps=1, learning_rate=0.3, output_dir=str(tmp_path / "b"))
    ).exports["diffusers"]


def test_dora_trains_but_says_beforehand_where_it_cannot_go(gallery, paint, host):
    for name in ("webui", "diffusers"):
        with pytest.raises(ConfigError, match=r"export: .*DoRA"):
            make_plan(host, "image", gallery(lora_variant="dora", export=[name]))
    outcome = paint(gallery(lora_variant="dora", export=["merged"]))
    assert (outcome.exports["merged"] / "unet" / "config.json").is_file()


def test_export_again_installs_where_it_is_told(gallery, paint, command, tmp_path):
    run = paint(gallery()).run.path
    (tmp_path / "sd" / "models" / "Lora").mkdir(parents=True)
    code, out, err = command("export", run, "--to", "webui", "--webui", tmp_path / "sd")
    assert code == 0 and "Installed:" in out, err
    assert {p.name for p in (tmp_path / "sd" / "models" / "Lora").iterdir()} == {"out.safetensors", "out.json", "out.png"}
    (tmp_path / "sd" / "models" / "Lora" / "out.json").write_text("mine", encoding="utf-8")
    code, out, err = command("export", run, "--to", "webui", "--webui", tmp_path / "sd")
    assert code == 2 and "is there already, and differs" in err
    assert (tmp_path / "sd" / "models" / "Lora" / "out.json").read_text(encoding="utf-8") == "mine"
    assert command("export", run, "--to", "webui", "--webui", tmp_path / "sd", "--overwrite")[0] == 0
    code, _, err = command("export", run, "--to", "webui", "--webui", tmp_path / "nowhere")
    assert code == 2 and f"webui: there is no folder {tmp_path / 'nowhere'}." in err


# --- bases -------------------------------------------------------------------------------------------------------------------


def test_a_wrong_base_is_told_what_it_is(gallery, host, base, sd_bases, tmp_path):
    with pytest.raises(ConfigError, match=r"is a base of text: write `loraforge train text`"):
        make_plan(host, "image", gallery(base_model=str(base)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is no diffusers folder"):
        make_plan(host, "image", gallery(base_model=str(tmp_path / "empty")))
    with pytest.raises(ModelError, match="model_family is sdxl, but this is Stable Diffusion 1.x"):
        plan = make_plan(host, "image", gallery(model_family="sdxl"))
        run_training(plan, host)
    inpainting = tmp_path / "inpainting" / "unet"
    inpainting.mkdir(parents=True)
    (inpainting / "config.json").write_text('{"in_channels": 9}', encoding="utf-8")
    with pytest.raises(ConfigError, match="inpainting or depth model"):
        make_plan(host, "image", gallery(base_model=str(inpainting.parent)))


def test_a_base_that_is_nothing_of_ours_is_told_on_the_command_line(gallery, command, tmp_path):
    (tmp_path / "pixart").mkdir()
    (tmp_path / "pixart" / "model_index.json").write_text('{"_class_name": "PixArtSigmaPipeline"}', encoding="utf-8")
    for options, said in (
        ({"base_model": str(tmp_path / "pixart")}, "is a PixArtSigmaPipeline, which has no U-Net of Stable Diffusion"),
        ({"base_model": "nonsense"}, "no model family takes base_model 'nonsense'. There are: "),
        ({"model_family": "sd2"}, "model_family is sd2, but this is Stable Diffusion 1.x.\nSet model_family: sd15."),
    ):
        code, out, err = command("check", "image", gallery(**options))
        assert code == 2 and said in err and "Traceback" not in out + err, err


PLUGIN = """
from loraforge import hookimpl
from loraforge_image.families.stable_diffusion.sd15 import SD15


class Other(SD15):
    name = "other"
    help = "Another one that takes the same bases."

    def matches(self, base_model):
        return SD15().matches(base_model)


@hookimpl
def loraforge_model_families():
    return [Other()]
"""


def test_two_families_that_match_a_base_have_to_be_told_apart(gallery, command, tmp_path):
    (tmp_path / "other.py").write_text(PLUGIN, encoding="utf-8")
    plugin = ["-p", tmp_path / "other.py"]
    code, out, err = command(*plugin, "check", "image", gallery())
    assert code == 2 and "several model families take" in err and "sd15, other" in err and "Choose one with model_family" in err
    assert "config.yaml:" in err and "Traceback" not in out + err
    assert command(*plugin, "check", "image", gallery(model_family="sd15"))[0] == 0


def test_a_pickle_is_refused_unless_asked_for(gallery, paint, sd_bases, tmp_path):
    import shutil

    import safetensors.torch
    import torch

    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(ConfigError, match="is a pickle, which may run code"):
        paint(gallery(base_model=str(tmp_path / "model.ckpt")))
    folder = tmp_path / "pickled"
    shutil.copytree(sd_bases("sd15"), folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(safetensors.torch.load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model\.bin may run code"):
        paint(gallery("b.yaml", base_model=str(folder)))
    outcome = paint(gallery("c.yaml", base_model=str(folder), allow_pickle=True, output_dir=str(tmp_path / "allowed")))
    assert outcome.metrics["held_out_loss"] > 0
