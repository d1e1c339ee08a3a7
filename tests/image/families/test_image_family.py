# SPDX-License-Identifier: Apache-2.0
"""The seam is general: a stranger's flow-matching family, in one short file, does all that the built-in ones do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from builders import ROOT, everyday, nightly
from builders.strangers import sd3
from loraforge_image.families import Diffusion, ImageBase, ImageFamily
from loraforge_image.families.stable_diffusion import families
from loraforge_image.records import ImageKeys, Picture

from loraforge import CheckpointSaved, ConfigError, KeySet, LoraForgeError, ModelError, PluginError, RunConfig, Span, hookimpl, load_run
from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan
from loraforge.plugin_api.host import PluginHost
from loraforge.testing import check_plugin

SOURCE = ROOT / "tests" / "thirdparty" / "loraforge-sd3" / "src" / "loraforge_sd3" / "__init__.py"


@pytest.fixture
def host():
    made = PluginHost(blocked=())
    made.register(sd3(), "sd3")
    return made


@pytest.fixture
def go(host):
    return lambda config, *overrides, **options: run_training(make_plan(host, "image", config, overrides), host, **options)


def tensors(run: Path) -> dict:
    import safetensors.torch

    found = safetensors.torch.load_file(run / "adapter" / "adapter_model.safetensors")
    return {name.removeprefix("base_model.model."): value for name, value in found.items()}


def test_the_family_is_one_short_file_that_keeps_the_contracts(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SOURCE.parent.parent))
    assert len(SOURCE.read_text(encoding="utf-8").splitlines()) < 120
    check_plugin(sd3())


@pytest.mark.slow
def test_it_trains_draws_and_evaluates(gallery, go, host, command):
    outcome = go(gallery(family="sd3", epochs=12, eval_ratio=0.2, save_steps=8, export=["webui"]))
    assert outcome.run.manifest()["family"] == "sd3"
    assert outcome.metrics["held_out_loss"] < outcome.metrics["held_out_loss_base"] - 0.1
    assert outcome.samples.is_file() and outcome.exports["webui"].with_suffix(".png").is_file()
    found = {name.rpartition(".lora_")[0] for name in tensors(outcome.run.path)}
    blocks = {"attn": 4, "attn2": 4, "ff": 2}
    context = 3 + 3 + 1 + 2 - 3  # the last block reads the text but changes it no more: no to_add_out and no ff_context
    assert len(found) == 2 * (blocks["attn"] + blocks["ff"]) + blocks["attn2"] + context + 3
    opened = load_run(host, outcome.run.path)
    model = opened.inference_model(opened.adapters())
    base, adapted, half = (model.generate(["a ball"], one, steps=2, seed=1)[0].data for one in (None, "out", {"out": 0.5}))
    assert base.startswith(b"\x89PNG") and len({base, adapted, half}) == 3
    assert b"Sampler: Euler," in base and b"Size: 64x64" in base
    code, out, err = command("-p", SOURCE, "eval", outcome.run.path, "--limit", "2", "--json")
    assert code == 0, err
    figures = json.loads(out)["figures"]["style distance"]
    assert float(figures["base"].split()[0]) >= 0 and figures["adapter"]


@nightly
def test_a_run_that_was_interrupted_goes_on_to_the_bit(gallery, go, tmp_path):
    options = {
        "family": "sd3",
        "epochs": 4,
        "save_steps": 3,
        "caption_dropout": 0.2,
        "crop": "random",
        "lora_dropout": 0.1,
        "sample_prompts": [],
    }
    whole = go(gallery("a.yaml", output_dir=str(tmp_path / "a"), **options)).run.path
    config = gallery("b.yaml", output_dir=str(tmp_path / "b"), **options)

    class Stop:
        @hookimpl
        def loraforge_event(self, event):
            if isinstance(event, CheckpointSaved):
                raise KeyboardInterrupt

    cut = PluginHost(blocked=())
    cut.register(sd3(), "sd3")
    cut.register(Stop(), "stop")
    with pytest.raises((KeyboardInterrupt, LoraForgeError)):
        run_training(make_plan(cut, "image", config, ()), cut)
    assert [place.name for place in (tmp_path / "b" / "checkpoints").glob("step-*")] == ["step-000003"]
    go(config, resume=True)
    one, two = tensors(whole), tensors(tmp_path / "b")
    assert one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


@nightly
def test_no_way_of_cutting_a_step_changes_it(gallery, go, tmp_path):
    import torch

    runs = [
        tensors(
            go(
                gallery(
                    f"{b}.yaml",
                    family="sd3",
                    output_dir=str(tmp_path / str(b)),
                    batch_size=b,
                    gradient_accumulation=4 // b,
                    sample_prompts=[],
                )
            ).run.path
        )
        for b in (4, 1)
    ]
    apart = torch.cat([(runs[0][name] - runs[1][name]).flatten() for name in runs[0]]).norm()
    assert float(apart / torch.cat([value.flatten() for value in runs[0].values()]).norm()) < 2e-3


# --- what is written ---------------------------------------------------------------------------------------------------------


def original(weights: dict, table) -> dict:
    """A transformer's weights under the names of the original model, by the family's own table."""
    import torch

    numbers = sorted({re.findall(r"blocks\.(\d+)\.", name)[0] for name in weights if "blocks." in name})
    made = {}
    for end in ("weight", "bias"):
        for number in numbers:
            for theirs, parts in {**{k: [v] for k, v in table.plain.items()}, **table.fused}.items():
                names = [f"{p.replace('{i}', number)}.{end}" for p in parts]
                if all(name in weights for name in names):
                    made[f"{theirs.replace('{i}', number)}.{end}"] = torch.cat([weights[name] for name in names])
    return made


@pytest.mark.parametrize("target", everyday(["all-linear", "attention", "q,v", ["to_k", "to_add_out", "ff.net.2"]], 0, 3), ids=str)
def test_every_export_does_what_was_trained(target, gallery, go, sd_bases, tmp_path):
    """The WebUI's file is put onto the original layout, which diffusers' own converter turns into its own: the merged export."""
    import safetensors.torch
    import torch
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    options = {
        "export": ["webui", "diffusers", "merged"],
        "max_steps": 4,
        "learning_rate": 0.05,
        "lora_target": target,
        "sample_prompts": [],
    }
    outcome = go(gallery(family="sd3", save_precision="fp32", lora_variant="rslora", **options))
    base = SD3Transformer2DModel.from_pretrained(sd_bases("sd3"), subfolder="transformer").state_dict()
    merged = StableDiffusion3Pipeline.from_pretrained(outcome.exports["merged"]).transformer.state_dict()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    adapted = {f"{name.removeprefix('transformer.').rpartition('.lora_')[0]}.weight" for name in tensors(outcome.run.path)}
    # The last block reads the text but changes it no more, so nothing asks for its text's queries.
    assert changed == adapted - {"transformer_blocks.1.attn.add_q_proj.weight"}
    # diffusers' own file in diffusers
    pipe = StableDiffusion3Pipeline.from_pretrained(sd_bases("sd3"))
    pipe.load_lora_weights(outcome.exports["diffusers"].parent, weight_name=outcome.exports["diffusers"].name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    theirs = pipe.transformer.state_dict()
    for name in base:
        torch.testing.assert_close(theirs[name], merged[name], rtol=1e-4, atol=1e-5)
    # the WebUI's
    table = sd3().StableDiffusion3.webui
    layout = original(base, table)
    file = safetensors.torch.load_file(outcome.exports["webui"])
    names = {name.removesuffix(".alpha") for name in file if name.endswith(".alpha")}
    for name in list(layout):
        called = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if name.endswith(".weight") and called in names:
            names.remove(called)
            down, up = file[f"{called}.lora_down.weight"], file[f"{called}.lora_up.weight"]
            layout[name] = layout[name] + file[f"{called}.alpha"] / down.shape[0] * up @ down
    assert not names  # every layer of the file is one of the original model's
    rest = {"joint_blocks.1.context_block.adaLN_modulation.1": "transformer_blocks.1.norm1_context.linear"}
    back = converted(layout, merged, convert_sd3_transformer_checkpoint_to_diffusers, rest)
    assert changed <= back.keys()
    for name in changed:
        torch.testing.assert_close(back[name], merged[name], rtol=1e-4, atol=1e-5)


def converted(layout: dict, like: dict, convert, rest: dict) -> dict:
    """What diffusers' converter makes of ``layout``; what it wants besides that is filled with zeros."""
    import torch

    class Filled(dict):
        def pop(self, name, *default):
            return super().pop(name) if name in self else torch.zeros(64, 32) if "adaLN" in name else torch.zeros(32)

    return convert(Filled({**layout, "context_embedder.weight": torch.zeros(32, 32)}))


