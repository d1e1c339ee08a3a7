# SPDX-License-Identifier: Apache-2.0
"""What the networks of the FLUX kind share: latents as rows of tokens, where each stands in its picture, and the levels of noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loraforge import speaker

from ...records import ImageKeys
from ..image_base import ImageBase
from ..objectives import FlowMatching

if TYPE_CHECKING:
    from torch import Tensor

    from .memory import Walk

say = speaker(__name__)

TIME = 256  # numbers that describe the level of noise


def folded(latents: Tensor) -> Tensor:
    """Squares of 2 x 2 as channels: (rows, channels, height, width) -> (rows, 4 * channels, height / 2, width / 2); of a square's four
    places, a channel's stand side by side."""
    rows, channels, height, width = latents.shape
    squares = latents.reshape(rows, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 1, 3, 5, 2, 4).reshape(rows, 4 * channels, height // 2, width // 2)


def unfolded(latents: Tensor) -> Tensor:
    """``folded`` backwards: (rows, 4 * channels, height, width) -> (rows, channels, 2 * height, 2 * width)."""
    rows, channels, height, width = latents.shape
    squares = latents.reshape(rows, channels // 4, 2, 2, height, width)
    return squares.permute(0, 1, 4, 2, 5, 3).reshape(rows, channels // 4, 2 * height, 2 * width)


def packed(latents: Tensor) -> Tensor:
    """Tokens line by line: (rows, channels, height, width) -> (rows, height * width, channels)."""
    return latents.flatten(2).transpose(1, 2)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """``packed`` backwards."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def places(height: int, width: int, axes: int, device: Any) -> Tensor:
    """Position ids of a picture's tokens, (height * width, axes): row and column are the second and third of the ``axes``."""
    import torch

    ids = torch.zeros(height, width, axes, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)[None, :]
    return ids.reshape(height * width, axes)


def line(few: int, low: float, many: int, high: float) -> Callable[[int], float]:
    """The logarithm of the shift by the number of tokens: ``low`` at ``few``, ``high`` at ``many``, straight between and beyond."""
    return lambda tokens: low + (high - low) * (tokens - few) / (many - few)


def even(steps: int) -> list[float]:
    """From 1 down to one step above 0, in equal steps."""
    return [1 - number / steps for number in range(steps)]


def flux_flow(schedule: Any) -> FlowMatching:
    """The flow of FLUX.1 and Chroma, trained with the shift that it is drawn with: of the picture's size where the scheduler says so, and
    the scheduler's own where it does not.

    Args:
        schedule: the base's FlowMatchEulerDiscreteScheduler.
    """
    config = schedule.config
    if not config.get("use_dynamic_shifting"):
        return FlowMatching(schedule, float(config.get("shift") or 1.0), sigmas=even)
    few, many = config.get("base_image_seq_len") or 256, config.get("max_image_seq_len") or 4096
    return FlowMatching(schedule, mu=line(few, config.get("base_shift") or 0.5, many, config.get("max_shift") or 1.15), sigmas=even)


def unguided(keys: ImageKeys) -> Iterator[str]:
    """A sentence for a ``sample_cfg`` that a distilled base does not ask for."""
    if keys.sample_cfg is not None:
        yield say("sample_cfg changes nothing in the sample pictures: the base was distilled to draw without guidance")


def walk_joint_attention(walk: Walk, wide: int, heads: int, *, bias: bool = True, last: bool = False) -> None:
    """Attention of picture and caption together, each with layers of its own. It keeps what both norms read, queries and keys before and
    after theirs, and the values.

    Args:
        last: nothing asks for what becomes of the caption.
    """
    for name, tokens in (("to_{}", walk.image), ("add_{}_proj", walk.text)):
        for part in "qkv":
            walk.linear(f"attn.{name.format(part)}", wide, wide, tokens, bias=bias)
    walk.linear("attn.to_out.0", wide, wide, walk.image, bias=bias)
    if not last:
        walk.linear("attn.to_add_out", wide, wide, walk.text, bias=bias)
    walk.own(4 * (wide // heads))
    walk.attention(walk.image + walk.text, wide)
    walk.keep((2 + 2 + 3) * wide * (walk.image + walk.text))


def walk_embedding(walk: Walk, name: str, inputs: int, wide: int, *, bias: bool = True) -> None:
    """Two layers that make one vector of something that is told of the whole picture."""
    walk.linear(f"{name}.linear_1", inputs, wide, 1, bias=bias)
    walk.linear(f"{name}.linear_2", wide, wide, 1, bias=bias)


def walk_packed(walk: Walk, config: Mapping[str, Any], *, modulated: bool) -> None:
    """The embedders and blocks of FLUX.1 and Chroma.

    Args:
        modulated: whether every block makes its own scales and shifts.
    """
    head, heads = int(config["attention_head_dim"]), int(config["num_attention_heads"])
    wide, both = head * heads, walk.image + walk.text
    walk.linear("x_embedder", int(config["in_channels"]), wide, walk.image)
    walk.linear("context_embedder", int(config["joint_attention_dim"]), wide, walk.text)
    for number in range(int(config["num_layers"])):
        walk.enter(f"transformer_blocks.{number}", wide * both)
        walk_joint_attention(walk, wide, heads)
        for part, tokens, norm in (("ff", walk.image, "norm1"), ("ff_context", walk.text, "norm1_context")):
            walk.linear(f"{part}.net.0.proj", wide, 4 * wide, tokens)
            walk.linear(f"{part}.net.2", 4 * wide, wide, tokens)
            walk.keep(4 * wide * tokens)
            if modulated:
                walk.linear(f"{norm}.linear", wide, 6 * wide, 1)
    for number in range(int(config["num_single_layers"])):
        walk.enter(f"single_transformer_blocks.{number}", wide * both)
        for name, outputs in (("attn.to_q", wide), ("attn.to_k", wide), ("attn.to_v", wide), ("proj_mlp", 4 * wide)):
            walk.linear(name, wide, outputs, both)
        walk.linear("proj_out", 5 * wide, wide, both)
        walk.own(2 * head)
        walk.attention(both, wide)
        walk.keep((1 + 2 + 3 + 1 + 4) * wide * both)
        if modulated:
            walk.linear("norm.linear", wide, 3 * wide, 1)
    walk.enter("", 0)
    patch = int(config.get("patch_size", 1)) ** 2 * int(config.get("out_channels") or config["in_channels"])
    walk.linear("proj_out", wide, patch, walk.image)
    walk.keep(wide * both)


class PackedBase(ImageBase):
    """What FLUX.1 and Chroma share: packing, position ids, levels, and the layers of both kinds of blocks."""

    layers = r"^(transformer_blocks\.\d+\.(attn|ff|ff_context)\.|single_transformer_blocks\.\d+\.(attn\.|proj_mlp$|proj_out$))"

    def make_objective(self) -> FlowMatching:
        return flux_flow(self.pipe.scheduler)

    def denoised(self, noisy: Tensor, levels: Tensor, context: Tensor, **more: Any) -> Tensor:
        """What the network says of (rows, 16, height, width) latents with (rows, words, width) of captions."""
        import torch

        tokens = folded(noisy.to(self.dtype))
        height, width = tokens.shape[-2:]
        guess = self.denoiser(
            hidden_states=packed(tokens),
            timestep=levels,
            encoder_hidden_states=context.to(self.dtype),
            txt_ids=torch.zeros(context.shape[1], 3, device=noisy.device),
            img_ids=places(height, width, 3, noisy.device),
            return_dict=False,
            **more,
        )[0]
        return unfolded(unpacked(guess, height, width))
