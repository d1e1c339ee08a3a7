# SPDX-License-Identifier: Apache-2.0
"""Tiny random text encoders of FLUX.1, Chroma and Stable Diffusion 3, with tokenizers of letters."""

from __future__ import annotations

from pathlib import Path

from ..tiny_images import make_tokenizer


def tiny_t5(width: int = 32):
    """(encoder, tokenizer)."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(code), -4.0) for code in range(33, 127))]
    config = T5Config(vocab_size=len(words), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return T5EncoderModel(config), T5Tokenizer(vocab=words)


def tiny_clip(folder: Path, kind: str = "CLIPTextModel", act: str = "quick_gelu"):
    """(encoder, tokenizer), of which the tokenizer's files stay in ``folder``."""
    import transformers

    size = make_tokenizer(folder)
    config = transformers.CLIPTextConfig(
        vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, projection_dim=16, hidden_act=act,
        bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
    )  # fmt: skip
    return getattr(transformers, kind)(config), transformers.CLIPTokenizer.from_pretrained(folder)