# --- what is refused ---------------------------------------------------------------------------------------------------------

SET = {
    "conv_rank": 2, "train_text_encoder": True, "text_encoder_lr": 1e-4, "clip_skip": 2, "max_caption_tokens": 150,
    "prediction_type": "epsilon", "noise_offset": 0.1, "min_snr_gamma": 5, "allow_pickle": True, "base_config": "tiny-sd",
    "zero_terminal_snr": True, "multires_noise_iterations": 6, "multires_noise_discount": 0.5, "debiased_estimation": True,
    "assistant_adapter": str(SOURCE),
}  # fmt: skip


def test_every_key_that_means_nothing_is_tried_here():
    stranger = sd3().StableDiffusion3()
    assert SET.keys() == stranger.meaningless().keys() <= ImageKeys.model_fields.keys()
    for family in families():
        assert isinstance(family, ImageFamily) and family.meaningless().keys() <= SET.keys()


@pytest.mark.parametrize("key", [*SET, "sdxl: clip_skip", "sd15: assistant_adapter"])
def test_a_key_that_means_nothing_is_refused(key, gallery, host):
    from loraforge.data.dataset import load_data

    family, _, name = key.rpartition(": ")
    with pytest.raises(ConfigError, match=f"{name} means nothing for {family or 'sd3'}: .*Leave it out"):
        load_data(make_plan(host, "image", gallery(family=family or "sd3", **{name: SET[name]}), ()))


