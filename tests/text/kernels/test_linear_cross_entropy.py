"""What makes text training fast changes nothing: each technique against the plain computation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

FAMILIES = ["llama", "qwen2", "gpt2"]


def model_of(base, architecture="llama", tmp_path=None):
    from loraforge_text.families.causal_lm import load_model
    from tiny import make_base

    folder = base if architecture == "llama" else make_base(tmp_path / architecture, architecture=architecture)
    return load_model(folder, "fp32", torch.device("cpu")).requires_grad_(False)


def both(folder, **settings):
    """(the plain one, the fast one) with the same LoRA, whose B is not zero."""
    from loraforge_text.base_files import read_base
    from loraforge_text.families.causal_lm import TrainableCausalLM, _tokenizer, load_model

    from loraforge import RunConfig
    from loraforge.adapters import lora

    made = []
    for fast in (False, True):
        model = load_model(folder, "fp32", torch.device("cpu"))
        torch.manual_seed(0)
        attached = lora.inject(model, RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.0, **settings))
        for _, layer in attached.layers():
            layer.lora_B["default"].weight.data.normal_(std=0.1)
        made.append(TrainableCausalLM(attached, _tokenizer(folder), read_base(folder), 512, fast=fast))
    return made


def rows(lengths, seed=0, vocabulary=400):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"ids": tuple(torch.randint(5, vocabulary, (n,), generator=generator).tolist()), "learned": tuple(i >= n // 2 for i in range(n))}
        for n in lengths
    ]


def loss_and_gradients(trainable, examples):
    batch = trainable.collate(examples)
    loss = trainable.loss(trainable.model.train(), batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in trainable.model.named_parameters() if p.grad is not None}
    trainable.model.zero_grad(set_to_none=True)
    return loss.detach(), {name.replace(".head.", "."): grad for name, grad in found.items()}, batch


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_computation(tmp_path, architecture, checkpointing):
    from tiny import make_base

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


@pytest.mark.parametrize(("count", "cells"), [(1, 10**9), (7, 10**9), (300, 50)])
def test_the_chunked_head_is_plain_cross_entropy(monkeypatch, count, cells):
    from loraforge_text.kernels import linear_cross_entropy

    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._CELLS", cells)
    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._WORDS", 1)
    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._ROWS", 128)
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 90, bias=count == 7).requires_grad_(False)
    labels = torch.randint(0, 90, (count,))
    hidden = [(torch.randn(count, 16, generator=torch.Generator().manual_seed(1)) * 30).requires_grad_() for _ in range(2)]
    plain = torch.nn.functional.cross_entropy(head(hidden[0]), labels)
    fast = linear_cross_entropy.cross_entropy(hidden[1], head, labels)
    torch.testing.assert_close(fast, plain)
    (plain * 3).backward()
    (fast * 3).backward()
    torch.testing.assert_close(hidden[1].grad, hidden[0].grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy.cross_entropy(hidden[1], head, labels), plain)


def test_a_head_that_does_more_stays_on():
    from loraforge_text.kernels import linear_cross_entropy
    from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig  # Granite's scale may as well come before the head

    shape = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    for config, more in (
        (Gemma2Config(**shape, head_dim=8, final_logit_softcapping=0.1), True),
        (GraniteConfig(**shape, logits_scaling=8.0), False),
    ):
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        head = model.get_output_embeddings()
        head.weight.data.normal_()  # or there is nothing to cap
        taken = linear_cross_entropy.take_off(model)
        assert (taken is None) == more and (model.get_output_embeddings() is head) == more


def test_blocks_are_exchanged_only_where_they_do_the_same(base):
    from loraforge_text.kernels import fast_blocks

    model = model_of(base)
    assert fast_blocks.replace(model) == 2 * 2 + 1 + 2  # two norms and a feed-forward block in each layer, and the last norm

    class OtherRMSNorm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.rand(8), requires_grad=False), 1e-6

        def forward(self, x):
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)  # Gemma's

    assert fast_blocks.replace(torch.nn.Sequential(OtherRMSNorm())) == 0


def test_fast_blocks_have_the_right_gradients():
    from loraforge_text.kernels.fast_blocks import _Gate, _Norm

    torch.manual_seed(0)
    x, y = (torch.randn(3, 5, 8, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(_Gate.apply, (x, y))
    a, b = (torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(4)).requires_grad_() for _ in range(2))
    weight = torch.rand(8)
    _Norm.apply(a, weight, 1e-6)[0].square().sum().backward()
    (b * torch.rsqrt(b.square().mean(-1, keepdim=True) + 1e-6) * weight).square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def kept_bytes(make):
    """(what ``make`` returns, bytes of different tensors that are kept for its backward pass)."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = make()
    return made, sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_what_a_frozen_block_can_make_again_is_not_kept_and_the_gradients_stay(base, monkeypatch, targets, checkpointing):
    from loraforge_text.kernels import fast_blocks

    from loraforge import RunConfig
    from loraforge.adapters import lora
    from loraforge.kernels import frozen

    ids = torch.arange(1, 65)[None]

    def trained(recomputed):
        model = model_of(base)
        torch.manual_seed(0)
        kinds = ["q_proj", "k_proj", "v_proj", "o_proj"] if targets == "attention" else "all-linear"
        lora.inject(model, RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.25, lora_target=kinds))
        fast_blocks.replace(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        if not recomputed:
            monkeypatch.setattr(frozen, "recompute", lambda made, *others: made)
        model.train()
        torch.manual_seed(1)
        loss, size = kept_bytes(lambda: model(input_ids=ids, labels=ids, use_cache=False).loss)
        loss.backward()
        return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None], size

    one, two = trained(True), trained(False)
    assert one[0].equal(two[0]) and len(one[1]) == len(two[1]) > 8
    for a, b in zip(one[1], two[1], strict=True):
        assert a.equal(b)
    # In the first of the two layers what goes into the norm is kept instead.
    assert checkpointing or one[2] < two[2] - 64 * model_of(base).config.hidden_size * 4 * 0.9


