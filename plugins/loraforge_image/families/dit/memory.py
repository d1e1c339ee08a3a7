# SPDX-License-Identifier: Apache-2.0
"""What training a transformer needs, from configurations and the headers of files alone: parameters, bytes, operations. Without torch.

Each family walks through its layers as diffusers builds them (``TransformerFamily.walk``); encoders and autoencoders are counted by the
headers of their files, or by the list of their shards where only that has been fetched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import MemoryEstimate, ModelError, RunConfig, adapter_size, apply_block_ranks, dropout_noise, weight_copies

from ...records import ImageKeys
from ..base_files import header, part_config, read_config
from ..fitting.sizes import PRECISIONS, Weights, encoders, held, savings
from ..stable_diffusion.memory import autoencoder, text_encoder
from ..targets import narrowed

if TYPE_CHECKING:
    from .family import TransformerFamily

_PATCH = 16  # pixels of one token, each way
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_HOLES = 40_000_000  # what an allocator keeps between tensors
# Millions of parameters of published parts by class and width, where only the configuration of a part in one file has been fetched.
_PUBLISHED = {
    ("AutoencoderKLFlux2", 128): 84.0,
    ("AutoencoderKLQwenImage", 96): 126.9,
    ("T5EncoderModel", 4096): 4762.3,
    ("Qwen3Model", 2560): 4022.5,
    ("Qwen3ForCausalLM", 2560): 4022.5,
    ("Qwen3ForCausalLM", 4096): 8190.7,
    ("Qwen2_5_VLForConditionalGeneration", 3584): 8292.2,
    ("Mistral3ForConditionalGeneration", 5120): 24011.4,
}


class Walk:
    """Counts while a family goes through its transformer: for one picture.

    Args:
        image, text: tokens of the picture and of its caption.

    Attributes:
        block: the block that is gone through; empty before and behind them. Gradient checkpointing keeps a block's input alone.
        parameters, macs: of all layers, and multiplications of one forward pass.
        modules: (inputs, outputs, tokens) of the blocks' linear layers by path.
        kept: numbers that stay for the backward pass by block, without the inputs of LoRAs.
        outer: numbers that stay with gradient checkpointing.
    """

    def __init__(self, image: int, text: int) -> None:
        self.image, self.text, self.block = image, text, ""
        self.parameters, self.macs, self.outer, self.work = 0, 0.0, 0.0, 0.0
        self.modules: dict[str, tuple[int, int, int]] = {}
        self.kept: dict[str, float] = {}

    def linear(self, name: str, inputs: int, outputs: int, tokens: int, *, bias: bool = True) -> None:
        """A linear layer; ``name`` is its path inside the block."""
        self.parameters += inputs * outputs + (outputs if bias else 0)
        self.macs += float(inputs) * outputs * tokens
        self.work = max(self.work, float(inputs + outputs) * tokens)
        if self.block:
            self.modules[f"{self.block}.{name}"] = (inputs, outputs, tokens)

    def own(self, numbers: int) -> None:
        """Parameters of norms and the like."""
        self.parameters += numbers

    def attention(self, tokens: int, width: int) -> None:
        """Scaled dot products of all tokens with all."""
        self.macs += 2.0 * tokens * tokens * width

    def enter(self, block: str, inputs: float) -> None:
        """A block begins, whose input has so many numbers; nothing: it is none."""
        self.block = block
        self.outer += inputs

    def keep(self, numbers: float) -> None:
        """Numbers that stay for the backward pass."""
        self.kept[self.block] = self.kept.get(self.block, 0.0) + numbers


def part_size(folder: Path, name: str) -> int:
    """Parameters of a part: by the headers of its files, by the list of its shards, by its configuration, or as it was published; 0 where
    none is known.

    Raises:
        ModelError: if a file is damaged.
    """
    place = folder / name
    files = [file for file in place.glob("*.safetensors") if ".fp16" not in file.name] or list(place.glob("*.safetensors"))
    if files:
        shapes = [one["shape"] for file in files for key, one in header(file).items() if key != "__metadata__" and isinstance(one, dict)]
        return sum(math.prod(shape) for shape in shapes)
    config = read_config(place / "config.json")
    for index in place.glob("*.safetensors.index.json"):
        said = read_config(index).get("metadata")
        total = said.get("total_size") if isinstance(said, dict) else None
        if isinstance(total, int) and total > 0:
            return total // _BYTES.get(str(config.get("torch_dtype") or config.get("dtype")), 2)
    if config.get("_class_name") == "AutoencoderKL":
        return autoencoder(config)
    if config.get("model_type") == "clip_text_model":
        return text_encoder(config)
    return round(1e6 * _PUBLISHED.get((_class(config), _width(config)), 0))


def _class(config: Mapping[str, Any]) -> str:
    """The class of a part, of diffusers or of transformers."""
    made = config.get("architectures")
    return str(config.get("_class_name") or (made[0] if isinstance(made, list) and made else ""))


def _width(config: Mapping[str, Any]) -> int:
    """Numbers of a token, or the channels of an autoencoder at the full resolution."""
    inner = config.get("text_config")
    for one in (config, inner if isinstance(inner, dict) else {}):
        found = one.get("hidden_size") or one.get("d_model") or one.get("base_dim")
        if isinstance(found, int):
            return found
    widths = config.get("block_out_channels")
    return int(widths[0]) if isinstance(widths, list) and widths else 0


def estimate_memory(
    family: TransformerFamily, folder: Path, config: RunConfig, keys: ImageKeys, facts: Mapping[str, Any], device: str
) -> MemoryEstimate | None:
    """What a run needs; None where the base is not built like its family.

    Args:
        folder: with the configurations of all parts.
        device: cpu or cuda.

    Raises:
        ConfigError: if ``lora_target`` matches nothing.
    """
    area, text = largest_area(keys, facts), int(facts.get("caption_tokens", family.text_tokens[1]))
    walk = Walk(round(area / _PATCH**2), text)
    try:
        family.walk(part_config(folder / "transformer" / "config.json"), walk)
        vae = read_config(folder / "vae" / "config.json")
        names = sorted(p.parent.name for p in folder.glob("text_encoder*/config.json"))
        counts = {"transformer": walk.parameters, "vae": part_size(folder, "vae"), **{name: part_size(folder, name) for name in names}}
        width = _first_width(vae)
    except (KeyError, TypeError, ValueError, IndexError, ModelError):
        return None
    size = 4 if config.precision == "fp32" else 2
    ranks = adapted(walk, config, family)
    trainable = sum(adapter_size(config, rank, *walk.modules[name][:2]) for name, rank in ranks.items())
    encoder = 4 * counts["vae"]
    stays = bool(facts.get("captions_in_step"))
    draws = keys.sample_prompts is None or bool(keys.sample_prompts)
    matrices = [inputs * outputs for inputs, outputs, _ in walk.modules.values()]
    stored = held(Weights(sum(matrices), 0, walk.parameters - sum(matrices), max(matrices, default=0)), config, keys, device)
    reading, summed = encoders({name: counts[name] for name in names}, _widest(folder, names), size, keys, device)
    there = stored.card + (reading if stays else 0) + (encoder // 2 if draws else 0)
    batch = min(config.batch_size, max(1, int(facts.get("shown_per_pass", config.batch_size))))
    activations, transient = activation_bytes(walk, ranks, config, batch, device)
    views = (4 if keys.crop == "random" else 1) * (2 if keys.flip else 1)
    pictures = int(facts.get("pictures", facts.get("rows", 1)))
    latents = views * area / 64 * _latent_channels(vae) * 2 * 4
    examples = pictures * latents + int(facts.get("texts", pictures)) * text * family.text_width(read_all(folder)) * size
    phases = {
        # The transformer comes to the card when the encoders have left; on a CPU they lie in the same memory.
        "encoding": (stored.card if device == "cpu" else 0) + reading + encoder + round(4 * 4.5 * width * area),
        "export": 2 * 4 * sum(counts.values()),
    }
    if draws:
        phases["drawing"] = there + stored.ready + round(max(4 * 7 * width * _tile(vae, keys, area), 4 * size * 2 * walk.work) + examples)
    again = sum(walk.modules[name][0] * walk.modules[name][1] for name in ranks)
    return MemoryEstimate(
        parameters=counts,
        trainable=trainable,
        weights=there,
        activations=round(activations + examples),
        transient=round(transient) + stored.ready + _HOLES,
        flops=2 * walk.macs * (3 if config.gradient_checkpointing else 2) + weight_copies(config) * 6 * again,
        phases=phases,
        files={
            "cache": round(examples),
            "samples": round(1.5 * area) * (4 if keys.sample_prompts is None else len(keys.sample_prompts)),
            "merged": 4 * sum(counts.values()),
        },
        smaller=_smaller(keys, family.smallest),
        precisions=PRECISIONS if device != "cpu" else PRECISIONS[:2],
        savings=savings(config, keys, device),
        sums=[*stored.sums, summed],
    )


def _widest(folder: Path, names: Sequence[str]) -> int:
    """Numbers of the largest table of words of the text encoders, which does not wait in main memory."""
    found = [0]
    for name in names:
        config = read_config(folder / name / "config.json")
        inner = config.get("text_config")
        head = _class(config).endswith(("ForCausalLM", "ForConditionalGeneration")) and not config.get("tie_word_embeddings", True)
        config = {**config, **inner} if isinstance(inner, dict) else config
        table = int(config.get("vocab_size") or 0) * int(config.get("hidden_size") or config.get("d_model") or 0)
        found.append(2 * table if head else table)  # the head is another table, and no block either
    return max(found)


def adapted(walk: Walk, config: RunConfig, family: TransformerFamily) -> dict[str, int]:
    """The rank of every layer that gets a LoRA, by its path in the transformer: those that ``ImageBase.targets`` chooses."""
    offered = re.compile(family.base.layers)
    found = {f"transformer.{name}": config.lora_rank for name in walk.modules if offered.search(name)}
    ranks = apply_block_ranks(narrowed(found, config.lora_target), config.block_ranks)
    return {name.removeprefix("transformer."): rank for name, rank in ranks.items()}


def activation_bytes(walk: Walk, ranks: Mapping[str, int], config: RunConfig, batch: int, device: str) -> tuple[float, float]:
    """(bytes kept for the backward pass, bytes of the largest work beside it) of one batch.

    A LoRA keeps what it reads; layers that read the same share it only where nothing changes it on the way: in float32 and without dropout.
    """
    size = 4 if config.precision == "fp32" else 2
    noise = dropout_noise(config, device, fast=config.kernels == "auto")
    blocks = {name: size * numbers for name, numbers in walk.kept.items()}
    for name, rank in ranks.items():
        inputs, outputs, tokens = walk.modules[name]
        block = next((one for one in blocks if one and name.startswith(f"{one}.")), "")
        read = tokens * (inputs * (noise + size) + rank * 4)
        read += 2 * size * tokens * outputs if config.lora_variant == "dora" else 0
        read += weight_copies(config) * size * inputs * outputs / batch
        blocks[block] = blocks.get(block, 0.0) + read
    outside = blocks.pop("", 0.0)
    work = batch * size * 4 * walk.work
    if config.gradient_checkpointing:
        return batch * (size * walk.outer + outside + max(blocks.values(), default=0.0)), work
    return batch * (outside + sum(blocks.values())), work


def largest_area(keys: ImageKeys, facts: Mapping[str, Any]) -> float:
    """Pixels of the largest picture as it is trained."""
    shared = max((w * h for w, h, _ in facts.get("buckets", ())), default=math.inf)
    return max(min(float(keys.resolution**2), float(shared)), float(facts.get("own_area", 0)))


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
    """The configuration of every part by its folder's name."""
    return {place.parent.name: read_config(place) for place in folder.glob("*/config.json")}


def _first_width(vae: Mapping[str, Any]) -> int:
    """Channels of an autoencoder at the full resolution, where its memory is needed."""
    widths = vae.get("block_out_channels")
    return int(widths[0]) if isinstance(widths, list) else int(vae["base_dim"])


def _tile(vae: Mapping[str, Any], keys: ImageKeys, area: float) -> float:
    """Pixels that the autoencoder decodes at once."""
    side = 256 if "base_dim" in vae else int(vae.get("sample_size") or 512)
    return min(area, float(side * side)) if keys.vae_tiling else area


def _latent_channels(vae: Mapping[str, Any]) -> int:
    return int(vae.get("latent_channels") or vae.get("z_dim") or 16)


def _smaller(keys: ImageKeys, least: int) -> list[tuple[str, Any]]:
    """Lower resolutions, down to what the family still draws well."""
    steps = (keys.resolution * share // 100 // keys.bucket_step * keys.bucket_step for share in (88, 75, 62, 50))
    return [("resolution", step) for step in dict.fromkeys(steps) if least <= step < keys.resolution]
