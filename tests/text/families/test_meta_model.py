# SPDX-License-Identifier: Apache-2.0
"""What `train` would stop at when it loads the base, `check` says by shapes and names alone."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
from builders import small_bases, stored  # noqa: E402
from loraforge_text.base_files import read_base  # noqa: E402
from loraforge_text.families import loading, memory, meta_model, reach  # noqa: E402
from loraforge_text.families.stored_weights import shapes  # noqa: E402

from loraforge import ConfigError, ModelError, RunConfig  # noqa: E402

# Names that transformers renames, experts that it stacks, prefixes, tied heads, buffers, a language model inside of another.
ARCHITECTURES = (
    "bloom",
    "deepseek_v3",
    "falcon",
    "gemma3",
    "gpt2",
    "gpt_neox",
    "gpt_oss",
    "mamba",
    "mixtral",
    "phi3",
    "qwen3_5_text",
    "qwen3_moe",
)
UP = "model.layers.1.mlp.up_proj.weight"


def config_of(folder, target="all-linear"):
    return RunConfig(base_model=str(folder), train_data_dir=".", output_dir="out", lora_target=target)


def looked(folder, target="all-linear"):
    """What is said of a base and a target before anything is loaded."""
    read_base.cache_clear()
    try:
        with meta_model.looked_ahead(read_base(folder), config_of(folder, target)):
            pass
    except (ModelError, ConfigError) as error:
        return type(error), error.problems
    return None


def loaded(folder, target="all-linear"):
    """What is said when the base is loaded."""
    read_base.cache_clear()
    try:
        reach.choose(loading.load_model(folder, "fp32", torch.device("cpu")), target)
    except (ModelError, ConfigError) as error:
        return type(error), error.problems
    return None


def rewrite(folder, change=None, **values):
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **values}), encoding="utf-8")
    if change:
        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


FAULTS = {
    "a tensor is missing": {"change": lambda t: {name: one for name, one in t.items() if name != UP}},
    "a tensor is another one's": {"change": lambda t: {**t, UP: t[UP][:40].clone()}},
    "the config has fewer layers": {"num_hidden_layers": 1},
    "the config has more layers": {"num_hidden_layers": 3},
    "the config is wider": {"intermediate_size": 64},
    "the config has more words": {"vocab_size": 600},
    "the config has biases": {"attention_bias": True},
    "the config has a head of its own": {"tie_word_embeddings": False},
    "a number is none": {"hidden_size": "32"},
    "heads that do not divide": {"num_attention_heads": 5},
    "an activation of nobody's": {"hidden_act": "nope"},
    "no language model": {"model_type": "qwen2_vl"},
    "an unknown model": {"model_type": "foobar"},
    "no model at all": {"model_type": None},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_says_what_loading_says(base, tmp_path, fault):
    folder = shutil.copytree(base, tmp_path / "base")
    assert looked(folder) is None and loaded(folder) is None
    rewrite(folder, **FAULTS[fault])
    found = looked(folder)
    assert found is not None and found == loaded(folder)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_architectures_are_judged_as_they_are_loaded(tmp_path, kind):
    from safetensors.torch import load_file, save_file

    folder = small_bases.make_base(kind, tmp_path / "base")
    assert meta_model.refusals(folder, "all-linear") == {} and looked(folder) is None
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(one for one in sorted(tensors, reverse=True) if tensors[one].ndim > 1 and ".1." in one)
    save_file({one: tensor for one, tensor in tensors.items() if one != name}, file, {"format": "pt"})
    found = looked(folder)
    if found is None:  # one expert of many, which transformers notices only when it stacks the numbers
        assert ".experts." in name
    else:
        assert found == loaded(folder) and "is not whole" in found[1][0]


@pytest.mark.parametrize("target", ["wobble", "lm_head", ["q_proj", "nothing"], ".*nothing", "experts", "q_proj,gate_up_proj"])
@pytest.mark.parametrize("kind", ["llama", "qwen3_moe"])
def test_a_target_that_is_no_layer_is_told(tmp_path, kind, target):
    folder = small_bases.make_base(kind, tmp_path / "base")
    found = looked(folder, target)
    assert found is not None and found == loaded(folder, target) and found[0] is ConfigError
    fused = kind == "qwen3_moe" and ("experts" in target or "gate_up" in target)
    assert any("fused weights and no layers" in line for line in found[1]) is fused


@pytest.mark.parametrize("kind", ["fp8", "mxfp4", "bitsandbytes"])
def test_weights_in_fewer_bits_are_left_to_the_loading(tmp_path, kind):
    if kind == "bitsandbytes":
        pytest.importorskip("bitsandbytes")
    getattr(stored, kind)(tmp_path / "base", *([4] if kind == "bitsandbytes" else []))
    assert looked(tmp_path / "base") is None
    assert looked(tmp_path / "base", "wobble") is not None


def test_what_is_not_there_yet_is_not_looked_at(tmp_path):
    for kind in ("llama", "gpt_oss"):
        folder = small_bases.make_base(kind, tmp_path / kind)
        (folder / "model.safetensors").unlink()
        assert looked(folder) is None
        (folder / "pytorch_model.bin").write_bytes(b"never read")
        assert looked(folder) is None and looked(folder, "wobble") is not None


@pytest.mark.parametrize("kind", [kind for kind in memory.KNOWN if kind != "qwen3_moe"])
@pytest.mark.parametrize("settings", [{}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False, "attention_bias": True}])
def test_the_table_of_plain_decoders_is_transformers(kind, settings):
    from builders.architectures import architectures, small
    from transformers import AutoModelForCausalLM

    config = small(architectures()[kind]).config
    for name, value in settings.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config)
    shape = memory.read(json.loads(config.to_json_string(use_diff=False)))
    wanted = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    if config.tie_word_embeddings:
        wanted.pop("lm_head.weight")
    found = shape.tensors()
    if kind == "mixtral":  # whose weights are stored by expert, and stacked when they are loaded
        stacked = {name: size for name, size in found.items() if ".block_sparse_moe." not in name}
        wanted = {name: size for name, size in wanted.items() if ".mlp." not in name}
        assert set(found) - set(stacked) and stacked == wanted
    else:
        assert found == wanted


def hollow(folder, config):
    """A large base whose weights are a header and a hole."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    entries, place = {}, 0
    for name, shape in memory.read(config).tensors().items():
        size = 2 * torch.Size(shape).numel()
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    header = json.dumps(entries).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + place)
    return place


