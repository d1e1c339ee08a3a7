# SPDX-License-Identifier: Apache-2.0
"""What training a Stable Diffusion model needs, from its configuration files alone and without torch: the U-Net is walked through layer by
layer as diffusers builds it: what each has (parameters), multiplies (operations), and keeps for the backward pass (bytes)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import (
    ConfigError,
    MemoryEstimate,
    ModelError,
    RunConfig,
    adapter_size,
    apply_block_ranks,
    dropout_noise,
    read_text,
    weight_copies,
)

from ...records import ImageKeys
from ..base_files import locate
from ..fitting.sizes import PRECISIONS, Weights, encoders, held, savings
from ..targets import narrowed
from .caption_length import WINDOW
from .identify import config_folder
from .published import PUBLISHED
from .targets import TEXT, readable

_CONTEXT = 77  # tokens of one window of CLIP
_LANES = 16  # as fast_unet widens heads on AMD's processors
_HOLES = 40_000_000  # measured: what the allocator on a CPU keeps of the encoders between the tensors of a step
_DORA = 2  # results of an adapted layer that peft keeps for the magnitude: the base's and the LoRA's
# Layers whose LoRA reads what a norm or a gate makes, which is made once more, or a caption, which is there anyway.
_RECOMPUTED = (".to_q", ".to_k", ".to_v", ".ff.net.0.proj", ".ff.net.2")


class UNetActivations:
    """Counts while it goes through a U-Net: for one picture.

    Attributes:
        parameters: of all layers.
        macs: multiplications of one forward pass.
        kept: numbers that stay for the backward pass; what the LoRA's own input copies need is in ``inputs``.
        inputs: numbers that a LoRA on the module reads, by module.
        modules: (kind, inputs, outputs, size of the kernel) of what may carry a LoRA, by full name.
        outer: numbers that stay with gradient checkpointing.
        widest: numbers of the largest block, which checkpointing computes again; its adapted modules by name in ``blocks``.
        skips: numbers of the skip connections.
        convolutions: how the names of those layers of the transformers end that are convolutions.
        work: numbers of the largest layer's input and output.
        fast: whether frozen convolutions keep nothing and what a norm makes is made once more.
    """

    def __init__(self, tokens: int, wide: int, linear: bool, fast: bool) -> None:
        self.fast = fast
        self.parameters, self.macs, self.kept, self.outer, self.widest, self.skips, self.work = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        self.inputs: dict[str, float] = {}
        self.modules: dict[str, tuple[str, int, int, int]] = {}
        self.tokens, self.wide, self.convolutions = tokens, wide, () if linear else (".proj_in", ".proj_out")

    def layer(self, name: str, kind: str, size: tuple[int, int], places: float, kernel: int = 1, bias: bool = True) -> None:
        """A linear layer or a convolution.

        Args:
            kind: "transformer" or "residual" if it may carry a LoRA; otherwise nothing.
            size: (inputs, outputs).
            places: pixels or tokens that it is used at.
        """
        many = size[0] * size[1] * kernel * kernel
        self.parameters += many + (size[1] if bias else 0)
        self.macs += many * places
        self.work = max(self.work, (size[0] + size[1]) * places)
        if kind:
            self.modules[name] = (kind, *size, kernel)
            self.inputs[name] = size[0] * places

    def residual(self, name: str, before: int, after: int, time: int, pixels: float) -> None:
        """A ResnetBlock2D: both norms keep what they read; without ``fast`` both activations and both convolutions as well."""
        self.parameters += 2 * before + 2 * after
        self.layer(f"{name}.conv1", "residual", (before, after), pixels, 3)
        self.layer(f"{name}.time_emb_proj", "residual", (time, after), 1)
        self.layer(f"{name}.conv2", "residual", (after, after), pixels, 3)
        if before != after:
            self.layer(f"{name}.conv_shortcut", "residual", (before, after), pixels)
        block = (1.0 if self.fast else 3.0) * (before + after) * pixels
        self.kept, self.outer, self.widest = self.kept + block, self.outer + before * pixels, max(self.widest, block)

    def transformer(self, name: str, width: int, count: int, pixels: float, heads: int) -> None:
        """A Transformer2DModel with ``count`` blocks: self-attention, attention to the caption, a gated feed-forward."""
        head = width // heads
        wider = -(-head // _LANES) * _LANES / head if self.fast else 1.0  # heads are widened to whole lanes
        self.parameters += 2 * width + count * 6 * width
        self.layer(f"{name}.proj_in", "transformer", (width, width), pixels)
        for number in range(count):
            block = f"{name}.transformer_blocks.{number}"
            for attention, context, places in (("attn1", width, pixels), ("attn2", self.wide, float(self.tokens))):
                self.layer(f"{block}.{attention}.to_q", "transformer", (width, width), pixels, bias=False)
                self.layer(f"{block}.{attention}.to_k", "transformer", (context, width), places, bias=False)
                self.layer(f"{block}.{attention}.to_v", "transformer", (context, width), places, bias=False)
                self.layer(f"{block}.{attention}.to_out.0", "transformer", (width, width), pixels)
                self.macs += 2 * pixels * places * width
            self.layer(f"{block}.ff.net.0.proj", "transformer", (width, 8 * width), pixels)
            self.layer(f"{block}.ff.net.2", "transformer", (4 * width, width), pixels)
            # three norms, query/key/value/result of one attention, query/result of the other, the gate
            kept = (3 + (4 + 2) * wider + (8 if self.fast else 12)) * width * pixels + 2 * width * self.tokens
            self.kept, self.outer, self.widest = self.kept + kept, self.outer + width * pixels, max(self.widest, kept)
        self.layer(f"{name}.proj_out", "transformer", (width, width), pixels)
        self.kept += width * pixels
        self.outer += width * pixels


def unet_activations(unet: Mapping[str, Any], side: tuple[int, int], tokens: int, fast: bool = False) -> UNetActivations:
    """A U-Net's layers for one picture of ``side`` = (width, height) in pixels and a caption of ``tokens`` tokens.

    Raises:
        KeyError, TypeError, ValueError: if the configuration is not one of Stable Diffusion's.
    """
    widths = [int(width) for width in unet["block_out_channels"]]
    cross, depths = int(unet["cross_attention_dim"]), unet.get("transformer_layers_per_block", 1)
    depths = [int(depths)] * len(widths) if isinstance(depths, int) else [int(depth) for depth in depths]
    here = UNetActivations(tokens, cross, bool(unet.get("use_linear_projection")), fast)
    each, time = int(unet.get("layers_per_block", 2)), 4 * widths[0]
    given = unet.get("num_attention_heads") or unet.get("attention_head_dim", 8)  # in these configurations the number of heads
    heads = [int(given)] * len(widths) if isinstance(given, int) else [int(count) for count in given]
    pixels = [side[0] / 8 / 2**level * (side[1] / 8 / 2**level) for level in range(len(widths))]
    here.layer("conv_in", "", (int(unet.get("in_channels", 4)), widths[0]), pixels[0], 3)
    here.layer("time_embedding.linear_1", "", (widths[0], time), 1)
    here.layer("time_embedding.linear_2", "", (time, time), 1)
    if unet.get("addition_embed_type") == "text_time":
        here.layer("add_embedding.linear_1", "", (int(unet["projection_class_embeddings_input_dim"]), time), 1)
        here.layer("add_embedding.linear_2", "", (time, time), 1)
    skips = [(widths[0], pixels[0])]
    before = widths[0]
    for level, kind in enumerate(unet["down_block_types"]):
        for number in range(each):
            here.residual(f"down_blocks.{level}.resnets.{number}", before, widths[level], time, pixels[level])
            before = widths[level]
            if "CrossAttn" in kind:
                here.transformer(f"down_blocks.{level}.attentions.{number}", before, depths[level], pixels[level], heads[level])
            skips.append((before, pixels[level]))
        if level < len(widths) - 1:
            here.layer(f"down_blocks.{level}.downsamplers.0.conv", "residual", (before, before), pixels[level + 1], 3)
            here.kept, here.outer = here.kept + before * pixels[level], here.outer + before * pixels[level]
            skips.append((before, pixels[level + 1]))
    here.skips = sum(width * many for width, many in skips)
    here.residual("mid_block.resnets.0", before, before, time, pixels[-1])
    here.transformer("mid_block.attentions.0", before, depths[-1], pixels[-1], heads[-1])
    here.residual("mid_block.resnets.1", before, before, time, pixels[-1])
    for position, kind in enumerate(unet["up_block_types"]):
        level = len(widths) - 1 - position
        for number in range(each + 1):
            skip, _ = skips.pop()
            here.residual(f"up_blocks.{position}.resnets.{number}", before + skip, widths[level], time, pixels[level])
            before = widths[level]
            if "CrossAttn" in kind:
                here.transformer(f"up_blocks.{position}.attentions.{number}", before, depths[level], pixels[level], heads[level])
        if level:
            here.layer(f"up_blocks.{position}.upsamplers.0.conv", "residual", (before, before), pixels[level - 1], 3)
            here.kept, here.outer = here.kept + before * pixels[level - 1], here.outer + before * pixels[level - 1]
    here.parameters += 2 * widths[0]
    here.layer("conv_out", "", (widths[0], int(unet.get("out_channels", 4))), pixels[0], 3)
    return here


def autoencoder(vae: Mapping[str, Any]) -> int:
    """Parameters of an AutoencoderKL."""
    widths, each = [int(width) for width in vae["block_out_channels"]], int(vae.get("layers_per_block", 2))
    latent, top = int(vae.get("latent_channels", 4)), widths[-1]

    def residual(before: int, after: int) -> int:
        return 9 * (before * after + after * after) + 4 * after + 2 * before + (before * after + after if before != after else 0)

    middle = 2 * residual(top, top) + 4 * (top * top + top) + 2 * top
    total = 9 * 3 * widths[0] + widths[0] + middle + 2 * top + 9 * top * 2 * latent + 2 * latent  # encoder
    total += 9 * latent * top + top + middle + 2 * widths[0] + 9 * widths[0] * 3 + 3  # decoder
    before = widths[0]
    for level, width in enumerate(widths):
        total += residual(before, width) + (each - 1) * residual(width, width)
        total += 9 * width * width + width if level < len(widths) - 1 else 0
        before = width
    before = top
    for level, width in enumerate(reversed(widths)):
        total += residual(before, width) + each * residual(width, width)
        total += 9 * width * width + width if level < len(widths) - 1 else 0
        before = width
    total += 4 * latent * latent + 2 * latent if vae.get("use_quant_conv", True) else 0
    return total + (latent * latent + latent if vae.get("use_post_quant_conv", True) else 0)


def text_encoder(clip: Mapping[str, Any]) -> int:
    """Parameters of a CLIP text encoder, with its projection if it has one."""
    wide, inner, layers = int(clip["hidden_size"]), int(clip["intermediate_size"]), int(clip["num_hidden_layers"])
    total = (int(clip["vocab_size"]) + int(clip.get("max_position_embeddings", 77))) * wide + 2 * wide
    total += layers * (4 * (wide * wide + wide) + 2 * wide * inner + inner + wide + 4 * wide)
    projected = "CLIPTextModelWithProjection" in (clip.get("architectures") or ())
    return total + (wide * int(clip.get("projection_dim", wide)) if projected else 0)


def _clip_modules(clip: Mapping[str, Any], part: str) -> dict[str, tuple[str, int, int, int]]:
    wide, inner = int(clip["hidden_size"]), int(clip["intermediate_size"])
    found: dict[str, tuple[str, int, int, int]] = {}
    for layer in range(int(clip["num_hidden_layers"])):
        start = f"{part}.text_model.encoder.layers.{layer}"
        found |= {f"{start}.self_attn.{name}_proj": ("text", wide, wide, 1) for name in ("q", "k", "v", "out")}
        found |= {f"{start}.mlp.fc1": ("text", wide, inner, 1), f"{start}.mlp.fc2": ("text", inner, wide, 1)}
    return {name: shape for name, shape in found.items() if TEXT.search(name)}


def adapted(
    modules: Mapping[str, tuple[str, int, int, int]], config: RunConfig, keys: ImageKeys, family: str
) -> dict[str, tuple[int, tuple[str, int, int, int]]]:
    """(rank, shape) of the modules that get a LoRA, chosen as ``targets.lora_modules`` does."""
    found: dict[str, int] = {}
    for name, (kind, _, _, kernel) in modules.items():
        if (kind == "text" and keys.text_rate(name.partition(".")[0]) != 0) or (kind == "transformer" and keys.train_unet):
            found[name] = config.lora_rank
        elif kind == "residual" and keys.train_unet and keys.conv_rank:
            found[name] = keys.conv_rank if kernel == 3 else config.lora_rank
    ranks = apply_block_ranks(readable(narrowed(found, config.lora_target), family), config.block_ranks)
    return {name: (rank, modules[name]) for name, rank in ranks.items()}


def configs(config: RunConfig, keys: ImageKeys, family: str) -> dict[str, dict[str, Any]]:
    """The configuration of every part by its folder's name; empty where one is missing or damaged."""
    place = locate(config.base_model, config.revision)
    folder = place if place.is_dir() else config_folder(place, family, keys.base_config)
    names = ["unet", "vae", *PUBLISHED[family].encoders]
    try:
        return {name: json.loads(read_text(Path(folder) / name / "config.json")) for name in names}
    except (OSError, ValueError):
        return {}


