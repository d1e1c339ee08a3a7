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
