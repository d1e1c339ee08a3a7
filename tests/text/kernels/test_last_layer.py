# SPDX-License-Identifier: Apache-2.0
"""The last layer on learned positions only."""

from __future__ import annotations

from builders.fast_text import both, loss_and_gradients, rows, torch


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


def test_without_places_it_is_the_layer_that_it_was(base):
    from builders.fast_text import model_of
    from loraforge_text.kernels import last_layer

    model = model_of(base).eval()
    ids = torch.arange(1, 12)[None]
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
        kinds = [type(layer) for layer in model.get_decoder().layers]
        assert last_layer.keep_places(model)
        assert model(input_ids=ids, use_cache=False).logits.equal(before)
        places = torch.tensor([2, 7])
        torch.testing.assert_close(model(input_ids=ids, use_cache=False, places=places).logits, before[:, places])
    now = [type(layer) for layer in model.get_decoder().layers]
    assert now[0] is kinds[0] and issubclass(now[1], kinds[1]) and now[1].__name__ == f"Last{kinds[1].__name__}"


def test_a_model_without_layers_is_left_alone():
    from types import SimpleNamespace

    from loraforge_text.kernels import last_layer

    for decoder in (SimpleNamespace(), SimpleNamespace(layers=[]), SimpleNamespace(layers=[torch.nn.Linear(2, 2)])):
        assert not last_layer.keep_places(SimpleNamespace(get_decoder=lambda decoder=decoder: decoder))