def test_four_bit_layers_pass_gradients_on_after_measuring(base):
    pytest.importorskip("bitsandbytes")
    from loraforge_text.families.causal_lm import load_model

    from loraforge import RunConfig
    from loraforge.adapters import lora

    model = load_model(base, "4bit", torch.device("cpu"))
    attached = lora.inject(model, RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.0))
    ids = torch.arange(1, 9)[None]
    model.eval()
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    model.train()
    model(input_ids=ids, use_cache=False).logits.float().square().sum().backward()
    first = next(layer for _, layer in attached.layers())
    assert float(first.lora_B["default"].weight.grad.abs().sum()) > 0, "the gradient reaches the first layer"


@pytest.mark.parametrize("slope", [-5.0, 5.0])
def test_the_chunked_head_sums_logits_that_rise_from_part_to_part(monkeypatch, slope):
    from loraforge_text.kernels import linear_cross_entropy

    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._CELLS", 1)
    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._WORDS", 7)
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 90, bias=True).requires_grad_(False)
    head.bias += slope * torch.arange(90)  # exp() of all at once would be infinite
    labels = torch.randint(0, 90, (30,))
    hidden = [torch.randn(30, 16, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    plain = torch.nn.functional.cross_entropy(head(hidden[0]), labels)
    fast = linear_cross_entropy.cross_entropy(hidden[1], head, labels)
    torch.testing.assert_close(fast, plain)
    plain.backward()
    fast.backward()
    torch.testing.assert_close(hidden[1].grad, hidden[0].grad, rtol=1e-4, atol=1e-6)


def test_a_pass_that_learns_nothing_has_a_gradient_of_nothing():
    from loraforge_text.kernels import linear_cross_entropy

    head = torch.nn.Linear(16, 90, bias=False).requires_grad_(False)
    hidden = torch.randn(0, 16, requires_grad=True)
    (linear_cross_entropy.cross_entropy(hidden, head, torch.zeros(0, dtype=torch.long)) * 0).backward()
    assert hidden.grad.shape == (0, 16)


@pytest.mark.parametrize(("count", "vocabulary"), [(40, 120_000), (700, 12_000)])
def test_the_heads_logits_take_the_same_memory_for_every_vocabulary(monkeypatch, count, vocabulary):
    from loraforge_text.kernels import linear_cross_entropy

    seen = []
    product = linear_cross_entropy.frozen.product
    monkeypatch.setattr(
        linear_cross_entropy.frozen, "product", lambda x, weight, bias: seen.append((len(x), len(weight))) or product(x, weight, bias)
    )
    head = torch.nn.Linear(8, vocabulary, bias=False).requires_grad_(False)
    linear_cross_entropy.cross_entropy(torch.randn(count, 8).requires_grad_(), head, torch.randint(0, vocabulary, (count,))).backward()
    assert max(rows * words for rows, words in seen) <= 512 * 2048  # 4 MB
    assert sum(rows * words for rows, words in seen) == count * vocabulary, "every logit is made once"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_chunked_head_keeps_small_gradients_of_half_precision(dtype):
    from loraforge_text.kernels import linear_cross_entropy

    torch.manual_seed(0)
    head = torch.nn.Linear(16, 500, bias=False).requires_grad_(False).to(dtype)
    labels = torch.randint(0, 500, (400,))
    hidden = [torch.randn(400, 16, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_() for _ in range(2)]
    scale = 65536.0  # what a scaler of fp16 begins with
    (torch.nn.functional.cross_entropy(head(hidden[0]).float(), labels) * scale).backward()
    (linear_cross_entropy.cross_entropy(hidden[1], head, labels) * scale).backward()
    assert hidden[1].grad.dtype == dtype and torch.isfinite(hidden[1].grad).all()
    torch.testing.assert_close(
        hidden[1].grad.float(), hidden[0].grad.float(), rtol=0.05, atol=0.05 * float(hidden[0].grad.float().abs().max())
    )
    one, two = (h.grad.float().flatten() for h in hidden)
    assert torch.nn.functional.cosine_similarity(one, two, 0) > 0.999


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


def test_the_last_layer_works_on_learned_positions_only(base):
    plain, fast = both(base, lora_target="all-linear")
    assert fast._places
    seen = []
    last = fast.model.get_decoder().layers[-1].mlp
    last.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    examples = rows([9, 40, 17, 64])
    (a, one, _), (b, two, _) = loss_and_gradients(plain, examples), loss_and_gradients(fast, examples)
    assert seen == [sum(sum(example["learned"]) for example in examples)]
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for name, grad in one.items():
        torch.testing.assert_close(grad, two[name], rtol=1e-3, atol=1e-5)


def test_a_last_layer_that_does_more_is_left_alone():
    from loraforge_text.kernels import last_layer, linear_cross_entropy, packed_attention
    from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig

    shape = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    # Granite scales what each block adds; Cohere's blocks stand beside each other.
    for config in (GraniteConfig(**shape, residual_multiplier=0.3), CohereConfig(**shape, logit_scale=1.0)):
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        kind = type(model.get_decoder().layers[-1])
        linear_cross_entropy.take_off(model)
        packed_attention.attend_to_rows(model)
        assert not last_layer.keep_places(model) and type(model.get_decoder().layers[-1]) is kind


def test_a_frozen_feed_forward_block_has_the_right_gradient():
    from loraforge_text.kernels.fast_blocks import _FrozenGated

    torch.manual_seed(0)
    gate, up, down = (torch.randn(shape, dtype=torch.double) for shape in ((6, 4), (6, 4), (4, 6)))
    x = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: _FrozenGated.apply(y, gate, up, down), (x,), fast_mode=True)
