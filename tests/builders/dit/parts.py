# SPDX-License-Identifier: Apache-2.0
"""What the tiny random bases of transformer families are made of, from configurations."""

from __future__ import annotations

import json
from pathlib import Path

# Qwen's chat template, as far as one message of a user uses it.
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def byte_tokenizer(length: int = 4096):
    """A tokenizer of Qwen's kind whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2Tokenizer

    words = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    found = Qwen2Tokenizer(tokenizer_object=made, pad_token=special[0], eos_token=special[2], model_max_length=length)
    found.add_special_tokens({"additional_special_tokens": special[1:2]})
    found.chat_template = CHAT
    return found


def filled(module, seed: int):
    """Random numbers in place of the zeros and ones that a fresh module begins with, so that nothing is left out of a comparison."""
    import torch

    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(module.state_dict().items()):
            if value.is_floating_point() and value.numel() and (value == value.flatten()[0]).all():
                one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                value.copy_(one + 0.2 * torch.randn(value.shape, generator=chance))
    return module


def tiny_vae(channels: int = 16, **more):
    """An AutoencoderKL of the kind that FLUX.1, SD3 and Z-Image share."""
    from diffusers import AutoencoderKL

    settings = {"shift_factor": 0.1159, "scaling_factor": 0.3611, "use_quant_conv": False, "use_post_quant_conv": False, **more}
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4, 4, 8, 8),
        layers_per_block=1, latent_channels=channels, norm_num_groups=2, sample_size=64, **settings,
    )  # fmt: skip


def tiny_qwen3(vocabulary: int, width: int = 32, layers: int = 3):
    """A text encoder of Qwen3's kind, without its head."""
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(Qwen3Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=4096,
    ))  # fmt: skip


def one_file(folder: Path, file: Path, rename=dict, prefix: str = "") -> Path:
    """The transformer of ``folder`` as a single file.

    Args:
        rename: makes the tensors of the original model's layout of those of diffusers.
    """
    import safetensors.torch

    tensors = safetensors.torch.load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    safetensors.torch.save_file({prefix + name: value.contiguous() for name, value in rename(tensors).items()}, file)
    return file


def config_of(folder: Path, part: str = "transformer") -> dict:
    """The configuration of a part."""
    return json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
