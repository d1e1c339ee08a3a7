# SPDX-License-Identifier: Apache-2.0
"""A LoRA sits where text passes, and nowhere else."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from builders import small_bases  # noqa: E402
from builders.architectures import architectures, small  # noqa: E402
from loraforge_text.families import reach  # noqa: E402

from loraforge import ConfigError, ModelError  # noqa: E402


def seeing():
    """A tiny Gemma 3 with its tower for pictures."""
    import transformers

    text = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    text |= {"num_key_value_heads": 2, "max_position_embeddings": 128, "eos_token_id": 2, "pad_token_id": 0}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=96)
    torch.manual_seed(0)
    return transformers.Gemma3ForConditionalGeneration(config)


def test_a_base_that_sees_is_adapted_in_its_language_model_alone(tmp_path, monkeypatch):
    base = small_bases.make_base("gemma3", tmp_path / "base", seeing())
    found = small_bases.compare(base, tmp_path, monkeypatch)
    assert found.layers == 14 and not found.still and found.loss < 1e-4 and found.trained < 1e-4 and found.merged < 1e-4, found
    assert "linear layers that text does not pass through stay as they are" in found.notes[0] and "vision" in found.notes[0]


@pytest.mark.parametrize(
    ("kind", "out"),
    [("bart", "encoder_attn"), ("deepseek_v32", "indexer"), ("mamba", "dt_proj"), ("big_bird", "pooler"), ("whisper", "encoder_attn")],
)
def test_what_no_gradient_reaches_is_left_out(kind, out):
    model = small(architectures()[kind])
    if kind == "big_bird":
        model.config.is_decoder = True
        model = type(model)(model.config).eval()
    from loraforge.adapters import lora

    left = set(lora.linear_names(model)) - set(reach.reached_layers(model))
    assert left and all(out in name for name in left) and any(out in name for name in lora.linear_names(model))


class Router(torch.nn.Module):
    """A block that sends every token to its first expert."""

    def __init__(self):
        super().__init__()
        self.experts = torch.nn.ModuleList(torch.nn.ModuleDict({"w1": torch.nn.Linear(4, 4)}) for _ in range(3))
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))
        self.embedding, self.head = torch.nn.Embedding(20, 4), torch.nn.Linear(4, 20)
        self.config = type("Config", (), {"model_type": "mine"})()

    def get_input_embeddings(self):
        return self.embedding

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, use_cache=False):
        with torch.no_grad():
            self.layers[2](self.embedding(input_ids))
        hidden = self.layers[0](self.experts[0]["w1"](self.embedding(input_ids)))
        return type("Output", (), {"logits": self.head(hidden)})


def test_an_expert_that_was_not_asked_counts_and_a_layer_that_was_not_called_does_not():
    model = Router().train()
    assert reach.reached_layers(model) == ["experts.0.w1", "experts.1.w1", "experts.2.w1", "layers.0"]
    assert model.training and not any(m._forward_hooks for m in model.modules())


def test_a_target_where_nothing_would_be_learned_is_refused():
    with pytest.raises(ConfigError, match=r"text does not pass through layers\.\* in this base"):
        reach.choose(Router(), "layers.1")
    assert reach.choose(Router(), "all-linear").notes == (
        "2 linear layers that text does not pass through stay as they are, as a LoRA there would learn nothing: layers.*",
    )


def test_a_base_that_cannot_be_computed_is_told_in_a_sentence():
    model = Router()
    model.forward = lambda **given: 1 / 0
    with pytest.raises(ModelError, match="cannot compute a short text with this base: division by zero"):
        reach.reached_layers(model)


def test_fused_experts_are_named_with_their_share():
    model = small(architectures()["mixtral"])
    (note,) = reach.choose(model, "all-linear").notes
    share = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n) / sum(p.numel() for p in model.parameters())
    assert "the routed experts of this base are fused weights" in note and f"({share:.0%} of the base)" in note
    assert not reach.choose(model, "attention").notes and not reach.choose(small(architectures()["llama"]), "all-linear").notes
