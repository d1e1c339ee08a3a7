# SPDX-License-Identifier: Apache-2.0
"""Will it fit? Counts against torch's own, order and limits of the estimates, proposals, published shapes, and measured peaks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import everyday, nightly
from builders.tiny_images import draw_pictures, make_sd
from builders.tiny_text import make_base, make_tokenizer, write_config, write_rows

from loraforge.config.schema import RunConfig, validate
from loraforge.config.yaml_reader import read
from loraforge.data.dataset import load_data
from loraforge.errors import ConfigError
from loraforge.pipeline import estimate, hardware
from loraforge.plan import make_plan

GB = 2**30
SMALL = {"vocab_size": 320, "hidden_size": 48, "num_hidden_layers": 3, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
         "pad_token_id": 0}  # fmt: skip
MOE = {"num_experts_per_tok": 2, "head_dim": 16}
DECODERS = {
    "llama": ("LlamaConfig", {**SMALL, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("MistralConfig", SMALL),
    "qwen2": ("Qwen2Config", {**SMALL, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**SMALL, "head_dim": 16}),
    "gemma": ("GemmaConfig", {**SMALL, "head_dim": 16}),
    "gemma2": ("Gemma2Config", {**SMALL, "head_dim": 16}),
    "gemma3_text": ("Gemma3TextConfig", {**SMALL, "head_dim": 16}),
    "phi3": ("Phi3Config", SMALL),
    "gpt2": ("GPT2Config", {"vocab_size": 320, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64}),
    "mixtral": ("MixtralConfig", {**SMALL, **MOE, "num_local_experts": 4}),
    "qwen3_moe": ("Qwen3MoeConfig", {**SMALL, **MOE, "num_experts": 4, "moe_intermediate_size": 32}),
}
QWEN7B = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
          "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
          "eos_token_id": 2}  # fmt: skip
DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
SD15 = {"in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "layers_per_block": 2,
        "down_block_types": [DOWN, DOWN, DOWN, "DownBlock2D"], "up_block_types": ["UpBlock2D", UP, UP, UP]}  # fmt: skip
SD2 = {**SD15, "cross_attention_dim": 1024, "use_linear_projection": True}
SDXL = {**SD2, "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048, "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 2816,
        "down_block_types": ["DownBlock2D", DOWN, DOWN], "up_block_types": [UP, UP, "UpBlock2D"]}  # fmt: skip
VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4}
CLIP_L = {"architectures": ["CLIPTextModel"], "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "vocab_size": 49408}
CLIP_G = {"architectures": ["CLIPTextModelWithProjection"], "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
          "vocab_size": 49408, "projection_dim": 1280}  # fmt: skip


def run_config(**values) -> RunConfig:
    return RunConfig(train_data_dir="x", base_model="y", **{"precision": "fp32", **values})


@pytest.fixture
def planned(host):
    """(plan, data) of a config."""

    def make(task: str, config: Path, *overrides: str):
        plan = make_plan(host, task, config, overrides)
        return plan, load_data(plan, stop=False)

    return make


@pytest.fixture
def qwen(tmp_path):
    """A config whose base is Qwen2.5-7B without its weights, and rows of a usual length."""
    folder = tmp_path / "qwen"
    folder.mkdir()
    make_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(QWEN7B), encoding="utf-8")
    lines = ["instruction,output", *(f"第{i}问{'试用期工资怎么算？' * 30},{'答案：根据《劳动合同法》处理。' * 12}{i}" for i in range(12))]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    values = {
        "train_data_dir": str(tmp_path / "data"),
        "base_model": str(folder),
        "output_dir": str(tmp_path / "out"),
        "max_seq_length": 2048,
    }
    return write_config(tmp_path / "c.yaml", **values)


@pytest.fixture
def published(tmp_path):
    """A config whose base is a published Stable Diffusion, without its weights."""

    def make(family: str, resolution: int) -> Path:
        folder = tmp_path / family
        if not folder.exists():
            make_sd(folder, family)
        shapes = {"unet": {"sd15": SD15, "sd2": SD2, "sdxl": SDXL}[family], "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": CLIP_G}
        for name, shape in shapes.items():
            if (folder / name).is_dir():
                (folder / name / "config.json").write_text(json.dumps(shape), encoding="utf-8")
        data = draw_pictures(tmp_path / "pictures", 3, ((resolution, resolution),))
        values = {"train_data_dir": str(data), "base_model": str(folder), "output_dir": str(tmp_path / "out"), "resolution": resolution}
        return write_config(tmp_path / f"{family}.yaml", **values, batch_size=1, eval_ratio=0, stop_on="never")

    return make


# --- counts ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(DECODERS))
def test_a_decoders_parameters_and_its_loras_are_those_that_torch_counts(kind):
    import torch
    import transformers
    from loraforge_text.families import memory

    from loraforge.adapters import lora

    name, values = DECODERS[kind]
    config = getattr(transformers, name)(**values)
    shape = memory.read(config.to_dict())
    for target in ("all-linear", "attention", "q,v", "c_proj" if kind == "gpt2" else "o_proj", r".*\.1\..*_?(attn|proj)"):
        for variant in ("lora", "dora"):
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config)
            assert sum(p.numel() for p in model.parameters()) == shape.total
            wanted = run_config(lora_rank=4, lora_target=target, lora_variant=variant)
            if not memory.chosen(shape, target):
                continue
            attached = lora.inject(model.to_empty(device="cpu"), wanted)
            assert attached.count()[0] == memory.trainable(shape, wanted), (target, variant)


@pytest.mark.parametrize(
    ("family", "values"),
    everyday([(f, v) for f in ("sd15", "sd2", "sdxl") for v in ({}, {"conv_rank": 2}, {"train_text_encoder": True})], 0, 4, 8),
    ids=str,
)
def test_stable_diffusions_parameters_and_its_loras_are_those_that_torch_counts(tmp_path, family, values):
    from builders.tiny_images import encoders_of, load_sd, network_of
    from loraforge_image.families.stable_diffusion import memory
    from loraforge_image.families.stable_diffusion.targets import lora_modules, readable
    from loraforge_image.records import ImageKeys

    from loraforge.adapters import lora

    base, keys = make_sd(tmp_path / "base", family), ImageKeys(**values)
    parts = load_sd(str(base), family)
    for target in ("all-linear", "attention", "q,v"):
        config = RunConfig(train_data_dir="x", base_model=str(base), lora_rank=4, precision="fp32", lora_target=target)
        found = memory.estimate_memory(config, keys, family, {}, "cpu")
        network = network_of(load_sd(str(base), family), keys.train_text_encoder)
        attached = lora.inject(network, config, modules=readable(lora_modules(network, config, keys), family))
        assert attached.count()[0] == found.trainable, target
        modules = {"unet": parts.unet, "vae": parts.vae}
        modules |= encoders_of(parts)
        assert found.parameters == {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}


def test_the_published_sizes():
    from loraforge_image.families.stable_diffusion import memory as image
    from loraforge_text.families import memory as text

    assert round(text.read(QWEN7B).total / 1e9, 2) == 7.62
    found = {
        name: image.unet_activations(config, (512, 512), 77).parameters for name, config in (("sd15", SD15), ("sd2", SD2), ("sdxl", SDXL))
    }
    assert found == {"sd15": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}
    assert image.autoencoder(VAE) == 83_653_863
    assert image.text_encoder(CLIP_L) == 123_060_480 and image.text_encoder(CLIP_G) == 694_659_840


@pytest.mark.parametrize("target", [["q_projj"], ["q_proj", "q_projj"], "q_proj(", "nothing.*"])
def test_a_target_that_no_layer_has_is_said_by_check_already(project, command, target):
    code, out, err = command("check", "text", project(lora_target=target))
    assert code == 2 and "lora_target" in out + err and "Traceback" not in out + err
    if "(" not in str(target):
        assert "q_proj" in (out + err).replace("q_projj", ""), "the layers that there are"


def test_for_pictures_too(published, command):
    path = published("sd15", 512)
    for target, named in (("lora_target=[to_z, to_y]", "'to_z', 'to_y'"), ("lora_target=to_q(", "to_q(")):
        code, out, err = command("check", "image", path, "--set", target)
        assert code == 2 and named in out + err and "Traceback" not in out + err


def test_what_is_not_known_is_not_estimated(project, planned, command, monkeypatch):
    from loraforge_text.families import memory

    for values in ({"model_type": "mamba"}, {**QWEN7B, "quantization_config": {"bits": 4}}, {"model_type": "llama"}, {}):
        assert memory.read(values) is None
    monkeypatch.setattr(memory, "read", lambda config: None)
    path = project()
    plan, data = planned("text", path)
    assert estimate.estimate(plan, data) is None and not estimate.warnings(plan, data, cpu=True)
    code, out, _ = command("check", "text", path)
    assert code == 0 and "cannot be estimated" in out
    code, out, _ = command("check", "text", path, "--json")
    assert json.loads(out)["fit"] is None


# --- order and limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", [None, 24 * GB], ids=["cpu", "gpu"])
def test_more_needs_more(qwen, planned, gpu):
    def needed(*overrides: str) -> int:
        return estimate.estimate(*planned("text", qwen, *overrides), gpu).needed

    normal = needed()
    assert needed("batch_size=8") > normal > needed("batch_size=2")
    assert needed("gradient_checkpointing=true") < normal
    assert needed("lora_rank=64") > normal and needed("lora_variant=dora") > normal and needed("ema_decay=0.99") > normal
    assert needed("lora_target='q,v'") < normal and needed(r"lora_target=.*layers\.2[0-9]\..*proj") < normal
    assert needed("precision=fp32") > needed("precision=bf16") > (needed("precision=4bit") if gpu else 0)
    assert needed("optimizer=adafactor") < normal and needed("lora_dropout=0") < normal
    assert needed("optimizer=adamw_8bit") < needed("optimizer=lion") < needed("optimizer=came") < normal < needed("optimizer=prodigy")
    assert needed("optimizer=muon") == needed("optimizer=lion") and needed("optimizer=schedule_free") > normal  # its trained point waits


def test_longer_rows_need_more(host, base, tmp_path):
    plan = make_plan(host, "text", write_config(tmp_path / "c.yaml", train_data_dir=str(write_rows(tmp_path / "d" / "metadata.csv").parent),
                                                    base_model=str(base), output_dir=str(tmp_path / "out")))  # fmt: skip
    sizes = []
    for length in (64, 256, 1024):
        facts = {"rows": 12, "tokens": 12 * length, "learned_tokens": 6 * length, "longest_row": length}
        found = plan.family.estimate_memory(plan.config.model_copy(update={"precision": "fp32"}), plan.keys, facts, "cpu")
        sizes.append((found.activations, found.transient, found.flops))
    assert all(before < after for a, b in itertools.pairwise(sizes) for before, after in zip(a, b, strict=True))


def test_larger_pictures_need_more(published, planned):
    def fit(*overrides: str, gpu: int | None = 24 * GB):
        return estimate.estimate(*planned("image", published("sd15", 512), *overrides), gpu)

    normal = fit("sample_prompts=[]")
    assert fit("sample_prompts=[]", "resolution=256").needed < normal.needed < fit("sample_prompts=[]", "batch_size=2").needed
    assert fit("sample_prompts=[]", "gradient_checkpointing=true", "batch_size=2").needed < fit("sample_prompts=[]", "batch_size=2").needed
    assert fit("train_text_encoder=true").trainable > normal.trainable
    assert fit().disk["samples"] > 0 and normal.disk.get("samples", 0) == 0 and normal.disk["cache"] > 0


def test_published_bases_on_usual_cards(qwen, planned):
    plan, data = planned("text", qwen, "precision=4bit", "gradient_checkpointing=true", "batch_size=1")
    fit = estimate.estimate(plan, data, 24 * GB)
    assert fit.fits and 5 * GB < fit.needed < 16 * GB and fit.parameters == 7_615_616_512
    full = estimate.estimate(*planned("text", qwen, "precision=fp32"), 24 * GB)
    assert not full.fits and full.memory["base model"] > 28 * GB and full.changes["precision"] in ("bf16", "4bit")


def test_stable_diffusion_on_usual_cards(published, planned):
    xl = published("sdxl", 1024)
    large = estimate.estimate(*planned("image", xl, "gradient_checkpointing=true"), 24 * GB)
    assert large.fits and 7 * GB < large.needed < 24 * GB
    plan, data = planned("image", xl)
    small = estimate.estimate(plan, data, 6 * GB)
    assert not small.fits and next(iter(small.changes)) == "gradient_checkpointing" and small.changes["precision"] in ("fp8", "4bit")
    amounts = [small.needed, *(sum(memory.values()) for _, memory in small.steps)]
    assert amounts == sorted(amounts, reverse=True) and amounts[-1] == small.changed <= 6 * GB < amounts[-2]
    config, keys = estimate.with_changes(plan, small.changes)
    assert estimate.estimate(dataclasses.replace(plan, config=config, keys=keys), data, 6 * GB).needed == small.changed
    lines = "\n".join(estimate.lines(small))
    assert "denoiser: 2.23 billion numbers of 2 bytes in linear layers, 0.33 of 2 in convolutions" in lines
    assert (
        all(f"    {key}: " in lines for key in small.changes)
        and f"as it is: programs {estimate.size(small.memory['programs'])} + " in lines
    )
    assert estimate.estimate(plan, data, 1 * GB).changes == {}
    sd15 = estimate.estimate(*planned("image", published("sd15", 512)), 8 * GB)
    assert sd15.fits and sd15.needed > 3 * GB


@pytest.mark.parametrize("gpu", [8 * GB, 16 * GB])
def test_proposals_fit_and_are_valid(qwen, planned, gpu):
    plan, data = planned("text", qwen, "batch_size=6", "lora_rank=64", "lora_alpha=128")
    fit = estimate.estimate(plan, data, gpu)
    assert not fit.fits and fit.changes and fit.changed <= gpu
    changes = [f"{key}={estimate.yaml_value(value)}" for key, value in fit.changes.items()]
    validate(read(qwen, changes), [type(keys) for keys in plan.keys])
    again = estimate.estimate(*planned("text", qwen, "batch_size=6", "lora_rank=64", "lora_alpha=128", *changes), gpu)
    assert again.fits and again.needed == fit.changed
    assert fit.changes.get("batch_size", 6) * fit.changes.get("gradient_accumulation", 1) == 6
    for change in fit.changes:  # none is there for nothing
        if change not in ("gradient_accumulation", "lora_alpha", "batch_size"):
            fewer = [line for line in changes if not line.startswith(f"{change}=")]
            assert not estimate.estimate(*planned("text", qwen, "batch_size=6", "lora_rank=64", "lora_alpha=128", *fewer), gpu).fits


def test_nothing_is_proposed_that_does_not_help(qwen, planned):
    fit = estimate.estimate(*planned("text", qwen), 2 * GB)
    assert not fit.fits and fit.changes == {}
    assert any("A smaller base model" in line for line in estimate.lines(fit))


def test_a_run_that_continues_keeps_its_rank(qwen, planned, tmp_path):
    (tmp_path / "before").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "before" / name).touch()
    plan, data = planned("text", qwen, f"init_from_adapter={tmp_path / 'before'}", "batch_size=1", "lora_rank=512")
    fit = estimate.estimate(plan, data, 9 * GB)
    assert "lora_rank" not in fit.changes


def test_the_warning_before_a_run(qwen, planned, monkeypatch):
    plan, data = planned("text", qwen)
    monkeypatch.setattr("loraforge.pipeline.estimate.available_memory", lambda: 24 * GB)
    (sentence,) = estimate.warnings(plan, data, cpu=True)
    assert "24.0 GB are free" in sentence and "--set" in sentence and "precision=bf16" in sentence
    monkeypatch.setattr("loraforge.pipeline.estimate.available_memory", lambda: 4 * GB)
    assert "No milder settings" in estimate.warnings(plan, data, cpu=True)[0]
    monkeypatch.setattr("loraforge.pipeline.estimate.available_memory", lambda: 400 * GB)
    assert not estimate.warnings(plan, data, cpu=True)
    monkeypatch.setattr("loraforge.pipeline.estimate.available_memory", lambda: None)
    assert not estimate.warnings(plan, data, cpu=True)


# --- the command -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), [("24GB", 24 * GB), ("24G", 24 * GB), ("24", 24 * GB), ("8192MB", 8 * GB), ("8192m", 8 * GB),
                                                ("10.5 gb", 10.5 * GB), ("12GiB", 12 * GB)])  # fmt: skip
def test_sizes_of_gpus(text, expected):
    assert hardware.gpu_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5", "GB", "24TB", "lots", "1e3", "24GB2", "nan", "100MB", "９９x"])
def test_wrong_sizes_of_gpus(text, project, command):
    with pytest.raises(ConfigError, match="24GB or 8192MB"):
        hardware.gpu_bytes(text)
    code, _, err = command("check", "text", project(), f"--gpu={text}")
    assert code == 2 and "--gpu" in err


def test_check_says_whether_it_fits(qwen, project, command):
    code, out, _ = command("check", "text", project())
    assert code == 0 and "Memory:" in out and "Disk:" in out and "It fits." in out and "Time:" in out
    code, out, _ = command("check", "text", qwen, "--gpu", "16GB", "--set", "precision=fp32")
    assert code == 0 and "It does not fit. This would" in out and "    precision: 4bit" in out and "--set precision=4bit" in out
    code, out, _ = command("check", "text", qwen, "--gpu", "16GB", "--json", "--set", "precision=fp32")
    fit = json.loads(out)["fit"]
    assert fit["fits"] is False and fit["available_bytes"] == 16 * GB and fit["memory_bytes"] == sum(fit["memory_parts"].values())
    assert fit["proposals"][0]["set"]["precision"] == "4bit" and fit["proposals"][0]["memory_bytes"] <= 16 * GB
    assert fit["disk_bytes"] > 0 and 0 < fit["seconds_least"] <= fit["seconds"]


# --- measured ----------------------------------------------------------------------------------------------------------------


@nightly
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs the peak memory of a child")
@pytest.mark.parametrize("values", [{"batch_size": 4}], ids=str)
def test_a_measured_peak(tmp_path, planned, values):
    base = make_base(tmp_path / "base", width=512)
    data = tmp_path / "data"
    data.mkdir()
    words = "abcdefghijklmnop 0123456789 " * 12
    (data / "metadata.csv").write_text("instruction,output\n" + "".join(f"{i} {words}?,{i} {words}.\n" for i in range(4)), encoding="utf-8")
    config = write_config(
        tmp_path / "c.yaml", train_data_dir=str(data), base_model=str(base), output_dir=str(tmp_path / "out"), max_steps=2, eval_ratio=0,
        max_seq_length=2048, stop_on="never", export=[], **values,
    )  # fmt: skip
    # Not from here: a child's peak begins with that of the process that started it, and this one may have run a hundred tests.
    code = (
        "import resource, subprocess, sys; done = subprocess.run([sys.executable, '-m', 'loraforge', 'train', 'text', sys.argv[1]], "
        "stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, config], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert estimate.estimate(*planned("text", config)).needed == pytest.approx(peak, rel=0.3)


def test_check_imports_no_torch_for_pictures(published, tmp_path):
    probe = "import sys; from loraforge.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit as e: assert not e.code\nassert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", probe, "check", "image", published("sd15", 256), "--gpu", "8GB"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Memory:" in done.stdout


def test_a_run_on_the_cpu_that_needs_more_than_there_is_says_so_first(project, train, monkeypatch, tmp_path):
    monkeypatch.setattr("loraforge.pipeline.estimate.available_memory", lambda: 10_000_000)
    train(project())
    told = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    warned = [entry["detail"] for entry in told if entry["event"] == "StageStarted" and entry["stage"] == "memory"]
    assert len(warned) == 1 and "10 MB" in warned[0]