def estimate_memory(config: RunConfig, keys: ImageKeys, family: str, facts: Mapping[str, Any], device: str) -> MemoryEstimate | None:
    """What a run needs; None where the base is not built like Stable Diffusion, or is not there.

    Raises:
        ConfigError: if ``lora_target`` matches nothing.
    """
    try:
        parts = configs(config, keys, family)
    except (ConfigError, ModelError):
        return None
    try:
        return _estimate_memory(parts, config, keys, family, facts, device) if parts else None
    except (KeyError, TypeError, ValueError, IndexError, ModelError):
        return None


def _estimate_memory(
    parts: Mapping[str, dict[str, Any]], config: RunConfig, keys: ImageKeys, family: str, facts: Mapping[str, Any], device: str
) -> MemoryEstimate:
    size = 4 if config.precision == "fp32" else 2
    area = _area(keys, facts)
    side = round(area**0.5)
    longest = facts.get("max_caption_tokens", WINDOW) if keys.max_caption_tokens == "auto" else keys.max_caption_tokens
    tokens = _CONTEXT * (int(longest) // WINDOW)
    unet = unet_activations(parts["unet"], (side, side), tokens, config.precision == "fp32")
    clips = {name: clip for name, clip in parts.items() if name.startswith("text_encoder")}
    counts = {"unet": unet.parameters, "vae": autoencoder(parts["vae"]), **{name: text_encoder(clip) for name, clip in clips.items()}}
    modules = {f"unet.{name}": shape for name, shape in unet.modules.items()}
    for name, clip in clips.items() if keys.train_text_encoder else ():
        modules |= _clip_modules(clip, name)
    lora = adapted(modules, config, keys, family)
    trainable = sum(adapter_size(config, rank, shape[1], shape[2], shape[3] ** 2) for rank, shape in lora.values())
    texts = sum(counts[name] for name in clips)
    vae = 4 * counts["vae"]
    stays = keys.train_text_encoder or bool(facts.get("captions_in_step"))
    stored = held(_weights(unet), config, keys, device)
    widest = max((int(clip["vocab_size"]) * int(clip["hidden_size"]) for clip in clips.values()), default=0)
    reading, summed = encoders({name: counts[name] for name in clips}, widest, size, keys, device)
    held_now = stored.card + (size * texts if keys.train_text_encoder else reading if stays else 0) + (vae // 2 if _draws(keys) else 0)
    batch = min(config.batch_size, max(1, int(facts.get("shown_per_pass", config.batch_size))))
    activations, transient = _activations(unet, lora, config, batch, device)
    kept, worked = _weights_made(lora, config, size)
    activations, transient = activations + kept, transient + worked
    again = sum(unet.inputs.get(name.removeprefix("unet."), 0) * shape[2] * shape[3] ** 2 for name, (_, shape) in lora.items())
    if keys.train_text_encoder:
        activations += batch * tokens * sum(int(c["num_hidden_layers"]) * 24 * int(c["hidden_size"]) for c in clips.values()) * size
    views = (4 if keys.crop == "random" else 1) * (2 if keys.flip else 1)
    pictures = int(facts.get("pictures", facts.get("rows", 1)))
    context = sum(int(clip["hidden_size"]) for clip in clips.values()) * tokens * size
    examples = pictures * (views * area / 64 * 4 * 2 * 4 + (0 if keys.train_text_encoder else context))
    # The denoiser comes to the card when the encoders have left; on a CPU they lie in the same memory.
    beside = stored.card if device == "cpu" else 0
    worked_on = min(area, float(parts["vae"].get("sample_size", 512)) ** 2) if keys.vae_tiling else area  # diffusers' tiles
    phases = {
        "encoding": beside + reading + vae + 4 * _encoding(parts["vae"], area),
        "export": 2 * 4 * sum(counts.values()),
    }
    if _draws(keys):
        phases["drawing"] = (
            held_now + stored.ready + round(max(4 * _decoding(parts["vae"], worked_on), 8 * size * (unet.skips + 3 * unet.work)) + examples)
        )
    return MemoryEstimate(
        parameters=counts,
        trainable=trainable,
        weights=held_now,
        activations=round(activations + examples),
        transient=round(transient) + stored.ready + (_HOLES if device == "cpu" else 0),
        flops=2 * unet.macs * (3 if config.gradient_checkpointing else 2) + weight_copies(config) * 6 * again,
        phases=phases,
        files={"cache": round(examples), "samples": round(1.5 * area) * _drawn(keys), "merged": 4 * sum(counts.values())},
        smaller=_smaller(keys, family),
        precisions=PRECISIONS if device != "cpu" else PRECISIONS[:2],
        savings=savings(config, keys, device),
        sums=[*stored.sums, summed],
    )


def _weights(unet: UNetActivations) -> Weights:
    """What may be stored in another way: every layer of the blocks, but not what is around them."""
    matrices = convolutions = largest = 0
    for name, (_, inputs, outputs, kernel) in unet.modules.items():
        many = inputs * outputs * kernel**2
        largest = max(largest, many)
        if kernel > 1 or name.endswith((*unet.convolutions, ".conv_shortcut")):
            convolutions += many
        else:
            matrices += many
    return Weights(matrices, convolutions, unet.parameters - matrices - convolutions, largest)


def _area(keys: ImageKeys, facts: Mapping[str, Any]) -> float:
    """Pixels of the largest picture as it is trained: of the buckets at ``resolution``, and of those of pictures with one of their own."""
    shared = max((w * h for w, h, _ in facts.get("buckets", ())), default=math.inf)
    return max(min(float(keys.resolution**2), float(shared)), float(facts.get("own_area", 0)))


def _draws(keys: ImageKeys) -> bool:
    return keys.sample_prompts is None or bool(keys.sample_prompts)


def _drawn(keys: ImageKeys) -> int:
    return 4 if keys.sample_prompts is None else len(keys.sample_prompts)


def _activations(unet: UNetActivations, lora: Mapping[str, Any], config: RunConfig, batch: int, device: str) -> tuple[float, float]:
    """(bytes kept for the backward pass, bytes of the largest work beside it) of one batch."""
    full = config.precision == "fp32"
    size = 4 if full else 2
    passing = 4 if full else 3  # of what autocast leaves: norms in float32, the rest in half
    read: dict[str, float] = {}
    for name in lora:
        if name.startswith("unet."):
            (kind, inputs, outputs, _), numbers = lora[name][1], unet.inputs[name.removeprefix("unet.")]
            dora = config.lora_variant == "dora"
            plain = kind == "transformer" and not dora and config.adapter_kind == "lora"
            fast = plain and not name.endswith(unet.convolutions)
            noise = dropout_noise(config, device, fast=fast)
            again = name.endswith(_RECOMPUTED) if fast else name.endswith(unet.convolutions[:1]) and not noise and plain
            read[name] = numbers * (noise + (0 if full and again else size))
            read[name] += _DORA * size * numbers / inputs * outputs if dora else 0
    if not read:
        return 0.0, batch * size * 4 * unet.work
    if not config.gradient_checkpointing:
        return batch * (passing * unet.kept + sum(read.values())), batch * size * 8 * unet.work
    blocks: dict[str, float] = {}
    for name, amount in read.items():
        start, inside, rest = name.partition(".transformer_blocks.")
        block = f"{start}{inside}{rest.partition('.')[0]}" if inside else ""
        blocks[block] = blocks.get(block, 0.0) + amount
    outside = blocks.pop("", 0.0)
    widest = passing * unet.widest + max(blocks.values(), default=0.0)
    return batch * (passing * unet.outer + outside + widest), batch * size * 8 * unet.work


def _weights_made(lora: Mapping[str, Any], config: RunConfig, size: int) -> tuple[float, float]:
    """(bytes kept, bytes of the largest work) of the weights that LoKr and LoHa put together at each step, whatever the batch is."""
    blocks: dict[str, int] = {}
    for name, (_, (_, inputs, outputs, kernel)) in lora.items():
        block = name.partition(".transformer_blocks.")[0] if config.gradient_checkpointing else ""
        blocks[block] = blocks.get(block, 0) + inputs * outputs * kernel**2
    largest = max((inputs * outputs * kernel**2 for _, (_, inputs, outputs, kernel) in lora.values()), default=0)
    return weight_copies(config) * size * max(blocks.values(), default=0), weight_copies(config) * (4 + size) * largest


def _encoding(vae: Mapping[str, Any], area: float) -> int:
    """Numbers that encoding one picture has in memory at once: the first level works on every pixel."""
    return round(4.5 * int(vae["block_out_channels"][0]) * area)


def _decoding(vae: Mapping[str, Any], area: float) -> int:
    """Numbers that decoding one picture has in memory at once: the last level begins with the width of the one before it."""
    widths: Sequence[int] = vae["block_out_channels"]
    return round(3.5 * int(widths[min(1, len(widths) - 1)]) * area)


def _smaller(keys: ImageKeys, family: str) -> list[tuple[str, Any]]:
    """Lower resolutions, down to what the family still draws well."""
    least = PUBLISHED[family].smallest
    steps = (keys.resolution * share // 100 // keys.bucket_step * keys.bucket_step for share in (88, 75, 62, 50))
    return [("resolution", step) for step in dict.fromkeys(steps) if least <= step < keys.resolution]
