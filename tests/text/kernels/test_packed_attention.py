"""Rows end to end, without padding: the same loss and gradients."""

from __future__ import annotations

import pytest
from builders.fast_text import FAMILIES, both, loss_and_gradients, rows, torch


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_computation(tmp_path, architecture, checkpointing):
    from builders.tiny_text import make_base

    folder = make_base(tmp_path / "base", architecture=architecture, width=64 if architecture == "gpt2" else 32)
    plain, fast = both(folder)
    for module in [*plain.model.modules(), *fast.model.modules()]:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # GPT-2 has its own
    if checkpointing:
        fast.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    examples = rows([9, 40, 17, 64])
    (a, one, padded), (b, two, line) = loss_and_gradients(plain, examples), loss_and_gradients(fast, examples)
    assert plain.weight(padded) == fast.weight(line) and plain.units(padded) == fast.units(line) == 130
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert one.keys() == two.keys() and len(one) > 8
    for name, grad in one.items():
        torch.testing.assert_close(grad, two[name], rtol=1e-3, atol=1e-5)
    assert line["input_ids"].shape == (1, 130), "nothing is padded"
    assert fast.group(examples[0]) == fast.group(examples[3]), "and no row waits for others of its length"


def test_rows_do_not_see_each_other(base):
    _, fast = both(base)
    first, second, other = rows([20, 30]) + rows([20], seed=9)
    with torch.no_grad():
        hidden = [
            fast.model(
                **{k: v for k, v in fast.collate([x, second]).items() if k in ("input_ids", "position_ids", "row_lengths")}, use_cache=False
            ).logits[0, 20:]
            for x in (first, other)
        ]
    assert hidden[0].equal(hidden[1])


def test_a_sliding_window_is_kept(tmp_path):
    from loraforge_text.kernels import packed_attention
    from transformers import AutoModelForCausalLM, MistralConfig

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = [torch.randint(0, 128, (n,)) for n in (30, 21)]
    with torch.no_grad():
        wanted = torch.cat([model(input_ids=row[None], use_cache=False).logits[0] for row in ids])
        assert packed_attention.attend_to_rows(model)
        got = model(**packed_attention.line(ids), use_cache=False).logits[0]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_model_that_mixes_rows_is_padded_as_before():
    from loraforge_text.kernels import packed_attention
    from transformers import AutoModelForCausalLM, BloomConfig, MambaConfig

    for config in (
        BloomConfig(vocab_size=128, hidden_size=32, n_layer=1, n_head=2),  # its places are in the mask
        MambaConfig(vocab_size=128, hidden_size=32, num_hidden_layers=1, state_size=4),  # a state runs through the line
    ):
        model = AutoModelForCausalLM.from_config(config).eval()
        before = model.config._attn_implementation
        assert not packed_attention.attend_to_rows(model) and model.config._attn_implementation == before


@pytest.mark.parametrize(("heads", "groups", "width"), [(4, 2, 8), (3, 3, 16), (6, 1, 4)])
def test_attention_in_rows_is_torchs(heads, groups, width):
    from loraforge_text.kernels import packed_attention

    lengths = (230, 97, 1, 150)
    torch.manual_seed(0)
    given = [torch.randn(1, sum(lengths), count, width) for count in (heads, groups, groups)]
    outer = torch.randn(1, sum(lengths), heads, width)
    found = []
    for plain in (True, False):
        query, key, value = leaves = [x.transpose(1, 2).requires_grad_() for x in given]
        if plain:
            parts = zip(*(torch.split(x, lengths, 2) for x in leaves), strict=True)
            rows_ = [
                torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True) for q, k, v in parts
            ]
            made = torch.cat([row.transpose(1, 2) for row in rows_], 1)
        else:
            assert sum(lengths) >= packed_attention._BLOCK * len(lengths), "or torch's own kernel is used"
            made, _ = packed_attention._attention(None, query, key, value, None, scaling=0.3, row_lengths=lengths)
            assert type(made.grad_fn).__name__.startswith("_RowAttention")
        found.append((made.detach(), *torch.autograd.grad(made, leaves, outer)))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