def test_sides_that_the_transformer_cannot_divide_are_refused(gallery, host, go):
    from loraforge.data.dataset import load_data

    with pytest.raises(ConfigError, match="bucket_step: must be a multiple of 16; got 8"):
        load_data(make_plan(host, "image", gallery(family="sd3", bucket_step=8), ()))
    run = go(gallery(family="sd3", max_steps=1, sample_prompts=[])).run.path
    opened = load_run(host, run)
    model = opened.inference_model(opened.adapters())
    with pytest.raises(ConfigError, match="--size: write width x height in multiples of 16, like 512x768; got '72x64'"):
        model.generate(["x"], None, size="72x64")
    pictures = [answer.data for answer in model.generate(["x", "x"], None, steps=1, seed=4)]
    assert pictures[0] != pictures[1]  # the next prompt has the next seed
    assert b"Seed: 5" in pictures[1]
    with pytest.raises(ConfigError, match="--sampler: ddim does not draw with this base; use euler"):
        model.generate(["x"], None, sampler="ddim")


def broken(kind: str, folder: Path) -> str:
    """Damages a base; what is said of it."""
    import safetensors.torch

    index = folder / "model_index.json"
    listed = json.loads(index.read_text(encoding="utf-8"))
    if kind == "tensors":
        file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
        kept = safetensors.torch.load_file(file)
        del kept["transformer_blocks.0.attn.to_q.weight"]
        safetensors.torch.save_file(kept, file)
        return "1 tensor of its transformer is missing"
    if kind == "text":
        file = folder / "text_encoder_3" / "model.safetensors"
        kept = safetensors.torch.load_file(file)
        kept.pop("encoder.block.0.layer.0.SelfAttention.q.weight")
        safetensors.torch.save_file(kept, file, metadata={"format": "pt"})
        return "1 tensor of its text_encoder_3 is missing"
    if kind == "code":
        index.write_text(json.dumps({**listed, "vae": ["evil", "Vae"]}), encoding="utf-8")
        (folder / "evil.py").write_text("raise SystemExit", encoding="utf-8")
        return "vae would run code that the model brings"
    if kind == "config":
        path = folder / "transformer" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, "num_layers": 10**6}), encoding="utf-8")
        return "num_layers cannot be 1000000"
    if kind.startswith("shards"):
        named = {
            "shards above": "../x.safetensors",
            "shards below": "a/x.safetensors",
            "shards of Windows": "..\\x",
            "shards of nothing": 3,
        }
        weights = {"weight_map": {"a": "x.safetensors", "b": named[kind]}}
        (folder / "transformer" / "x.safetensors.index.json").write_text(json.dumps(weights), encoding="utf-8")
        return "names files outside of its folder"
    if kind in ("vae", "tokenizer_3", "scheduler"):
        shutil.rmtree(folder / kind)
        return f"lacks {kind}"
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    return "cannot be loaded"


