# SPDX-License-Identifier: Apache-2.0
"""What is replaced computes the same as transformers and peft, on every architecture that there is."""

from __future__ import annotations

import copy
import os

import pytest
from builders.architectures import architectures, small, torch
from builders.fast_text import rows

KINDS = architectures()
COMMON = ("llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3", "gemma2", "gpt2", "deepseek_v3", "qwen2_moe", "olmo", "gemma4_text")
# These read padding as if it were text, in transformers too: rows beside each other are of one length.
EVEN = ("cpmant", "prophetnet")


def reference(model, names, pairs, examples):
    """Mean loss per learned token and the gradients of A and B, each row by itself, with the library's code alone."""
    import peft

    from loraforge.adapters import exact_names

    # Asked by name, peft would take dense and shared experts for the fused ones; the layers that it puts there are its own.
    exact_names.inject(peft.LoraConfig(r=4, lora_alpha=8, target_modules=names, lora_dropout=0.0), model, "default")
    wrapped = model.eval()
    parameters = {n.replace(".default", ""): p for n, p in wrapped.named_parameters() if "lora_" in n}
    assert set(parameters) == set(pairs)
    for name, parameter in parameters.items():
        parameter.data.copy_(pairs[name])
    total, count = torch.zeros(()), sum(sum(example["learned"][1:]) for example in examples)
    for example in examples:
        ids = torch.tensor(example["ids"])
        logits = wrapped(input_ids=ids[None], use_cache=False).logits[0]
        chosen = torch.tensor(example["learned"][1:]).nonzero()[:, 0]
        total = total + torch.nn.functional.cross_entropy(logits[chosen].float(), ids[chosen + 1], reduction="sum")
    loss = total / count
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in parameters.items() if p.grad is not None}


def ours(model, examples):
    from loraforge_text.families.causal_lm import TrainableCausalLM

    from loraforge import RunConfig
    from loraforge.adapters import lora

    injected = lora.inject(model, RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.0, lora_rank=4, lora_target="all-linear"))
    torch.manual_seed(1)
    for _, layer in injected.layers():
        layer.lora_B["default"].weight.data.normal_(std=0.1)
    pairs = {n.replace(".default", ""): p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}
    trainable = TrainableCausalLM(injected, None, None, 512, fast=True)
    trainable.model.eval()  # no dropout of the base

    def run():
        loss = trainable.loss(trainable.model, trainable.collate(examples))
        loss.backward()
        found = {
            n.replace(".default", "").replace(".head.", "."): p.grad for n, p in trainable.model.named_parameters() if p.grad is not None
        }
        return loss.detach(), found

    return trainable, pairs, run


@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_transformers_and_peft(kind, scale):
    from loraforge.adapters import lora

    plain = small(KINDS[kind])
    fast = copy.deepcopy(plain)
    names = lora.linear_names(plain)
    if not names:
        pytest.skip("no linear layer")
    if scale == 1 and kind not in COMMON and "LORAFORGE_ALL_ARCHITECTURES" not in os.environ:
        pytest.skip("the scale of 30 shows it too; minutes: set LORAFORGE_ALL_ARCHITECTURES=1")
    if kind == "reformer":
        pytest.skip("its reversible layers pass no gradient where nothing before them learns")
    for model in (plain, fast):  # beyond a clamp, too
        model.get_input_embeddings().register_forward_hook(lambda module, given, made: made * scale)
    examples = rows([9, 9, 9] if kind in EVEN else [9, 14, 5], vocabulary=90)
    trainable, pairs, run = ours(fast, examples)
    wanted, gradients = reference(plain, names, pairs, examples)
    got, found = run()
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5, msg=lambda text: f"{trainable.replaced}: {text}")
    assert set(found) == set(gradients)
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    apart = torch.stack([(found[name] - grad).norm() for name, grad in gradients.items()]).norm()
    assert apart <= 1e-3 * norm, f"{trainable.replaced}: gradients differ by {apart / norm:.2e}"


@pytest.mark.parametrize("kind", ["llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3"])
def test_what_most_people_train_is_known(kind):
    """If this fails after an update of transformers, read what changed and add its digest: the docstring of ``verified`` says how."""
    from loraforge_text import kernels

    from loraforge.kernels import frozen

    model = small(KINDS[kind]).requires_grad_(False)
    done = kernels.replace(model)
    assert done.head is not None and done.in_line
    assert done.places == (kind != "phi3")  # its layers have dropout
    assert done.counts["norms"] >= 5
    # Frozen linear layers have a way of their own on some processors only.
    assert (done.counts["frozen layers"] > 0) == frozen.onednn_is_faster()


def test_a_module_is_looked_at_and_not_its_class():
    from loraforge_text.kernels import fast_blocks
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    plain, learned, bare = LlamaRMSNorm(8).requires_grad_(False), LlamaRMSNorm(8), LlamaRMSNorm(8)
    del bare.weight  # some families have norms of one class with and without
    assert fast_blocks.replace(torch.nn.ModuleList([plain, learned, bare]))["norms"] == 1
    assert type(plain) is not type(learned) is type(bare)


def test_a_block_with_a_clamp_keeps_it():
    from loraforge_text.kernels import fast_blocks
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    class Clamped(LlamaMLP):
        def forward(self, x):
            return self.down_proj(self.act_fn(self.gate_proj(x)).clamp(max=10.0) * self.up_proj(x).clamp(-10.0, 10.0))

    torch.manual_seed(0)
    block = Clamped(LlamaConfig(hidden_size=16, intermediate_size=32, num_attention_heads=2)).requires_grad_(False)
    x = torch.randn(4, 16) * 300
    before = block(x)
    fast_blocks.replace(torch.nn.Sequential(block))
    assert block(x).equal(before)


def test_a_forward_pass_that_somebody_put_on_one_module_is_kept():
    from loraforge_text.kernels import fast_blocks, verified
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    plain, wrapped = LlamaRMSNorm(8).requires_grad_(False), LlamaRMSNorm(8).requires_grad_(False)
    wrapped.forward = lambda x: x
    assert verified.is_one_of(plain, verified.RMS_NORM) and not verified.is_one_of(wrapped, verified.RMS_NORM)
    assert fast_blocks.replace(torch.nn.ModuleList([plain, wrapped]))["norms"] == 1
    model = small(KINDS["llama"])
    assert verified.keeps_rows_apart(model)
    model.model.layers[0].self_attn.forward = lambda *given, **named: None
    assert not verified.keeps_rows_apart(model)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}),
        ("phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0}}),  # a long row would change a short one's positions
        ("olmoe", {"sliding_window": 8}),  # its mask has no window
        ("smollm3", {"use_sliding_window": False, "layer_types": ["sliding_attention", "full_attention"]}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
    ],
)
def test_rows_do_not_lie_end_to_end_where_one_would_change_another(kind, settings):
    from loraforge_text.kernels import verified

    model = small(KINDS[kind])
    assert verified.keeps_rows_apart(model)
    for name, value in settings.items():
        setattr(model.config, name, value)
    assert not verified.keeps_rows_apart(model)


def test_what_the_classes_of_a_model_type_do_is_printed(capsys):
    from loraforge_text.kernels import verified
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from loraforge.kernels import program

    verified.main(["llama", "mamba"])
    out = capsys.readouterr().out
    assert f"{program.digest(LlamaRMSNorm.forward)} known LlamaRMSNorm\n{program.statements(LlamaRMSNorm.forward)}" in out
    assert "UNKNOWN MambaMixer" in out and "Linear\n" not in out and out.count("LlamaDecoderLayer\n") == 1