@pytest.mark.skipif(sys.platform != "linux", reason="a file with a hole")
@pytest.mark.parametrize("own", [True, False])
def test_no_number_is_read(tmp_path, monkeypatch, own):
    """8 billion numbers, in a second: by the table, and by transformers."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "tie_word_embeddings": False, **sizes}
    assert hollow(tmp_path / "base", config) > 16e9
    if own:
        monkeypatch.setattr(meta_model, "_plain", lambda *_: False)
    else:
        monkeypatch.setattr(meta_model, "refusals", None)
    assert looked(tmp_path / "base") is None
    config["num_hidden_layers"] = 30
    (tmp_path / "base" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.undo()
    assert "more layers than config.json describes; 18 tensors" in looked(tmp_path / "base")[1][0]


def test_a_plain_base_needs_no_process(base, monkeypatch):
    monkeypatch.setattr(meta_model, "refusals", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert looked(base) is None and looked(base, "wobble")[0] is ConfigError


@pytest.fixture
def no_torch(monkeypatch):
    """As in `check`, where torch is not loaded."""
    monkeypatch.setattr(meta_model, "_torch_is_here", lambda: False)


def test_the_other_process_says_the_same(base, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(base, tmp_path / "base")
    rewrite(folder, num_hidden_layers=1)
    monkeypatch.setattr(sys, "argv", ["-c", json.dumps({"folder": str(folder), "target": ["q_proj"], "block_ranks": []})])
    meta_model.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"model": list(looked(folder)[1])}


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ('{"model": ["\\u4f60", "b"]}', (ModelError, ("你", "b"))),
        ('{"config": ["c"]}', (ConfigError, ("c",))),
        ("{}", None),
        ("a warning", None),
        ("", None),
    ],
)
def test_what_the_other_process_says_is_raised(tmp_path, monkeypatch, no_torch, printed, told):
    folder = small_bases.make_base("gpt_oss", tmp_path / "base")
    monkeypatch.setattr(meta_model, "_CHILD", meta_model._CHILD.replace("main()", f"print({printed!r})"))
    assert looked(folder) == told


def test_the_process_is_ended_when_the_rows_are_refused(tmp_path, monkeypatch, no_torch):
    seen = []
    monkeypatch.setattr(meta_model, "_CHILD", "import time; time.sleep(600)")
    monkeypatch.setattr(subprocess, "Popen", lambda *a, made=subprocess.Popen, **k: seen.append(made(*a, **k)) or seen[-1])
    folder = small_bases.make_base("gpt_oss", tmp_path / "base")
    with pytest.raises(KeyError), meta_model.looked_ahead(read_base(folder), config_of(folder)):
        raise KeyError
    assert len(seen) == 1 and seen[0].returncode is not None


def test_shapes_of_damaged_weights_are_none(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "base")
    assert shapes(folder)[UP] == (48, 32)
    (folder / "model.safetensors").write_bytes(b"x" * 50)
    assert shapes(folder) is None


def test_check_and_train_say_it_before_anything_is_written(base, tmp_path, command, project):
    folder = shutil.copytree(base, tmp_path / "base")
    rewrite(folder, intermediate_size=40)
    told = [command(word, "text", project(base_model=str(folder))) for word in ("check", "train")]
    assert [code for code, *_ in told] == [2, 2]
    assert all("6 tensors have another shape than config.json describes" in err for *_, err in told)
    assert not list((tmp_path / "out").glob("checkpoint*"))