SHARDS = ["shards above", "shards below", "shards of Windows", "shards of nothing"]


@pytest.mark.parametrize("kind", ["tensors", "text", "code", "config", "vae", "tokenizer_3", "scheduler", "bytes", *SHARDS])
def test_a_base_that_is_damaged_or_brings_code_is_refused(kind, gallery, host, sd_bases, tmp_path):
    import torch

    folder = Path(shutil.copytree(sd_bases("sd3"), tmp_path / "base"))
    said = broken(kind, folder)
    config = RunConfig(train_data_dir="x", base_model=str(folder), precision="fp32")
    keys = KeySet({RunConfig: config, ImageKeys: ImageKeys()})
    with pytest.raises(ModelError, match=re.escape(said)):
        sd3().StableDiffusion3().load(config, keys, torch.device("cpu"))
    if said.startswith("lacks"):  # that needs no weights to be seen
        with pytest.raises(ConfigError, match=said):
            sd3().StableDiffusion3().examine(config, keys, [])


def test_what_a_family_cannot_write_is_not_what_it_writes_by_default(gallery, host, monkeypatch):
    plan = make_plan(host, "image", gallery(family="sd3", export=...), ())
    assert [exporter.name for exporter in plan.exporters] == ["webui"]
    plain = type("Plain", (ImageFamily,), {"name": "p", "help": "p", "pipeline": "P", "base": sd3().StableDiffusion3Base})
    assert plain.exporters == ("diffusers",) and all(family.exporters == () for family in families())
    monkeypatch.setattr(sd3().StableDiffusion3, "exporters", plain.exporters)
    assert [exporter.name for exporter in make_plan(host, "image", gallery(family="sd3", export=...), ()).exporters] == ["diffusers"]


@pytest.mark.parametrize("size", ["64", "5²x64", "0x64", "64x-64", "64x64x64", "72x64", "x"])
def test_a_size_that_is_none_is_refused(size):
    from loraforge_image.families.inference import ImageInferenceModel

    with pytest.raises(ConfigError, match="write width x height in multiples of 16"):
        ImageInferenceModel(None, None, "", 16)._size(size)


def test_the_layers_that_are_named_can_be_asked_for(sd_bases):
    """What the message lists is what ``lora_target`` takes."""
    import torch
    from diffusers import StableDiffusion3Pipeline

    base = sd3().StableDiffusion3Base(StableDiffusion3Pipeline.from_pretrained(sd_bases("sd3")), torch.float32, {})
    with pytest.raises(ConfigError, match="There are: ") as told:
        base.targets(RunConfig(train_data_dir="x", base_model="y", lora_target="nothing"), ImageKeys(), base.network)
    names = str(told.value).partition("There are: ")[2].rstrip(".").split(", ")
    assert "net.2" in names and "to_out.0" in names
    found = [base.targets(RunConfig(train_data_dir="x", base_model="y", lora_target=[n]), ImageKeys(), base.network) for n in names]
    everything = base.targets(RunConfig(train_data_dir="x", base_model="y"), ImageKeys(), base.network)
    assert set().union(*found) == everything.keys()


