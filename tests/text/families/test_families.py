# SPDX-License-Identifier: Apache-2.0
"""Five steps of the product on one base of each kind: losses, weights and what is handed on are those of transformers and peft alone.

``docs/architectures.md`` is the same for all; ``tests/architectures_table.py`` writes it.
"""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

torch = pytest.importorskip("torch")
from builders import everyday, small_bases  # noqa: E402
from builders.architectures import architectures  # noqa: E402

from loraforge import LoraForgeError  # noqa: E402

KINDS = architectures()
# A plain one, fused experts with others beside them, an indexer, an encoder that is not there, linear layers of its own class, rows that
# are read with their padding.
QUICK = ("qwen2", "ernie4_5_moe", "deepseek_v32", "bart", "falcon", "prophetnet")


def same(found: small_bases.Compared) -> None:
    assert found.loss < 1e-4 and found.weights < 1e-2 and found.trained < 1e-4 and found.merged < 1e-4, found
    assert not found.still, "a layer that learns nothing stands in the export"


@pytest.mark.parametrize("kind", QUICK)
def test_five_steps_are_those_of_transformers_and_peft(tmp_path, monkeypatch, kind):
    same(small_bases.compare(small_bases.make_base(kind, tmp_path / "base"), tmp_path, monkeypatch))


@pytest.mark.skipif("LORAFORGE_ALL_ARCHITECTURES" not in os.environ, reason="half an hour: set LORAFORGE_ALL_ARCHITECTURES=1")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in QUICK])
def test_every_architecture_is_trained_right_or_refused(tmp_path, monkeypatch, kind):
    base = small_bases.make_base(kind, tmp_path / "base")
    try:
        found = small_bases.compare(base, tmp_path, monkeypatch)
    except LoraForgeError as error:
        assert len(error.problems) == 1 and not (tmp_path / "out").exists(), error
    else:
        # Its scores are not scaled, which makes float32's rounding larger: weights that are 3e-5 apart move logits by 1.5e-4.
        same(dataclasses.replace(found, trained=found.trained / 3) if kind.startswith("gemma4_unified") else found)


@pytest.mark.parametrize("target", everyday(["attention", "q,v"], 1))
def test_a_base_of_experts_with_another_target(tmp_path, monkeypatch, target):
    found = small_bases.compare(small_bases.make_base("ernie4_5_moe", tmp_path / "base"), tmp_path, monkeypatch, lora_target=target)
    same(found)
    assert found.layers == (8 if target == "attention" else 4) and not found.notes


@pytest.mark.parametrize("variant", everyday(["rslora", "pissa"], 1))
def test_a_base_of_experts_in_every_variant_that_peft_can_read(tmp_path, monkeypatch, variant):
    base = small_bases.make_base("ernie4_5_moe", tmp_path / "base")
    seen = small_bases.train(base, tmp_path, monkeypatch, lora_variant=variant)
    loaded = small_bases.logits(small_bases.reload(base, seen.peft), seen)
    assert small_bases.far(small_bases.logits(small_bases.load(seen.merged), seen), loaded) < 1e-4
    assert small_bases.far(small_bases.logits(small_bases.load(base), seen), loaded) > 1e-3


def test_transformers_own_loader_reads_the_layers_beside_the_experts(tmp_path, monkeypatch):
    base = small_bases.make_base("ernie4_5_moe", tmp_path / "base")
    seen = small_bases.train(base, tmp_path, monkeypatch)
    model = small_bases.load(base)
    model.load_adapter(str(seen.peft))
    assert small_bases.far(small_bases.logits(model, seen), small_bases.logits(small_bases.reload(base, seen.peft), seen)) < 1e-5


def test_what_continues_an_adapter_on_a_base_of_experts_begins_where_it_ended(tmp_path, monkeypatch):
    base = small_bases.make_base("ernie4_5_moe", tmp_path / "base")
    first = small_bases.train(base, tmp_path / "first", monkeypatch)
    second = small_bases.train(base, tmp_path / "second", monkeypatch, init_from_adapter=str(tmp_path / "first" / "out"))
    ended = small_bases.pairs(small_bases.reload(base, first.peft))
    assert all(torch.allclose(second.start[name], tensor, atol=1e-6) for name, tensor in ended.items())


def test_dora_is_refused_where_peft_could_not_read_it(tmp_path, monkeypatch):
    base = small_bases.make_base("ernie4_5_moe", tmp_path / "base")
    with pytest.raises(LoraForgeError, match="lora_variant: dora cannot be read again on"):
        small_bases.train(base, tmp_path, monkeypatch, lora_variant="dora")
    assert not (tmp_path / "out").exists()


def windowed(kind):
    """A model whose attention sees 16 tokens back, or 16 at a time, in its mask or by a keyword."""
    import transformers

    shape = {"vocab_size": 97, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    shape |= {"num_hidden_layers": 2, "intermediate_size": 48, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    experts = {"num_experts_per_tok": 2, "num_local_experts": 4}
    config = {
        "qwen2_moe": lambda: transformers.Qwen2MoeConfig(
            **shape, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16, sliding_window=16,
            use_sliding_window=True, layer_types=["sliding_attention", "full_attention"],
        ),
        "phimoe": lambda: transformers.PhimoeConfig(**shape, **experts, sliding_window=16),
        "llama4": lambda: transformers.Llama4TextConfig(
            **shape, **experts, intermediate_size_mlp=48, head_dim=8, attention_chunk_size=16, layer_types=["chunked_attention", "full_attention"]
        ),
        "mistral": lambda: transformers.MistralConfig(**shape, sliding_window=16),
        "gemma3": lambda: transformers.Gemma3TextConfig(
            **shape, head_dim=8, sliding_window=16, layer_types=["sliding_attention", "full_attention"]
        ),
        "qwen2": lambda: transformers.Qwen2Config(**shape, sliding_window=16, use_sliding_window=True, max_window_layers=0),
    }[kind]()  # fmt: skip
    config._experts_implementation = "eager"
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", everyday(["qwen2_moe", "phimoe", "llama4", "mistral", "gemma3", "qwen2"], 0, 4))
def test_rows_longer_than_the_window_of_an_attention(tmp_path, monkeypatch, kind):
    base = small_bases.make_base(kind, tmp_path / "base", windowed(kind))
    same(small_bases.compare(base, tmp_path, monkeypatch, lengths=(0, 113, 60, 3, 100, 25, 80, 1, 40, 110)))


@pytest.mark.parametrize("kind", ["bert", "xlnet", "cpmant"])
def test_a_base_that_reads_both_ways_is_refused_before_it_is_loaded(tmp_path, monkeypatch, kind):
    base = small_bases.make_base(kind, tmp_path / "base")
    (base / "model.safetensors").unlink()
    with pytest.raises(LoraForgeError, match=f"is a {kind} model that reads what comes after a word too"):
        small_bases.train(base, tmp_path, monkeypatch)


def test_a_base_whose_attention_was_switched_to_both_ways_is_refused_when_it_is_loaded(tmp_path, monkeypatch):
    base = small_bases.make_base("gemma3_text", tmp_path / "base")
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "use_bidirectional_attention": True}), encoding="utf-8")
    with pytest.raises(LoraForgeError, match="reads what comes after a word too"):
        small_bases.train(base, tmp_path, monkeypatch)
    assert not (tmp_path / "out").exists()
