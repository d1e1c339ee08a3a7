# SPDX-License-Identifier: Apache-2.0
"""Bases in one file of the original layout: the same model as the diffusers folder; pickles, damaged files and files of something else."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import shutil
import struct
from pathlib import Path

import pytest
from builders import everyday, nightly
from builders.tiny_images import encoders_of, load_sd
from loraforge_image.families.stable_diffusion.identify import identify
from loraforge_image.families.stable_diffusion.published import PUBLISHED

from loraforge import ConfigError, ModelError, load_run
from loraforge.data.dataset import load_data
from loraforge.plan import make_plan

# --- diffusers' names -> those of the original checkpoints -------------------------------------------------------------------

_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
           "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
_PLAIN = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
          "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
          "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip


def unet_name(name: str, attention: set[int]) -> str:
    """``attention``: the up blocks that have some; an upsampler stands behind it."""
    module, _, end = name.rpartition(".")
    if module in _PLAIN:
        return f"{_PLAIN[module]}.{end}"
    found = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)", name)
    if found:
        side, level, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if kind == "downsamplers":
            return f"input_blocks.{3 + 3 * level}.0.op.{end}"
        if kind == "upsamplers":
            return f"output_blocks.{3 * level + 2}.{2 if level in attention else 1}.conv.{end}"
        place = f"input_blocks.{1 + 3 * level + number}" if side == "down" else f"output_blocks.{3 * level + number}"
    else:
        found = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name)
        assert found, name
        kind, rest = found[1], found[3]
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(found[2])}." + _inside(kind, rest)
    return f"{place}.{0 if kind == 'resnets' else 1}." + _inside(kind, rest)


def _inside(kind: str, rest: str) -> str:
    layer, _, end = rest.rpartition(".")
    return f"{_RESNET[layer]}.{end}" if kind == "resnets" else rest


def vae_name(name: str, levels: int) -> str:
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.block.", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.upsample.", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for old, new in (("mid_block.attentions.0", "mid.attn_1"), ("group_norm", "norm"), ("to_out.0", "proj_out"), ("to_q", "q"),
                     ("to_k", "k"), ("to_v", "v"), ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out")):  # fmt: skip
        name = name.replace(old, new)
    return name


def open_clip(tensors):
    """OpenCLIP's names; q, k and v in one."""
    import torch

    made = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            made["text_projection"] = tensor.T
        elif name.startswith(("embeddings.", "final_layer_norm.")):
            for old, new in (("embeddings.position_embedding.weight", "positional_embedding"), ("embeddings.", ""),
                             ("final_layer_norm", "ln_final")):  # fmt: skip
                name = name.replace(old, new)
            made[name] = tensor
        elif ".k_proj." not in name and ".v_proj." not in name:
            if ".q_proj." in name:
                keys = [next(k for k in tensors if k.endswith(name.replace("q_proj", f"{part}_proj"))) for part in "qkv"]
                tensor = torch.cat([tensors[key] for key in keys])
                name = name.replace("q_proj.", "in_proj_")
            for old, new in (("encoder.layers.", "transformer.resblocks."), ("layer_norm", "ln_"), ("self_attn", "attn"),
                             ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):  # fmt: skip
                name = name.replace(old, new)
            made[name] = tensor
    return made


def original(folder: Path, family: str):
    """The tensors of a diffusers folder as one checkpoint in the original layout."""
    import safetensors.torch

    def part(name):
        (file,) = (folder / name).glob("*.safetensors")
        return safetensors.torch.load_file(file)

    ups = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))["up_block_types"]
    attention = {i for i, kind in enumerate(ups) if kind.startswith("CrossAttn")}
    made = {"model.diffusion_model." + unet_name(k, attention): v for k, v in part("unet").items()}
    levels = len(json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))["up_block_types"])
    for key, value in part("vae").items():
        conv = "mid_block.attentions" in key and value.ndim == 2  # 1x1 convolutions in the original
        made["first_stage_model." + vae_name(key, levels)] = value[:, :, None, None] if conv else value
    text = part("text_encoder")
    if family == "sd2":
        made |= {f"cond_stage_model.model.{k}": v for k, v in open_clip(text).items()}
    else:
        start = "conditioner.embedders.0.transformer." if family == "sdxl" else "cond_stage_model.transformer."
        made |= {f"{start}text_model.{k.removeprefix('text_model.')}": v for k, v in text.items()}
    if family == "sdxl":
        made |= {f"conditioner.embedders.1.model.{k}": v for k, v in open_clip(part("text_encoder_2")).items()}
    return {k: v.contiguous().clone() for k, v in made.items()}


