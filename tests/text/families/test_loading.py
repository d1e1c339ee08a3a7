# SPDX-License-Identifier: Apache-2.0
"""A base is loaded whole or not at all; weights in fewer bits are given back as the numbers that they stand for."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
from builders import stored  # noqa: E402
from loraforge_text.families.loading import load_model  # noqa: E402

from loraforge import ConfigError, ModelError  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def copy(base, tmp_path):
    return shutil.copytree(base, tmp_path / "base")


def reconfigured(folder, **values):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **values}), encoding="utf-8")
    return folder


def rewritten(folder, change):
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return folder


def problem(folder, precision="fp32"):
    with pytest.raises(ModelError) as error:
        load_model(folder, precision, CPU)
    return str(error.value)


def test_a_tensor_that_the_weights_lack_is_named(copy):
    gone = "model.layers.1.mlp.down_proj.weight"
    told = problem(rewritten(copy, lambda tensors: {n: t for n, t in tensors.items() if n != gone}))
    assert f"its weights lack 1 of the 21 tensors that config.json describes, and random numbers would stand there: {gone}." in told


def test_a_config_with_more_layers_than_the_weights_is_refused(copy):
    assert "its weights lack 9 of the 30 tensors" in problem(reconfigured(copy, num_hidden_layers=3))


def test_a_config_with_fewer_layers_than_the_weights_is_refused(copy):
    told = problem(reconfigured(copy, num_hidden_layers=1))
    assert "the weights have more layers than config.json describes; 9 tensors would be left out: model.layers.1." in told


def test_a_config_of_other_widths_is_refused(copy):
    told = problem(reconfigured(copy, intermediate_size=40))
    assert (
        "6 tensors have another shape than config.json describes: model.layers.0.mlp.down_proj.weight is 32 x 48 in the file and 32 x 40 by"
        in told
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"]}, "is a qwen2_vl model (Qwen2VLForConditionalGeneration in config.json), which transformers does not load as a language model"),
        ({"num_attention_heads": 5}, "The hidden size (32) is not a multiple of the number of attention heads (5)"),
        ({"hidden_act": "nope"}, "transformers does not know 'nope', which stands in config.json"),
        ({"model_type": "foobar"}, "has model type `foobar`"),
    ],
)  # fmt: skip
def test_what_transformers_says_of_a_config_is_told_in_words(copy, values, words):
    assert words in problem(reconfigured(copy, **values))


def test_what_is_rightly_absent_or_left_over_is_no_error(copy):
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),  # written by older versions
        "mtp.norm.weight": torch.ones(32),  # another head of its own
        "vision.layers.7.weight": torch.ones(3),
    }
    assert load_model(rewritten(copy, lambda tensors: {**tensors, **extra}), "fp32", CPU).lm_head is not None  # tied: not in the file


def test_a_layer_for_guessing_ahead_is_no_layer_too_many(copy):
    more = lambda tensors: {  # noqa: E731
        **tensors, **{n.replace(".1.", ".2."): t.clone() for n, t in tensors.items() if ".1." in n}
    }  # fmt: skip
    rewritten(copy, more)
    assert "more layers" in problem(copy)
    load_model(reconfigured(copy, num_nextn_predict_layers=1), "fp32", CPU)


@pytest.mark.parametrize("kind", ["fp8", "mxfp4", "bitsandbytes 4", "bitsandbytes 8"])
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_in_fewer_bits_are_given_back_as_numbers(tmp_path, kind, precision, dtype):
    name, _, bits = kind.partition(" ")
    if bits:
        pytest.importorskip("bitsandbytes")
    meant = getattr(stored, name)(tmp_path / "base", *([int(bits)] if bits else []))
    model = load_model(tmp_path / "base", precision, CPU)
    found = model.state_dict()
    assert len(meant) >= 4 and {t.dtype for t in found.values()} == {dtype}
    for one, weight in meant.items():
        torch.testing.assert_close(found[one].float(), weight, rtol=0.01 if precision == "bf16" else 1e-5, atol=1e-7)
    model.save_pretrained(tmp_path / "out")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))


def test_a_base_in_four_bits_stays_so_where_that_is_asked_for(tmp_path):
    library = pytest.importorskip("bitsandbytes")
    stored.bitsandbytes(tmp_path / "base", 4)
    model = load_model(tmp_path / "base", "4bit", CPU)
    assert sum(isinstance(m, library.nn.Linear4bit) for m in model.modules()) == 14


def test_bitsandbytes_is_named_where_it_is_missing(copy, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reconfigured(copy, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(ConfigError, match="stored by bitsandbytes, which is needed to read it"):
        load_model(copy, "fp32", CPU)


@pytest.mark.parametrize("kind", ["fp8", "mxfp4", "bitsandbytes"])
@pytest.mark.parametrize("precision", ["fp32", "4bit"])
def test_a_base_in_fewer_bits_trains_and_merges(tmp_path, monkeypatch, kind, precision):
    """The merged model is the base's numbers with what was learned added to them."""
    if kind == "bitsandbytes" or precision == "4bit":
        pytest.importorskip("bitsandbytes")
    if precision == "4bit" and kind != "bitsandbytes":
        pytest.skip("refused; see test_stored_weights")
    from builders import small_bases
    from safetensors.torch import load_file

    base = tmp_path / "base"
    meant = getattr(stored, kind)(base, *([4] if kind == "bitsandbytes" else []))
    seen = small_bases.train(base, tmp_path, monkeypatch, precision=precision)
    merged, pair = load_file(seen.merged / "model.safetensors"), load_file(seen.peft / "adapter_model.safetensors")
    changed = 0
    for name, weight in meant.items():
        start = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{start}A.weight" in pair:
            weight = weight + seen.config.alpha / 4 * pair[f"{start}B.weight"] @ pair[f"{start}A.weight"]
            changed += 1
        torch.testing.assert_close(merged[name].float(), weight, rtol=1e-2, atol=1e-3)
    assert changed == (0 if kind == "mxfp4" else len(meant))
    assert small_bases.load(seen.merged).dtype == torch.float32  # and plain transformers reads it


def test_a_base_of_numbers_that_are_none_is_blamed_and_no_row(copy, command, project):
    def spoil(tensors):
        tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
        return tensors

    code, _, err = command("train", "text", project(base_model=str(rewritten(copy, spoil)), max_steps=2, eval_answers=False))
    assert code == 1
    assert "the base model's own loss is not a number" in err and "row" not in err


def test_a_base_without_a_tokenizer_is_refused_by_check(copy, command, project):
    (copy / "tokenizer.json").unlink()
    rewrite = json.loads((copy / "tokenizer_config.json").read_text(encoding="utf-8"))
    rewrite["added_tokens_decoder"] = {"1": {"content": rewrite["eos_token"], "special": True}}
    (copy / "tokenizer_config.json").write_text(json.dumps(rewrite), encoding="utf-8")
    code, _, err = command("check", "text", project(base_model=str(copy), prompt_template="plain"))
    assert code == 2 and "has no tokenizer" in err
