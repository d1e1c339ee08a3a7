# SPDX-License-Identifier: Apache-2.0
"""What training needs, from config.json alone: parameters against torch's own, bytes against bitsandbytes', sums done by hand."""

from __future__ import annotations

import json
import struct

import pytest
from loraforge_text.families import memory

from loraforge import ConfigError, RunConfig

SMALL = {
    "vocab_size": 320,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MOE = {"num_experts_per_tok": 2, "head_dim": 16}
GPT2 = {"vocab_size": 320, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64}
KINDS = [
    ("Llama", SMALL), ("Llama", {**SMALL, "attention_bias": True, "mlp_bias": True}), ("Llama", {**SMALL, "tie_word_embeddings": True}),
    ("Llama", {**SMALL, "num_key_value_heads": 4, "head_dim": 20}), ("Mistral", SMALL), ("Qwen2", SMALL), ("Qwen3", {**SMALL, "head_dim": 16}),
    ("Gemma", {**SMALL, "head_dim": 16}), ("Gemma2", {**SMALL, "head_dim": 16}), ("Gemma3Text", {**SMALL, "head_dim": 16}), ("Phi3", {**SMALL, "pad_token_id": 0}),
    ("GPT2", GPT2), ("GPT2", {**GPT2, "n_inner": 40}), ("Mixtral", {**SMALL, **MOE, "num_local_experts": 4}),
    ("Qwen3Moe", {**SMALL, **MOE, "num_experts": 4, "moe_intermediate_size": 32}),
]  # fmt: skip


def config(**values) -> RunConfig:
    return RunConfig(train_data_dir="x", base_model="y", **{"precision": "fp32", "lora_rank": 4, "lora_dropout": 0.0, **values})


def made(kind: str, values):
    import torch
    import transformers

    described = getattr(transformers, f"{kind}Config")(**values)
    with torch.device("meta"):
        return described.to_dict(), transformers.AutoModelForCausalLM.from_config(described)


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=str)
def test_parameters_are_those_that_torch_counts(kind, values):
    import torch
    from transformers.pytorch_utils import Conv1D

    described, model = made(kind, values)
    shape = memory.read(described)
    assert shape.total == sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings().weight
    table = model.get_input_embeddings().weight
    assert shape.tied is (head is table)
    positions = model.transformer.wpe.weight.numel() if kind == "GPT2" else 0
    assert shape.embedding == table.numel() + (0 if shape.tied else head.numel()) + positions
    norms = [p for module in model.modules() if "Norm" in type(module).__name__ for p in module.parameters()]
    assert shape.norms == sum(p.numel() for p in norms)
    linears = {n: m for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D)) and m.weight is not head and n.rpartition(".")[2] != "gate"}  # fmt: skip
    sizes = {
        n: (m.weight.shape[0], m.weight.shape[1]) if isinstance(m, Conv1D) else (m.in_features, m.out_features) for n, m in linears.items()
    }
    assert shape.names() == sizes and shape.linear == sum(i * o for i, o in sizes.values())
    for variant, more in (("lora", 0), ("dora", 1)):
        assert memory.trainable(shape, config(lora_variant=variant)) == sum(4 * (i + o) + more * o for i, o in sizes.values())
    chosen = memory.chosen(shape, "attention")
    assert memory.trainable(shape, config(lora_target="attention", lora_rank=7)) == sum(7 * (i + o) for i, o in chosen.values())


