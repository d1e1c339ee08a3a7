# SPDX-License-Identifier: Apache-2.0
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


# --- against attention with a mask ---------------------------------------------------------------------------------------------


def masked(query, key, value, lengths, scale=None, window=None):
    """Attention over the whole line by its definition: softmax of the scaled products where a token may look, in doubles."""
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(row))
    apart = place[:, None] - place[None]
    sees = (row[:, None] == row[None]) & (apart >= 0) & (apart < (window or len(row)))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return (scores.masked_fill(~sees, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize(
    ("lengths", "kv", "options", "own"),
    [
        ([96], 4, {}, True), ([95], 4, {}, False), ([96, 96], 2, {}, True), ([95, 96], 2, {}, False), ([1, 150, 137], 1, {}, True), ([250], 2, {"scaling": 0.3}, True),
        ([30, 1, 9], 2, {}, False), ([30, 9], 4, {"scaling": 0.3}, False), ([120], 2, {"sliding_window": 7}, False), ([7, 8, 6], 2, {"sliding_window": 7}, False),
        ([20], 4, {"sliding_window": 20}, False), ([20], 4, {"sliding_window": 19}, False), ([20], 4, {"sliding_window": 1}, False),
    ],
)  # fmt: skip
def test_every_token_sees_its_own_row_up_to_itself(monkeypatch, lengths, kv, options, own):
    from types import SimpleNamespace

    from loraforge_text.kernels import packed_attention

    applied = []
    real = packed_attention._RowAttention.apply
    monkeypatch.setattr(packed_attention, "_RowAttention", SimpleNamespace(apply=lambda *given: applied.append(1) or real(*given)))
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, sum(lengths), 8) for heads in (4, kv, kv)]
    given = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in given]
    got, nothing = packed_attention._attention(None, *given, None, row_lengths=lengths, **options)
    wanted = masked(*exact, lengths, options.get("scaling"), options.get("sliding_window"))
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-5)
    weight = torch.randn(wanted.shape, generator=generator)
    (got * weight).sum().backward()
    (wanted * weight).sum().backward()
    for mine, theirs in zip(given, exact, strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-3, atol=1e-4)
    assert nothing is None and bool(applied) is own, "rows of 96 tokens and more on average have a way of their own"


def test_without_lengths_there_is_one_row():
    from loraforge_text.kernels import packed_attention

    for tokens in (20, 100):
        given = [torch.randn(1, 2, tokens, 8) for _ in range(3)]
        got, _ = packed_attention._attention(None, *given, None)
        torch.testing.assert_close(got, masked(*given, [tokens]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"softcap": 30.0}, {"s_aux": 1}, {"attention_mask": torch.ones(1)}])
def test_an_attention_that_is_not_plain_is_refused(options):
    from loraforge_text.kernels import packed_attention

    given = [torch.randn(1, 2, 4, 8) for _ in range(3)]
    with pytest.raises(ValueError):
        packed_attention._attention(None, *given, **{"attention_mask": None, **options})
    packed_attention._attention(None, *given, attention_mask=None, softcap=None, s_aux=None)


def test_dropout_and_other_types_are_left_to_torch(monkeypatch):
    from loraforge_text.kernels import packed_attention

    monkeypatch.setattr(packed_attention, "_RowAttention", None)
    asked = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *given, **named: asked.append(named) or real(*given, **named)
    )
    given = [torch.randn(1, 2, 100, 8) for _ in range(3)]
    packed_attention._attention(None, *given, None, dropout=0.5, scaling=0.25)
    assert asked == [{"attn_mask": None, "dropout_p": 0.5, "scale": 0.25, "is_causal": True}]
    out, _ = packed_attention._attention(None, *(x.bfloat16() for x in given), None)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("length", "blocks"),
    [
        (1, [(0, 1)]),
        (96, [(0, 96)]),
        (115, [(0, 115)]),
        (116, [(0, 58), (58, 116)]),
        (211, [(0, 105), (105, 211)]),
        (212, [(0, 70), (70, 141), (141, 212)]),
    ],
)
def test_blocks_of_about_a_hundred_queries(length, blocks):
    from loraforge_text.kernels import packed_attention

    assert list(packed_attention._blocks(length)) == blocks


def test_rows_as_the_inputs_of_a_model():
    from loraforge_text.kernels import packed_attention

    made = packed_attention.line([torch.tensor([5, 6, 7]), torch.tensor([8])])
    assert (
        made["input_ids"].tolist() == [[5, 6, 7, 8]] and made["position_ids"].tolist() == [[0, 1, 2, 0]] and made["row_lengths"] == (3, 1)
    )


@pytest.mark.parametrize(("implementation", "taken"), [("sdpa", True), ("eager", False), (None, False)])
def test_only_torchs_own_attention_is_replaced(base, implementation, taken):
    from builders.fast_text import model_of
    from loraforge_text.kernels import packed_attention

    model = model_of(base)
    model.config._attn_implementation = implementation
    before = model.config._attn_implementation
    assert packed_attention.attend_to_rows(model) is taken
    assert model.config._attn_implementation == (packed_attention.NAME if taken else before)


def test_attention_and_its_mask_are_registered_under_one_name(base):
    from builders.fast_text import model_of
    from loraforge_text.kernels import packed_attention
    from transformers import AttentionInterface, AttentionMaskInterface

    assert packed_attention.attend_to_rows(model_of(base))
    assert AttentionInterface()[packed_attention.NAME] is packed_attention._attention
    assert AttentionMaskInterface()[packed_attention.NAME] is packed_attention._no_mask and packed_attention._no_mask(1, x=2) is None