def widen(folder: Path, target: Path) -> Path:
    """The tiny SDXL with text encoders of two widths, as the real one: by the width they are told apart in a single file."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    shutil.copytree(folder, target)
    torch.manual_seed(5)
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder_2")
    config.hidden_size, config.intermediate_size = 24, 48
    CLIPTextModelWithProjection(config).save_pretrained(target / "text_encoder_2")
    settings = {**UNet2DConditionModel.load_config(folder / "unet"), "cross_attention_dim": 16 + 24}
    UNet2DConditionModel.from_config(settings).save_pretrained(target / "unet")
    return target


@pytest.fixture(scope="session")
def checkpoints(sd_bases, tmp_path_factory):
    """``checkpoints("sd15")``: (diffusers folder, the same as one .safetensors)."""
    import safetensors.torch

    made = {}

    def get(family: str):
        if family not in made:
            place = tmp_path_factory.mktemp("single")
            folder = widen(sd_bases(family), place / "folder") if family == "sdxl" else sd_bases(family)
            safetensors.torch.save_file(original(folder, family), place / f"{family}.safetensors")
            made[family] = (folder, place / f"{family}.safetensors")
        return made[family]

    return get


def tensors_of(parts):
    named = [("unet", parts.unet), ("vae", parts.vae), *encoders_of(parts).items()]
    return {f"{part}.{name}": value for part, module in named for name, value in module.state_dict().items()}


def equal(one, two) -> None:
    a, b = tensors_of(one), tensors_of(two)
    assert a.keys() == b.keys()
    wrong = [name for name in a if a[name].dtype != b[name].dtype or not a[name].equal(b[name])]
    assert not wrong, wrong[:5]


# --- the same model ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_a_single_file_is_the_model_of_the_folder(family, checkpoints):
    folder, file = checkpoints(family)
    found = identify(str(file))
    assert (found.family, found.what) == (family, PUBLISHED[family].title)
    one, two = (load_sd(str(place), family, base_config=str(folder)) for place in (folder, file))
    equal(one, two)
    assert one.scheduler.config.prediction_type == two.scheduler.config.prediction_type == "epsilon"
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()


def test_half_precision_leaves_the_autoencoder_exact(checkpoints):
    import torch

    folder, file = checkpoints("sd15")
    one, two = (load_sd(str(place), "sd15", "fp16", base_config=str(folder)) for place in (folder, file))
    equal(one, two)
    assert {t.dtype for t in two.vae.parameters()} == {torch.float32} and {t.dtype for t in two.unet.parameters()} == {torch.float16}


@pytest.mark.parametrize("family", everyday(["sd15", "sd2", "sdxl"], 2))
def test_training_on_it_is_training_on_the_folder(family, checkpoints, gallery, paint, tmp_path, host):
    import safetensors.torch
    import torch

    folder, file = checkpoints(family)
    options = {"family": family, "max_steps": 2, "train_text_encoder": True, "export": ["webui"], "output_name": "x"}
    runs = [
        paint(gallery("folder.yaml", base_model=str(folder), output_dir=str(tmp_path / "a"), **options)),
        paint(gallery("file.yaml", base_model=str(file), base_config=str(folder), output_dir=str(tmp_path / "b"), **options)),
    ]
    one, two = (safetensors.torch.load_file(r.run.path / "adapter" / "adapter_model.safetensors") for r in runs)
    assert one.keys() == two.keys() and runs[1].exports["webui"].is_file()
    # Not to the bit: the weights lie elsewhere in memory, the processor adds in another order, and Adam makes a step of the smallest gradient.
    apart = torch.cat([(one[name] - two[name]).flatten() for name in one]).norm()
    assert float(apart / torch.cat([value.flatten() for value in one.values()]).norm()) < 1e-3
    losses = [{name: value for name, value in run.metrics.items() if "loss" in name} for run in runs]
    assert losses[0] and losses[0] == {name: pytest.approx(value, rel=1e-5) for name, value in losses[1].items()}
    opened = load_run(host, runs[1].run.path)
    assert opened.inference_model(opened.adapters()).generate(["a ball"], "b", steps=1)[0].data.startswith(b"\x89PNG")


def test_base_config_is_looked_up_beside_the_config_file_too(checkpoints, gallery, host, tmp_path):
    folder, file = checkpoints("sd15")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "config").symlink_to(folder)
    load_data(make_plan(host, "image", gallery(base_model=str(file), base_config="near/config")))
    with pytest.raises(ConfigError, match=r"base_config: '\./nowhere' is neither at"):
        make_plan(host, "image", gallery(base_model=str(file), base_config="./nowhere"))


# --- what it predicts --------------------------------------------------------------------------------------------------------


def test_what_a_file_predicts(checkpoints, sd_bases, tmp_path, monkeypatch):
    import safetensors.torch
    import torch

    folder, file = checkpoints("sdxl")
    marked = tmp_path / "noob.safetensors"
    safetensors.torch.save_file({**safetensors.torch.load_file(file), "v_pred": torch.zeros(0)}, marked)
    assert load_sd(str(marked), "sdxl", base_config=str(folder)).scheduler.config.prediction_type == "v_prediction"

    _, file = checkpoints("sd2")
    velocity = sd_bases("sd2", prediction="v_prediction")
    assert load_sd(str(file), "sd2", base_config=str(velocity)).scheduler.config.prediction_type == "v_prediction"
    own = dataclasses.replace(PUBLISHED["sd2"], config=str(velocity))  # the usual one says nothing of this file
    monkeypatch.setitem(PUBLISHED, "sd2", own)
    with pytest.raises(ConfigError, match="the file does not say what it predicts. Set prediction_type"):
        load_sd(str(file), "sd2")
    assert load_sd(str(file), "sd2", prediction="epsilon").scheduler.config.prediction_type == "epsilon"


@pytest.mark.parametrize("marks", [("v_pred",), ("v_pred", "ztsnr"), ("ztsnr",), ()], ids=str)
@pytest.mark.parametrize("wanted", ["auto", True, False])
def test_a_file_whose_noise_ends_in_noise_alone(marks, wanted, checkpoints, tmp_path):
    """NoobAI-XL's markers, against diffusers' own rescaled schedule."""
    import safetensors.torch
    import torch
    from diffusers import DDPMScheduler
    from loraforge_image.families import Diffusion

    folder, file = checkpoints("sdxl")
    marked = tmp_path / "noob.safetensors"
    safetensors.torch.save_file({**safetensors.torch.load_file(file), **{name: torch.zeros(0) for name in marks}}, marked)
    ends = {"v_pred", "ztsnr"} <= set(marks) if wanted == "auto" else wanted
    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": ends}
    made = Diffusion(load_sd(str(marked), "sdxl", base_config=str(folder), zero_snr=wanted).scheduler)
    assert made.prediction == ("v_prediction" if "v_pred" in marks else "epsilon")
    torch.testing.assert_close(made._schedule.alphas_cumprod, DDPMScheduler(**options).alphas_cumprod, rtol=0, atol=0)
    assert (int(made.scheduler("euler", 10, 0, "cpu").timesteps[0]) == 999) == ends


def test_a_run_on_such_a_file_keeps_it_with_the_adapter(checkpoints, gallery, paint, host, tmp_path):
    import safetensors.torch
    import torch

    folder, file = checkpoints("sdxl")
    marked = tmp_path / "noob.safetensors"
    safetensors.torch.save_file({**safetensors.torch.load_file(file), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, marked)
    run = paint(gallery(base_model=str(marked), base_config=str(folder), family="sdxl", max_steps=1, sample_prompts=[], export=["webui"]))
    opened = load_run(host, run.run.path)
    (adapter,) = opened.adapters().values()
    assert adapter.facts["image"]["zero_terminal_snr"] is True and adapter.facts["image"]["max_caption_tokens"] == 75
    with open(run.exports["webui"], "rb") as written:
        header = written.read(200_000)
    assert b'"ss_zero_terminal_snr":"True"' in header and b'"ss_max_token_length":"None"' in header
    drawn = opened.inference_model(opened.adapters())._base.objective.scheduler("ddim", 5, 0, "cpu")
    assert int(drawn.timesteps[0]) == 999 and float(drawn.alphas_cumprod[-1]) == 0


# --- pickles -----------------------------------------------------------------------------------------------------------------


def test_a_ckpt_is_refused_and_read_when_it_is_allowed(checkpoints, gallery, paint, command, tmp_path):
    import safetensors.torch
    import torch

    folder, file = checkpoints("sd15")
    inner = {"state_dict": safetensors.torch.load_file(file), "global_step": 7, "pytorch-lightning_version": "1"}
    torch.save(inner, tmp_path / "new.ckpt")
    torch.save(inner, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    for verb in ("check", "train"):
        code, out, err = command(verb, "image", gallery(base_model=str(tmp_path / "new.ckpt"), base_config=str(folder)))
        assert code == 2 and "new.ckpt is a pickle, which may run code when it is read" in err and "allow_pickle: true" in err
        assert "Traceback" not in out + err and not (tmp_path / "out").exists()
    one = load_sd(str(folder), "sd15")
    for name in ("new", "old"):
        equal(one, load_sd(str(tmp_path / f"{name}.ckpt"), "sd15", base_config=str(folder), allow_pickle=True))
    outcome = paint(
        gallery(base_model=str(tmp_path / "new.ckpt"), base_config=str(folder), allow_pickle=True, max_steps=1, learning_rate=0.3)
    )
    assert outcome.run.manifest()["family"] == "sd15"


@nightly
def test_a_pickles_family_shows_when_it_is_read(checkpoints, gallery, paint, tmp_path):
    import safetensors.torch
    import torch

    folder, file = checkpoints("sd2")
    torch.save(safetensors.torch.load_file(file), tmp_path / "two.ckpt")
    options = {
        "base_model": str(tmp_path / "two.ckpt"),
        "base_config": str(folder),
        "allow_pickle": True,
        "max_steps": 1,
        "learning_rate": 0.3,
    }
    with pytest.raises(ModelError, match=r"model_family is sd15, but this is Stable Diffusion 2.x.\nSet model_family: sd2"):
        load_sd(str(tmp_path / "two.ckpt"), "sd15", base_config=str(folder), allow_pickle=True)
    assert paint(gallery(**options, model_family="sd2")).run.manifest()["family"] == "sd2"


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new", [True, False])
def test_a_malicious_ckpt_runs_no_code(new, checkpoints, gallery, command, tmp_path):
    import safetensors.torch
    import torch

    folder, file = checkpoints("sd15")
    trap = tmp_path / "trap"
    pickle.loads(pickle.dumps(Evil(trap)))
    assert trap.is_dir()  # it would work
    trap.rmdir()
    evil = tmp_path / "evil.ckpt"
    torch.save({**safetensors.torch.load_file(file), "evil": Evil(trap)}, evil, _use_new_zipfile_serialization=new)
    for allowed, said in ((False, "is a pickle, which may run code"), (True, "holds more than tensors")):
        config = gallery(base_model=str(evil), base_config=str(folder), allow_pickle=allowed)
        code, out, err = command("train", "image", config, *(["--fresh"] if allowed else []))
        assert code == 2 and said in err and "Traceback" not in out + err and "weights_only=False" not in out + err, err
        assert not trap.exists()


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/pytorch_model"])
def test_a_malicious_bin_runs_no_code(part, sd_bases, gallery, command, tmp_path):
    import torch

    trap, folder = tmp_path / "trap", tmp_path / "folder"
    shutil.copytree(sd_bases("sd15"), folder)
    place = folder / part
    for file in place.parent.glob("*.safetensors"):
        file.unlink()
    torch.save({"evil": Evil(trap)}, place.with_suffix(".bin"))
    code, out, err = command("train", "image", gallery(base_model=str(folder), allow_pickle=True))
    assert code == 2 and "cannot be loaded" in err and "Traceback" not in out + err and not trap.exists(), err


# --- what goes wrong ---------------------------------------------------------------------------------------------------------


def test_damaged_files_are_told_without_a_traceback(checkpoints, gallery, command, tmp_path):
    import torch

    folder, file = checkpoints("sd15")
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    torch.save({"a": torch.zeros(9)}, tmp_path / "whole.ckpt")
    header = b'{"model.diffusion_model.x": 3, "cond_stage_model.transformer.y": [[]]}'
    damaged = {
        "empty.safetensors": b"",
        "short.safetensors": data[:100],
        "header.safetensors": data[: 8 + length // 2],
        "body.safetensors": data[:-1000],
        "noise.safetensors": b"\xff" * 4096,
        "nested.safetensors": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "strange.safetensors": struct.pack("<Q", len(header)) + header,
        "empty.ckpt": b"",
        "cut.ckpt": (tmp_path / "whole.ckpt").read_bytes()[:-200],
        "text.ckpt": b"version https://git-lfs.github.com/spec/v1\n",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        config = gallery(base_model=str(tmp_path / name), base_config=str(folder), allow_pickle=name.endswith(".ckpt"))
        code, out, err = command("train", "image", config)
        assert code == 2 and "Traceback" not in out + err and name in err, (name, code, err)
        assert not (tmp_path / "out" / "adapter").exists()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_a_file_of_something_else_is_told_what_it_is(checkpoints, gallery, host, tmp_path):
    import safetensors.torch
    import torch

    _, file = checkpoints("sd15")
    whole = safetensors.torch.load_file(file)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    one, two = torch.zeros(1), torch.zeros(2)
    strange = {
        "lora": ({"lora_unet_x.lora_down.weight": one}, "is a LoRA, not a base model"),
        "llm": ({"model.layers.0.mlp.weight": one}, "holds no checkpoint of Stable Diffusion"),
        "refiner": ({"model.diffusion_model.x": one, "conditioner.embedders.0.model.y": two}, "is a refiner of Stable Diffusion XL"),
        "inpaint": ({**whole, first: torch.zeros(8, 9, 3, 3)}, r"inpainting or depth model \(9 input channels\)"),
        "unet": ({k: v for k, v in whole.items() if k.startswith("model.")}, "without its text encoder"),
    }
    for name, (tensors, said) in strange.items():
        safetensors.torch.save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(ConfigError, match=said):
            make_plan(host, "image", gallery(base_model=str(tmp_path / f"{name}.safetensors")))


@pytest.mark.parametrize(("start", "part"), [("first_stage_model.decoder.", "vae"), ("model.diffusion_model.middle", "unet"),
                                             ("cond_stage_model.transformer.text_model.encoder.layers.3.", "text_encoder")])  # fmt: skip
def test_a_stripped_file_is_refused(start, part, checkpoints, tmp_path):
    import safetensors.torch

    folder, file = checkpoints("sd15")
    left = {k: v for k, v in safetensors.torch.load_file(file).items() if not k.startswith(start)}
    safetensors.torch.save_file(left, tmp_path / "stripped.safetensors")
    with pytest.raises(ModelError, match=rf"tensors of its {part} are missing"):
        load_sd(str(tmp_path / "stripped.safetensors"), "sd15", base_config=str(folder))


def test_base_config_is_asked_for_where_it_is_missing(checkpoints, sd_bases, gallery, command, tmp_path):
    import safetensors.torch

    folder, file = checkpoints("sd15")

    def told(**options) -> str:
        code, out, err = command("check", "image", gallery(base_model=str(file), **options))
        assert code == 2 and "Traceback" not in out + err, err
        return err

    err = told()
    assert "is a single file of Stable Diffusion 1.x; its configuration and tokenizer come from 'stable-diffusion-v1-5/" in err
    assert "HF_HUB_OFFLINE is set" in err and "base_config: FOLDER takes them from a diffusers folder" in err
    assert "base_config: 'nonsense' is neither a folder nor a hub id" in told(base_config="nonsense")
    assert "needs a folder of the same family, but this is Stable Diffusion XL" in told(base_config=str(sd_bases("sdxl")))
    (tmp_path / "empty").mkdir()
    assert "is no diffusers folder" in told(base_config=str(tmp_path / "empty"))
    shutil.copytree(folder, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "tokenizer")
    (tmp_path / "half" / "vae" / "config.json").unlink()
    assert "half lacks vae, tokenizer." in told(base_config=str(tmp_path / "half"))
    # The right family, another width.
    with pytest.raises(ModelError, match=r"cannot be loaded[\s\S]*base_config names another folder"):
        load_sd(str(file), "sd15", base_config="tiny-sd")
    assert safetensors.torch.load_file(file)  # still whole