@pytest.mark.parametrize(
    ("kind", "missing", "same"),
    [("qwen3", "head_dim", 128), ("gemma", "head_dim", 256), ("gemma2", "head_dim", 256), ("gemma3_text", "head_dim", 256), ("llama", "head_dim", 12),
     ("qwen3_moe", "head_dim", 128)],
)  # fmt: skip
def test_widths_that_a_config_leaves_out(kind, missing, same):
    values = {"model_type": kind, **SMALL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    assert memory.read(values).head == same == memory.read({**values, missing: same}).head
    without = {k: v for k, v in values.items() if k != "num_key_value_heads"}
    assert memory.read(without).kv == 4
    assert memory.read(values).tied is (kind in ("gemma", "gemma2", "gemma3_text"))
    assert memory.read({**values, "tie_word_embeddings": kind == "llama"}).tied is (kind == "llama")


def test_what_is_not_known_is_not_guessed():
    good = {"model_type": "llama", **SMALL}
    assert memory.read(good) is not None
    for change in ({"model_type": "mamba"}, {"quantization_config": {"bits": 4}}, {"hidden_size": None}, {"vocab_size": "many"}):
        assert memory.read({**good, **change}) is None
    assert memory.read({}) is None
    sparse = {"model_type": "qwen3_moe", **SMALL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    assert memory.read({**sparse, "decoder_sparse_step": 1, "mlp_only_layers": []}) is not None
    assert memory.read({**sparse, "decoder_sparse_step": 2}) is None and memory.read({**sparse, "mlp_only_layers": [1]}) is None
    with pytest.raises(ConfigError, match="no linear layer"):
        memory.chosen(memory.read(good), "nothing")


def test_gpt2s_shape():
    shape = memory.read({"model_type": "gpt2", **{k: v for k, v in GPT2.items() if k != "n_positions"}})
    assert (shape.positions, shape.inner, shape.head, shape.kv, shape.tied, shape.drops) == (1024, 192, 12, 4, True, True)
    assert memory.read({"model_type": "gpt2", **GPT2, "attn_pdrop": 0.0, "tie_word_embeddings": False}).drops is False
    assert (
        memory.read({"model_type": "llama", **SMALL}).drops is False
        and memory.read({"model_type": "llama", **SMALL, "attention_dropout": 0.1}).drops
    )


# --- bytes of the base ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "each"), [("fp32", 4), ("bf16", 2), ("fp16", 2)])
def test_a_base_has_its_parameters_times_their_size(precision, each):
    shape = memory.read({"model_type": "llama", **SMALL})
    assert memory.weights(shape, precision) == each * shape.total


def test_four_bit_weights_have_the_bytes_of_bitsandbytes():
    """nf4 packs two numbers into a byte and keeps a scale of 32 bits for each block of 64; the rest stays in 16 bits."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    import torch

    wide = {**SMALL, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1}
    described, _ = made("Llama", wide)
    shape = memory.read(described)
    held = 0
    for inputs, outputs in shape.names().values():
        layer = bitsandbytes.nn.Linear4bit(inputs, outputs, bias=False, quant_type="nf4", compress_statistics=False).to("cpu")
        held += layer.weight.numel() * layer.weight.element_size() + layer.weight.quant_state.absmax.numel() * 4
    assert held == shape.linear * (1 / 2 + 4 / 64)
    rest = torch.zeros(shape.total - shape.linear, dtype=torch.bfloat16)
    assert memory.weights(shape, "4bit") == pytest.approx(held + rest.numel() * 2, rel=1e-9)


# --- weights in fewer bits -----------------------------------------------------------------------------------------------------


def needs(folder, precision, device="cuda"):
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    facts = {"rows": 4, "tokens": 80, "learned_tokens": 40, "longest_row": 20}
    return memory.estimate_memory(folder, raw, config(precision=precision), 512, facts, device)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_of_bitsandbytes_has_its_stored_bytes(tmp_path, bits):
    pytest.importorskip("bitsandbytes")
    import torch
    from builders import stored
    from loraforge_text.families.loading import load_model

    stored.bitsandbytes(tmp_path / "base", bits)
    whole = needs(tmp_path / "base-whole", "bf16")
    fits = needs(tmp_path / "base", "bf16")
    assert (fits.weights, fits.flops, fits.trainable) == (whole.weights, whole.flops, whole.trainable)
    assert 0.25 * whole.weights < fits.phases["loading"] - fits.weights < 0.8 * whole.weights and "loading" not in whole.phases
    assert ("4bit" in fits.precisions) is (bits == 4)
    if bits == 4:
        model = load_model(tmp_path / "base", "4bit", torch.device("cpu"))
        there = sum(one.numel() * one.element_size() for one in model.state_dict().values())
        assert needs(tmp_path / "base", "4bit").weights == pytest.approx(there, rel=0.02) and there < 0.7 * whole.weights
        (tmp_path / "base" / "model.safetensors").unlink()
        assert needs(tmp_path / "base", "4bit").weights == pytest.approx(there, rel=0.25)  # nothing is fetched yet


def test_a_base_in_fp8_is_what_it_is_given_back_as(tmp_path):
    from builders import stored

    stored.fp8(tmp_path / "base")
    fits = needs(tmp_path / "base", "fp32", "cpu")
    raw = json.loads((tmp_path / "base" / "config.json").read_text(encoding="utf-8"))
    raw.pop("quantization_config")
    assert fits.weights == 4 * memory.read(raw).total and fits.weights < fits.phases["loading"] < 1.5 * fits.weights
    raw["num_hidden_layers"] = 3
    (tmp_path / "base" / "config.json").write_text(json.dumps({**raw, "quantization_config": {"quant_method": "fp8"}}), encoding="utf-8")
    assert needs(tmp_path / "base", "fp32") is None, "other weights lie there"


# --- what a token keeps, by hand -----------------------------------------------------------------------------------------------

# Of SMALL: width 48, inner 96, heads 4 of 12, 2 of them for keys and values (24). fp32 has 4 bytes, bf16 2.
ALL = {"model_type": "llama", **SMALL}
QKV, PLAIN_QKV = (48 + 2 * 24) * 4, (2 * 48 + 2 * 24) * 4  # the result is what the next layer reads, where that layer reads it itself
KEPT = [
    # what o_proj reads; 7 LoRA's of rank 4; two norms; query, key, value; gate and up
    ({}, {}, "cpu", 48 * 4 + 7 * 4 * 4 + 2 * 48 * 4 + QKV + 2 * 96 * 4),
    ({"lora_rank": 8}, {}, "cpu", 48 * 4 + 7 * 8 * 4 + 2 * 48 * 4 + QKV + 2 * 96 * 4),
    # a mask of bits on the CPU, of bytes on a GPU, for each layer's own input
    ({"lora_dropout": 0.1}, {}, "cpu", 48 * 4 + (6 * 48 + 96) / 8 + 7 * 4 * 4 + 2 * 48 * 4 + QKV + 2 * 96 * 4),
    ({"lora_dropout": 0.1}, {}, "cuda", 48 * 4 + (6 * 48 + 96) * 1 + 7 * 4 * 4 + 2 * 48 * 4 + PLAIN_QKV + 2 * 96 * 4),
    ({}, {}, "cuda", 48 * 4 + 7 * 4 * 4 + 2 * 48 * 4 + PLAIN_QKV + 2 * 96 * 4),
    # bf16 makes nothing again: attention's, o_proj's, feed-forward's and down_proj's input
    ({"precision": "bf16"}, {}, "cpu", (3 * 48 + 96) * 2 + 7 * 4 * 2 + 2 * 48 * 2 + (2 * 48 + 2 * 24) * 2 + 2 * 96 * 2),
    # only where the LoRA sits; q and v read the same
    ({"lora_target": "q,v"}, {}, "cpu", 2 * 4 * 4 + 2 * 48 * 4 + QKV + 2 * 96 * 4),
    ({"lora_target": "q,v", "precision": "bf16"}, {}, "cpu", 48 * 2 + 2 * 4 * 2 + 2 * 48 * 2 + (2 * 48 + 2 * 24) * 2 + 2 * 96 * 2),
    # DoRA is peft's own: what each reads (shared without dropout), and twice what each gives
    ({"lora_variant": "dora"}, {}, "cpu", (3 * 48 + 96) * 4 + 7 * 4 * 4 + 2 * 4 * (48 + 24 + 24 + 48 + 96 + 96 + 48) + 2 * 48 * 4 + PLAIN_QKV + 2 * 96 * 4),
    # with dropout every layer keeps an input of its own, and on the CPU a mask of numbers
    ({"lora_variant": "dora", "lora_dropout": 0.1}, {}, "cpu",
     (6 * 48 + 96) * 4 + (6 * 48 + 96) * 4 + 7 * 4 * 4 + 2 * 4 * (48 + 24 + 24 + 48 + 96 + 96 + 48) + 2 * 48 * 4 + PLAIN_QKV + 2 * 96 * 4),
    ({"precision": "4bit", "lora_dropout": 0.1}, {}, "cuda",
     (6 * 48 + 96) * 2 + (6 * 48 + 96) * 1 + 7 * 4 * 2 + 2 * 48 * 2 + (2 * 48 + 2 * 24) * 2 + 2 * 96 * 2),
    # Gemma's norms are float32, its gate keeps three; nothing is made again
    ({}, {"model_type": "gemma", "head_dim": 12}, "cpu", (3 * 48 + 96) * 4 + 7 * 4 * 4 + 2 * 48 * 4 + QKV + 3 * 96 * 4),
    ({"precision": "bf16"}, {"model_type": "gemma2", "head_dim": 12}, "cpu", (3 * 48 + 96) * 2 + 7 * 4 * 2 + 4 * 48 * 4 + (2 * 48 + 2 * 24) * 2 + 3 * 96 * 2),
    # norms of queries and keys
    ({}, {"model_type": "qwen3", "head_dim": 12}, "cpu", 48 * 4 + 7 * 4 * 4 + (2 * 48 + 48 + 24) * 4 + QKV + 2 * 96 * 4),
    # one fused projection each; gate and up are cut out of it
    ({}, {"model_type": "phi3"}, "cpu", (48 + 48 + 48) * 4 + 4 * 4 * 4 + 2 * 48 * 4 + QKV + 3 * 96 * 4),
    # a dropout of attention's own: three times the scores of a row of 100, for each head, on the CPU
    ({}, {"attention_dropout": 0.1}, "cpu", 48 * 4 + 7 * 4 * 4 + 2 * 48 * 4 + QKV + 2 * 96 * 4 + 3 * 4 * 100 * 4),
    ({}, {"attention_dropout": 0.1}, "cuda", 48 * 4 + 7 * 4 * 4 + 2 * 48 * 4 + PLAIN_QKV + 2 * 96 * 4),
    # two experts of 96 a token: four times the width of one; rows are sorted and weighed
    ({}, {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}, "cpu",
     48 * 4 + 4 * 4 * 4 + 2 * 48 * 4 + QKV + 2 * 192 * 4 + (2 * 192 + 3 * 48) * 4),
]  # fmt: skip


@pytest.mark.parametrize(("values", "base", "device", "bytes_"), KEPT)
def test_what_a_token_of_a_layer_keeps(values, base, device, bytes_):
    assert memory.kept(memory.read({**ALL, **base}), config(**values), device, 100) == pytest.approx(bytes_)


def test_gpt2_keeps_what_its_own_dropouts_do():
    shape = memory.read({"model_type": "gpt2", **GPT2})
    # four layers read 48, 48, 48 and 192; two norms; query, key, value and result; five of the inner width; the scores
    assert (
        memory.kept(shape, config(), "cpu", 10) == (3 * 48 + 192) * 4 + 4 * 4 * 4 + 2 * 48 * 4 + 4 * 48 * 4 + 5 * 192 * 4 + 3 * 4 * 10 * 4
    )


# --- the whole estimate --------------------------------------------------------------------------------------------------------

FACTS = {"rows": 10, "tokens": 500, "learned_tokens": 200, "longest_row": 80}


def estimate(tmp_path, facts=FACTS, raw=ALL, device="cpu", **values):
    return memory.estimate_memory(tmp_path, raw, config(**values), 256, facts, device)


def test_the_estimate_by_hand(tmp_path):
    shape, found = memory.read(ALL), estimate(tmp_path, batch_size=2)
    assert (found.weights, found.trainable) == (4 * shape.total, memory.trainable(shape, config()))
    assert found.parameters == {"embeddings": 2 * 320 * 48, "layers": shape.total - 2 * 320 * 48}
    per_token, tokens = KEPT[0][3], 2 * 80  # two of the longest rows
    assert found.activations == 3 * per_token * tokens
    assert found.transient == (4 * 96 + 8 * 48) * tokens * 4 + 4 * tokens * 320 + 3 * 48 * tokens * 4
    # a multiplication and an addition for each weight and for each pair of tokens; the head on learned tokens alone; backward costs the same
    forward = 50 * (2 * shape.linear + 2 * 50 * 3 * 48) + 20 * 2 * 320 * 48
    assert found.flops == 2 * forward
    assert (found.phases, found.files) == ({"export": 8 * shape.total}, {"merged": 4 * shape.total})
    assert found.precisions == ("fp32", "bf16") and estimate(tmp_path, device="cuda").precisions == ("fp32", "bf16", "4bit")


def test_checkpointing_keeps_what_enters_each_layer_and_one_layer_and_computes_once_more(tmp_path):
    plain, found = estimate(tmp_path, batch_size=2), estimate(tmp_path, batch_size=2, gradient_checkpointing=True)
    assert found.activations == 3 * 48 * 160 * 4 + KEPT[0][3] * 160 and found.flops == plain.flops * 3 / 2
    assert (
        estimate(tmp_path, batch_size=2, gradient_checkpointing=True, precision="bf16").activations == 3 * 48 * 160 * 2 + KEPT[5][3] * 160
    )


def test_nothing_is_kept_below_the_first_adapted_layer(tmp_path):
    one = estimate(tmp_path, lora_target=r"model\.layers\.2\..*proj", batch_size=1).activations
    assert one == estimate(tmp_path, batch_size=1).activations / 3 == KEPT[0][3] * 80


@pytest.mark.parametrize(
    ("batch", "facts", "tokens"),
    [(1, {}, 80), (2, {}, 160), (4, {"rows": 3, "tokens": 1000}, 240), (10, {}, 500), (4, {"tokens": 90}, 90), (4, {"tokens": 60}, 80), (4, {"rows": 0}, 80)],
)  # fmt: skip
def test_a_batch_is_of_the_longest_rows_but_never_more_than_there_is(tmp_path, batch, facts, tokens):
    assert estimate(tmp_path, {**FACTS, **facts}, batch_size=batch).activations == 3 * KEPT[0][3] * tokens


@pytest.mark.parametrize("facts", [{}, {"longest_row": 0}, {"longest_row": "?"}, {"rows": 1, "tokens": "counted later"}])
def test_rows_that_were_not_counted_are_as_long_as_they_may_be(tmp_path, facts):
    found = estimate(tmp_path, {"rows": 5, **facts}, batch_size=2)
    tokens = 256 * min(2, facts.get("rows", 5))
    assert found.activations == 3 * KEPT[0][3] * tokens
    shape = memory.read(ALL)
    assert found.flops == 2 * (256 * (2 * shape.linear + 2 * 256 * 3 * 48) + 128 * 2 * 320 * 48)


@pytest.mark.parametrize(("device", "precision", "piece"), [("cpu", "fp32", 4e6), ("cuda", "fp32", 64e6), ("cpu", "bf16", 6e6)])
def test_the_heads_logits_are_made_in_pieces(tmp_path, device, precision, piece):
    raw = {**ALL, "vocab_size": 400_000}
    low = 4 if precision == "fp32" else 2
    found = estimate(tmp_path, {**FACTS, "longest_row": 100}, raw, device, precision=precision, batch_size=1)
    assert found.transient == (4 * 96 + 8 * 48) * 100 * low + piece + 3 * 48 * 100 * low


@pytest.mark.parametrize(
    ("raw", "each"),
    [
        ({}, 4),
        ({"dtype": "bfloat16"}, 2),
        ({"torch_dtype": "float16"}, 2),
        ({"torch_dtype": "float32"}, 4),
        ({"dtype": "float32", "torch_dtype": "float16"}, 4),
    ],
)
def test_a_merged_model_has_the_precision_of_the_base(tmp_path, raw, each):
    total = memory.read(ALL).total
    found = estimate(tmp_path, raw={**ALL, **raw})
    assert found.files == {"merged": each * total} and found.phases == {"export": (4 + each) * total}


def test_experts_work_as_many_as_a_token_has(tmp_path):
    raw = {**ALL, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    shape = memory.read(raw)
    assert shape.fused == 4 * (3 * 48 * 96 + 48) and shape.active == 2 * 3 * 48 * 96 + 4 * 48
    forward = 50 * (2 * (shape.linear + 3 * shape.active) + 2 * 50 * 3 * 48) + 20 * 2 * 320 * 48
    assert estimate(tmp_path, raw=raw).flops == 2 * forward


# --- against the weights' own headers ------------------------------------------------------------------------------------------


def write(path, entries) -> None:
    header = json.dumps(
        {"__metadata__": {"format": "pt"}, **{name: {"shape": shape, "dtype": "F32"} for name, shape in entries.items()}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"rest")


@pytest.mark.parametrize(("off", "agrees"), [(0, True), (0.0199, True), (-0.0199, True), (0.0201, False), (-0.0201, False)])
def test_headers_must_hold_what_was_counted_but_for_two_per_cent(tmp_path, off, agrees):
    shape = memory.read(ALL)
    write(tmp_path / "model.safetensors", {"w": [round(shape.total * (1 + off))]})
    assert memory.agrees(tmp_path, shape) is agrees and (estimate(tmp_path) is not None) is agrees


def test_what_is_stored_beside_the_weights_is_no_parameter(tmp_path):
    shape, tied = memory.read(ALL), memory.read({**ALL, "tie_word_embeddings": True})
    write(
        tmp_path / "m.safetensors",
        {"w": [shape.total // 2, 2], "a.attn.bias": [9, 10**6], "a.attn.masked_bias": [10**6], "rotary_emb.inv_freq": [10**6]},
    )
    assert memory.agrees(tmp_path, shape)
    write(tmp_path / "m.safetensors", {"w": [tied.total], "lm_head.weight": [320, 48]})
    assert memory.agrees(tmp_path, tied)
    write(tmp_path / "m.safetensors", {"w": [shape.total - 320 * 48], "lm_head.weight": [320, 48]})
    assert memory.agrees(tmp_path, shape)


def test_weights_in_parts_are_those_of_the_index(tmp_path):
    shape = memory.read(ALL)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}), encoding="utf-8")
    assert memory.agrees(tmp_path, shape), "no weights here: nothing speaks against it"
    write(tmp_path / "1.safetensors", {"a": [5]})
    assert memory.agrees(tmp_path, shape), "a part is missing"
    write(tmp_path / "2.safetensors", {"b": [shape.total - 5]})
    write(tmp_path / "other.safetensors", {"c": [shape.total]})
    assert memory.agrees(tmp_path, shape)
    index.unlink()
    assert not memory.agrees(tmp_path, shape)


@pytest.mark.parametrize(
    "data", [b"", b"short", struct.pack("<Q", 5) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 2**60) + b"{"]
)
def test_damaged_weights_agree_with_nothing(tmp_path, data):
    (tmp_path / "m.safetensors").write_bytes(data)
    assert not memory.agrees(tmp_path, memory.read(ALL))