def test_an_export_that_comes_later_says_which_layers_have_no_name(gallery, go, host, monkeypatch, tmp_path):
    import dataclasses as dc

    table = sd3().StableDiffusion3.webui
    plain = {name: layer for name, layer in table.plain.items() if "mlp" not in name}
    monkeypatch.setattr(sd3().StableDiffusion3, "webui", dc.replace(table, plain=plain))
    opened = load_run(host, go(gallery(family="sd3", max_steps=1, sample_prompts=[])).run.path)
    from loraforge_image.export.webui import WebuiExporter

    from loraforge import ExportError

    with pytest.raises(ExportError, match=r"would not read these modules.*ff\.net\.0\.proj"):
        WebuiExporter().export(opened.adapters()["out"], tmp_path)


def test_a_family_without_a_webui_format_says_so_before_anything_is_loaded(gallery, monkeypatch, host):
    from loraforge.data.dataset import load_data

    monkeypatch.setattr(sd3().StableDiffusion3, "webui", None)
    with pytest.raises(ConfigError, match=r"the family 'sd3' has no WebUI format. Use export: \[diffusers\] or \[merged\]"):
        load_data(make_plan(host, "image", gallery(family="sd3", export=["webui"]), ()))


def test_what_a_family_says_without_being_told_more(sd_bases, tmp_path):
    family, folder = sd3().StableDiffusion3(), str(sd_bases("sd3"))
    wanted = "sd3 takes folders of a StableDiffusion3Pipeline; this is one of a StableDiffusionPipeline"
    assert [family.describe_base(base) for base in ("tiny-sd", "nonsense", str(tmp_path))] == [wanted, "", ""]
    assert family.typical_ranges(folder) == {"learning_rate": (5e-5, 5e-4), "lora_rank": (4, 64)}
    assert family.settings(ImageKeys(resolution=640)) == {"resolution": 640, "prediction_type": "auto", "zero_terminal_snr": "auto"}
    assert family.remarks(None, None) == () and [family.matches(base) for base in (folder, "tiny-sd", "nonsense")] == [True, False, False]


@pytest.mark.parametrize(
    ("shared", "keys", "said"),
    [
        ({}, {"resolution": 64, "bucket_step": 64}, []), ({}, {"resolution": 64, "bucket_step": 80}, [r"resolution: must not be smaller than .*\(80\)"]),
        ({"lora_variant": "pissa"}, {"offload_share": 0.5}, ["lora_variant: pissa does not", "offload_share belongs to offload: blocks"]),
        ({"precision": "fp8"}, {"train_unet": False}, ["precision: fp8 rounds the denoiser", "train_unet and train_text_encoder are both off"]),
        ({}, {"bucket_step": 24, "clip_skip": 2}, ["clip_skip means nothing for sd3", "bucket_step: must be a multiple of 16; got 24"]),
    ],
    ids=str,
)  # fmt: skip
def test_all_that_is_wrong_is_said_at_once(shared, keys, said, sd_bases):
    config = RunConfig(train_data_dir="x", base_model=str(sd_bases("sd3")), **shared)
    try:
        found = sd3().StableDiffusion3().examine(config, KeySet({RunConfig: config, ImageKeys: ImageKeys(**keys)}), []) and ()
    except ConfigError as error:
        found = error.problems
    assert len(found) == len(said) and all(re.match(one, problem) for one, problem in zip(said, found, strict=True)), found


# --- mistakes of an author -----------------------------------------------------------------------------------------------------


def variant(**changes):
    """The stranger's family with something else in its base."""
    stranger = sd3()
    base = type("Odd", (stranger.StableDiffusion3Base,), changes)
    return type("OddFamily", (stranger.StableDiffusion3,), {"base": base})()


def trainable(family, base, tmp_path, **keys):
    import torch

    config = RunConfig(train_data_dir="x", base_model=str(base), precision="fp32", lora_rank=2, lora_dropout=0.0)
    values = {"resolution": 64, "bucket_step": 16, "sample_prompts": [], "cache_dir": str(tmp_path / "cache"), **keys}
    torch.manual_seed(0)
    return family.load(config, KeySet({RunConfig: config, ImageKeys: ImageKeys(**values)}), torch.device("cpu"))


def loss_of(made, tmp_path, captions=("a", "b c d")) -> float:
    import torch
    from builders.tiny_images import draw_pictures

    folder = draw_pictures(tmp_path / "drawn", 2, sizes=((64, 64),))
    rows = [Picture(where=str(i), path=str(folder / f"{i}.png"), caption=c, sha256=str(i)) for i, c in enumerate(captions)]
    batch = made.collate([made.encode(row, [Span(row.caption, True)]) for row in rows], 1)
    with torch.no_grad():
        return float(made.loss(made.model, batch))


def words(self, caption):
    import torch

    return {"context": torch.zeros(len(caption) + 1, 32), "pooled": torch.zeros(32)}


MISTAKES = {
    "shape": ({"predict": lambda self, noisy, *rest: noisy[:, :2]}, r"Odd.predict returned \(2, 2, 8, 8\), but the latents are \(2, 4, 8, 8\)"),
    "tensor": ({"embed": lambda self, caption: words(self, caption)["context"]}, "Odd.embed must return a mapping of names to tensors; got Tensor"),
    "values": ({"embed": lambda self, caption: {"context": [1]}}, "Odd.embed must return a mapping of names to tensors; got dict"),
    "lengths": ({"embed": words}, r"'context' of several captions has the shapes \(2, 32\), \(6, 32\); write join"),
    "layers": ({"layers": "blocks_of_another_model"}, "layers finds no linear layer of the denoiser. There are: .*linear"),
    "denoiser": ({"denoiser_name": "unet"}, "denoiser_name is 'unet', but the pipeline has .*transformer"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_base_is_named(mistake, sd_bases, tmp_path):
    changes, said = MISTAKES[mistake]
    with pytest.raises(PluginError, match=said):
        loss_of(trainable(variant(**changes), sd_bases("sd3"), tmp_path), tmp_path)


def test_a_method_that_would_never_be_called_is_named():
    with pytest.raises(TypeError, match=r"Odd\.make_objectiv is never called; did you mean make_objective\?"):
        variant(make_objectiv=lambda self: None)
    assert variant(helper=lambda self: None)


@pytest.mark.parametrize("missing", ["name", "help", "pipeline", "base"])
def test_a_family_that_lacks_something_says_what(missing):
    parts = {"name": "p", "help": "p", "pipeline": "P", "base": sd3().StableDiffusion3Base}
    del parts[missing]
    with pytest.raises(TypeError, match=f"Plain needs {missing}$"):
        type("Plain", (ImageFamily,), parts)()


def test_what_one_family_encoded_is_not_what_another_gets(sd_bases, tmp_path):
    """Both have the same base and the same cache folder."""

    def encode(self, pixels):
        return 3 * sd3().StableDiffusion3Base.encode(self, pixels)

    def embed(self, caption):
        return {name: 2 * value for name, value in sd3().StableDiffusion3Base.embed(self, caption).items()}

    base = sd_bases("sd3")
    plain = loss_of(trainable(sd3().StableDiffusion3(), base, tmp_path), tmp_path)
    for change in ({"encode": encode}, {"embed": embed}):
        changed = loss_of(trainable(variant(**change), base, tmp_path), tmp_path)
        fresh = loss_of(trainable(variant(**change), base, tmp_path, cache_dir=str(tmp_path / "fresh")), tmp_path)
        assert changed == fresh != plain
    assert loss_of(trainable(sd3().StableDiffusion3(), base, tmp_path), tmp_path) == plain


@pytest.mark.parametrize("part", ["encode", "embed"])
def test_a_family_whose_code_was_changed_encodes_anew(part, sd_bases, tmp_path):
    """Under the same name: the author corrected the factor and ran it again."""
    made = []
    for factor in ("2", "3"):
        original = getattr(sd3().StableDiffusion3Base, part)
        source = {
            "encode": f"def encode(self, pixels):\n    return {factor} * original(self, pixels)\n",
            "embed": f"def embed(self, caption):\n    return {{name: {factor} * v for name, v in original(self, caption).items()}}\n",
        }[part]
        file = tmp_path / f"{factor}.py"
        file.write_text(source, encoding="utf-8")
        scope = {"original": original, "__name__": "mine"}
        exec(compile(source, str(file), "exec"), scope)
        made.append(loss_of(trainable(variant(**{part: scope[part]}), sd_bases("sd3"), tmp_path), tmp_path))
    assert made[0] != made[1]


def test_an_autoencoder_with_another_scale_encodes_anew(sd_bases, tmp_path):
    folder = Path(shutil.copytree(sd_bases("sd3"), tmp_path / "base"))
    one = loss_of(trainable(sd3().StableDiffusion3(), folder, tmp_path), tmp_path)
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    (folder / "vae" / "config.json").write_text(json.dumps({**config, "scaling_factor": 5.0}), encoding="utf-8")
    assert loss_of(trainable(sd3().StableDiffusion3(), folder, tmp_path), tmp_path) != one


def test_what_a_caption_is_made_into_may_share_its_memory(sd_bases, tmp_path):
    def embed(self, caption):
        found = sd3().StableDiffusion3Base.embed(self, caption)
        return {**found, "again": found["context"], "part": found["context"][2:4]}

    assert loss_of(trainable(variant(embed=embed), sd_bases("sd3"), tmp_path), tmp_path) > 0


# --- a family that predicts noise, with all defaults ---------------------------------------------------------------------------


class PlainBase(ImageBase):
    """Stable Diffusion 1.x behind the seam's defaults alone."""

    denoiser_name = "unet"
    layers = r"\.transformer_blocks\."

    def embed(self, caption):
        return {"context": self.pipe.encode_prompt(caption, self.device, 1, False)[0][0]}

    def predict(self, noisy, levels, conditioning, extras):
        return self.denoiser(noisy, levels, conditioning["context"]).sample


class Plain(ImageFamily):
    name, help, pipeline, base, objective = "plain", "Plain.", "StableDiffusionPipeline", PlainBase, Diffusion


SNR, V = {"min_snr_gamma": 5.0}, {"prediction_type": "v_prediction"}


@pytest.mark.parametrize(
    "keys", everyday([{}, SNR, V, {"noise_offset": 0.3}, {**SNR, **V}, {**V, "zero_terminal_snr": True}], 3, 4, 5), ids=str
)
def test_noise_and_velocity_are_learned_behind_the_defaults_as_in_the_built_in_family(keys, sd_bases, tmp_path):
    from loraforge_image.families.stable_diffusion.sd15 import SD15

    assert not keys.keys() & Plain().meaningless().keys()
    ours, theirs = (loss_of(trainable(family, sd_bases("sd15"), tmp_path, **keys), tmp_path) for family in (Plain(), SD15()))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert not keys or ours != pytest.approx(loss_of(trainable(Plain(), sd_bases("sd15"), tmp_path), tmp_path), rel=1e-3)


def test_the_merged_model_draws_with_the_scheduler_that_the_base_came_with(sd_bases, tmp_path):
    import torch
    from builders.tiny_images import load_sd
    from diffusers import DPMSolverMultistepScheduler
    from loraforge_image.export.diffusers import MergedExporter

    from loraforge import Adapter
    from loraforge.adapters import lora

    pipe = load_sd(sd_bases("sd15"), "sd15")
    pipe.scheduler = DPMSolverMultistepScheduler()
    pipe.save_pretrained(tmp_path / "base")
    facts = {"family": "plain", "image": {"pipeline": "StableDiffusionPipeline", "prediction_type": "v_prediction"}}
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{name}.lora_A.weight": torch.zeros(1, 24), f"{name}.lora_B.weight": torch.zeros(24, 1)}
    adapter = Adapter(tensors, 1, 1, ("x",), {name: lora.probe(name, torch.zeros(24, 24))}, str(tmp_path / "base"), facts=facts)
    (tmp_path / "out").mkdir()
    MergedExporter().export(adapter, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert written["_class_name"] == "DPMSolverMultistepScheduler" and written["prediction_type"] == "v_prediction"
