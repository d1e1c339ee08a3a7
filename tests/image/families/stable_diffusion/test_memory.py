# SPDX-License-Identifier: Apache-2.0
"""What a run needs, against what torch counts, multiplies and keeps; the rest by hand for Stable Diffusion 1.x as it was published."""

from __future__ import annotations

import json
import weakref

import pytest
from builders import everyday
from loraforge_image.families.stable_diffusion import memory
from loraforge_image.families.stable_diffusion.targets import lora_modules, readable
from loraforge_image.records import ImageKeys

from loraforge import RunConfig

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
COMMON = {"in_channels": 4, "out_channels": 4, "layers_per_block": 2}
SD15 = {**COMMON, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8,
        "down_block_types": [DOWN, DOWN, DOWN, "DownBlock2D"], "up_block_types": ["UpBlock2D", UP, UP, UP]}  # fmt: skip
SD2 = {**SD15, "cross_attention_dim": 1024, "use_linear_projection": True, "attention_head_dim": [5, 10, 20, 20]}
SDXL = {**SD2, "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048, "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20], "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816, "down_block_types": ["DownBlock2D", DOWN, DOWN],
        "up_block_types": [UP, UP, "UpBlock2D"]}  # fmt: skip
PUBLISHED = {"sd15": SD15, "sd2": SD2, "sdxl": SDXL}
# A tenth as wide, with heads of whole lanes, which are not widened.
SMALL = {**SD15, "block_out_channels": [32, 64, 96, 96], "cross_attention_dim": 32, "attention_head_dim": 2, "norm_num_groups": 4}
NARROW = {
    "sd15": SMALL,
    "sd2": {**SMALL, "use_linear_projection": True},
    "sdxl": {**SDXL, "block_out_channels": [32, 64, 96], "cross_attention_dim": 32, "attention_head_dim": [1, 2, 2], "norm_num_groups": 4,
             "transformer_layers_per_block": [1, 2, 4], "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64},
}  # fmt: skip
VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4}
CLIP = {"architectures": ["CLIPTextModel"], "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "vocab_size": 49408}
UNET_SIZE, VAE_SIZE, CLIP_SIZE = 859_520_964, 83_653_863, 123_060_480  # parameters


def unet_and_inputs(config: dict, rows: int, side: tuple[int, int], device: str = "cpu"):
    """A random U-Net and what it is called with, for pictures of (width, height)."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel.from_config(config)
        inputs = [
            torch.randn(rows, 4, side[1] // 8, side[0] // 8),
            torch.full((rows,), 20),
            torch.randn(rows, 77, config["cross_attention_dim"]),
        ]
        wide = config.get("projection_class_embeddings_input_dim", 0) - 6 * config.get("addition_time_embed_dim", 0)
        added = {"text_embeds": torch.randn(rows, wide), "time_ids": torch.ones(rows, 6)} if wide else None
    return unet, lambda: unet(*inputs, added_cond_kwargs=added).sample


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_multiplications_are_those_that_torch_counts(family):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    unet, call = unet_and_inputs(PUBLISHED[family], 1, (512, 768), "meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    found = memory.unet_activations(PUBLISHED[family], (512, 768), 77)
    assert found.parameters == sum(p.numel() for p in unet.parameters())
    assert 2 * found.macs == pytest.approx(counter.get_total_flops(), rel=1e-3)


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("quant", [(True, True), (False, True), (True, False)])
def test_the_parameters_of_an_autoencoder_are_those_that_diffusers_makes(quant, each):
    import torch
    from diffusers import AutoencoderKL

    config = {"block_out_channels": [4, 8, 8], "layers_per_block": each, "latent_channels": 6, "norm_num_groups": 2}
    config |= {"use_quant_conv": quant[0], "use_post_quant_conv": quant[1]}
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    with torch.device("meta"):
        made = AutoencoderKL(**config, **blocks)
    assert memory.autoencoder(config) == sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPTextModelWithProjection"])
@pytest.mark.parametrize("more", [{}, {"max_position_embeddings": 50, "projection_dim": 6}], ids=str)
def test_the_parameters_of_a_text_encoder_are_those_that_transformers_makes(kind, more):
    import torch
    import transformers

    sizes = {"hidden_size": 8, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 30}
    with torch.device("meta"):
        made = getattr(transformers, kind)(transformers.CLIPTextConfig(**{"projection_dim": 8, **sizes, **more}))
    assert memory.text_encoder({"architectures": [kind], **sizes, **more}) == sum(p.numel() for p in made.parameters())


class Kept:
    """A tensor that a gradient waits for; gone with the gradient."""

    def __init__(self, tensor) -> None:
        self.tensor = tensor


# What is said, of what is kept. Half precision is counted with all that autocast has in float32; with checkpointing the widest block, which
# is made again, is not there yet.
KEPT = [
    ({}, 1.02, 1.1),
    ({"conv_rank": 2}, 1.03, 1.1),
    ({"lora_dropout": 0.1}, 0.97, 1.09),
    ({"lora_target": "attention"}, 1.05, 1.1),
    ({"lora_variant": "dora", "conv_rank": 2}, 1.04, 1.1),
    ({"lora_variant": "dora", "lora_dropout": 0.1}, 0.95, 1.05),
    ({"precision": "bf16"}, 1.7, 1.9),
    ({"gradient_checkpointing": True}, 1.4, 1.6),
]


@pytest.mark.parametrize("family", NARROW)
@pytest.mark.parametrize(("values", "least", "most"), everyday(KEPT, 1, 4, 6, 7), ids=str)
def test_what_is_kept_for_the_gradient_is_what_torch_keeps(family, values, least, most, monkeypatch):
    import torch
    from loraforge_image.kernels import replace

    from loraforge.adapters import lora
    from loraforge.kernels import frozen

    monkeypatch.setattr(frozen, "onednn_is_faster", lambda: False)
    keys = ImageKeys(conv_rank=values.get("conv_rank", 0))
    shared = {name: value for name, value in values.items() if name != "conv_rank"}
    config = RunConfig(**{"train_data_dir": "x", "base_model": "y", "lora_rank": 4, "precision": "fp32", "lora_dropout": 0.0, **shared})
    full = config.precision == "fp32"
    counted = memory.unet_activations(NARROW[family], (128, 128), 77, full)
    modules = {f"unet.{name}": shape for name, shape in counted.modules.items()}
    said, _ = memory._activations(counted, memory.adapted(modules, config, keys, family), config, 2, "cpu")
    unet, call = unet_and_inputs(NARROW[family], 2, (128, 128))
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    network = torch.nn.ModuleDict({"unet": unet}).requires_grad_(False)
    lora.inject(network, config, modules=readable(lora_modules(network, config, keys), family))
    replace(unet)
    unet.to(torch.float32 if full else torch.bfloat16).train()
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = weakref.WeakSet()

    def pack(tensor) -> Kept:
        box = Kept(tensor)
        kept.add(box)
        return box

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=not full),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor),
    ):
        out = call()
    found = {box.tensor.untyped_storage().data_ptr(): box.tensor.untyped_storage().nbytes() for box in kept}
    measured = sum(size for place, size in found.items() if place not in own)
    assert out.requires_grad
    assert least < said / measured < most, (said, measured, said / measured)


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_what_learns_is_what_has_a_gradient(variant):
    import torch

    from loraforge.adapters import lora

    keys = ImageKeys(conv_rank=2)
    config = RunConfig(train_data_dir="x", base_model="y", lora_rank=4, precision="fp32", lora_variant=variant)
    parts = {"unet": SMALL, "vae": VAE, "text_encoder": CLIP}
    found = memory._estimate_memory(parts, config, keys, "sd15", {}, "cpu")
    unet, _ = unet_and_inputs(SMALL, 1, (64, 64))
    network = torch.nn.ModuleDict({"unet": unet}).requires_grad_(False)
    lora.inject(network, config, modules=readable(lora_modules(network, config, keys), "sd15"))
    assert found.trainable == sum(p.numel() for p in network.parameters() if p.requires_grad)


# --- by hand -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def needed(tmp_path):
    """``needed(facts, device, batch_size=..., flip=...)``: of Stable Diffusion 1.x, whose weights are not there."""
    for name, config in (("unet", SD15), ("vae", VAE), ("text_encoder", CLIP)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def make(facts=None, device="cpu", **values):
        own = {name: value for name, value in values.items() if name in ImageKeys.model_fields}
        shared = {name: value for name, value in values.items() if name not in own}
        config = RunConfig(**{"train_data_dir": "x", "base_model": str(tmp_path), "precision": "fp32", "batch_size": 1, **shared})
        return memory.estimate_memory(config, ImageKeys(**own), "sd15", {"pictures": 10} if facts is None else facts, device)

    return make


@pytest.mark.parametrize(("fast", "wider", "gate"), [(False, 1, 12), (True, 2, 8)])  # heads of 8 in lanes of 16
def test_a_transformer_layer_by_layer(fast, wider, gate):
    """Two blocks, 32 wide, four heads, 50 places, a caption of 7 tokens that are 5 wide."""
    here = memory.UNetActivations(7, 5, linear=False, fast=fast)
    here.transformer("t", 32, 2, 50.0, 4)
    square, side = 32 * 32, 50 * 32
    attention = 4 * square + 32 + 2 * square + 2 * 5 * 32 + 32  # only what comes out has a bias
    assert here.parameters == 2 * (square + 32) + 2 * 32 + 2 * (attention + 6 * 32 + 8 * square + 8 * 32 + 4 * square + 32)
    products = 50 * (4 * square + 2 * square + 12 * square) + 2 * 7 * 5 * 32 + 2 * 50 * (50 + 7) * 32
    assert here.macs == 2 * 50 * square + 2 * products
    block = (3 + 6 * wider + gate) * side + 2 * 7 * 32  # norms; q, k, v and result, q and result; gate; the caption's k and v
    assert (here.kept, here.outer, here.widest, here.work) == (2 * block + side, 3 * side, block, 50 * 9 * 32)
    first = "t.transformer_blocks.1"
    assert here.inputs[f"{first}.attn2.to_k"] == 7 * 5 and here.inputs[f"{first}.ff.net.2"] == 4 * side and len(here.inputs) == 22
    assert here.modules[f"{first}.attn2.to_v"] == ("transformer", 5, 32, 1) and here.convolutions == (".proj_in", ".proj_out")
    assert memory.UNetActivations(7, 5, linear=True, fast=fast).convolutions == ()


@pytest.mark.parametrize(("fast", "times"), [(False, 3), (True, 1)])
@pytest.mark.parametrize(("after", "shortcut"), [(6, 4 * 6 + 6), (4, 0)])
def test_a_residual_block_layer_by_layer(fast, times, after, shortcut):
    """4 wide before it, 10 of the time, 50 places."""
    here = memory.UNetActivations(7, 5, linear=False, fast=fast)
    here.residual("r", 4, after, 10, 50.0)
    convolutions = 9 * 4 * after + 9 * after * after
    assert here.parameters == 2 * 4 + 2 * after + convolutions + 2 * after + 10 * after + after + shortcut
    assert here.macs == 50 * (convolutions + 4 * after * bool(shortcut)) + 10 * after
    kept = times * (4 + after) * 50
    assert (here.kept, here.outer, here.widest, here.work) == (kept, 4 * 50, kept, 2 * after * 50)
    assert here.modules["r.conv1"] == ("residual", 4, after, 3) and here.modules["r.time_emb_proj"] == ("residual", 10, after, 1)
    assert here.inputs["r.conv2"] == after * 50 and here.inputs["r.time_emb_proj"] == 10 and len(here.inputs) == 3 + bool(shortcut)
    here.residual("s", 4, 4, 10, 5.0)
    assert (here.widest, here.work) == (kept, 2 * after * 50)  # of the largest


AREA = 512 * 512
LARGEST = 320 + 8 * 320  # of all layers the gate's, at every latent: what goes in and comes out
LATENTS, CAPTION = AREA // 64 * 4 * 2 * 4, 77 * 768  # bytes of one view, mean and deviation; numbers of one window


def test_weights_and_files(needed):
    plain, silent, half = needed(), needed(sample_prompts=[]), needed(precision="bf16")
    assert plain.parameters == {"unet": UNET_SIZE, "vae": VAE_SIZE, "text_encoder": CLIP_SIZE}
    everything = UNET_SIZE + VAE_SIZE + CLIP_SIZE
    assert silent.weights == 4 * UNET_SIZE and plain.weights == silent.weights + 2 * VAE_SIZE  # the decoder, about half of it
    assert half.weights == 2 * UNET_SIZE + 2 * VAE_SIZE  # which stays in float32
    assert needed(train_text_encoder=True).weights == plain.weights + 4 * CLIP_SIZE
    assert plain.files == {"cache": 10 * (LATENTS + 4 * CAPTION), "samples": 4 * 3 * AREA // 2, "merged": 4 * everything}
    assert silent.files["samples"] == 0 and needed(sample_prompts=["a"]).files["samples"] == 3 * AREA // 2
    assert half.files["cache"] == 10 * (LATENTS + 2 * CAPTION)
    assert needed(flip=True, crop="random").files["cache"] == 10 * (8 * LATENTS + 4 * CAPTION)
    assert needed(max_caption_tokens=225).files["cache"] == 10 * (LATENTS + 3 * 4 * CAPTION)
    assert needed(train_text_encoder=True).files["cache"] == 10 * LATENTS
    assert needed({"rows": 3}).files["cache"] == 3 * (LATENTS + 4 * CAPTION)


def test_captions_that_are_put_together_in_the_step_keep_the_text_encoders(needed):
    few, many = needed({"pictures": 10}), needed({"pictures": 10, "captions_in_step": True})
    assert many.weights == few.weights + 4 * CLIP_SIZE
    assert needed({"pictures": 10, "max_caption_tokens": 225}).files["cache"] == 10 * (LATENTS + 3 * 4 * CAPTION)
    assert needed({"pictures": 10, "max_caption_tokens": 75}, max_caption_tokens=150).files["cache"] == 10 * (LATENTS + 2 * 4 * CAPTION)
    large = needed({"pictures": 10, "buckets": [[512, 512, 3]], "own_area": 1024**2}, resolution=512)
    assert large.activations > 3 * needed({"pictures": 10, "buckets": [[512, 512, 3]]}, resolution=512).activations


def test_phases(needed):
    """Numbers of the autoencoder at work, as they were measured: 4.5 times its first level, 3.5 times the next."""
    plain, silent = needed(), needed(sample_prompts=[])
    assert plain.phases["encoding"] == 4 * (UNET_SIZE + CLIP_SIZE + VAE_SIZE) + 4 * round(4.5 * 128 * AREA)
    assert plain.phases["export"] == 8 * (UNET_SIZE + CLIP_SIZE + VAE_SIZE) == silent.phases["export"]
    # Connections across the U-Net, in widths at every latent: 3 x 320, 320 / 4, 2 x 640 / 4, ...; and three times its largest layer.
    unet = 8 * 4 * (1620 + 3 * LARGEST) * (AREA // 64)
    assert plain.phases["drawing"] == plain.weights + unet + plain.files["cache"]
    assert set(silent.phases) == {"encoding", "export"}
    for widths, second in (([128, 2048, 8], 2048), ([2048], 2048)):
        wide = memory._estimate_memory(
            {"unet": SD15, "vae": {**VAE, "block_out_channels": widths}, "text_encoder": CLIP},
            RunConfig(train_data_dir="x", base_model="y", precision="fp32"), ImageKeys(), "sd15", {"pictures": 0}, "cpu",
        )  # fmt: skip
        assert wide.phases["drawing"] == wide.weights + 4 * round(3.5 * second * AREA)  # where the autoencoder is the larger one


def test_what_a_batch_needs(needed):
    def step(**values):
        found = needed(values.pop("facts", None), values.pop("device", "cpu"), sample_prompts=[], **values)
        return found.activations - found.files["cache"], found.transient

    holes = 40_000_000
    work = step()[1] - holes
    assert work == 4 * 8 * LARGEST * (AREA // 64)
    assert step(batch_size=3) == (pytest.approx(3 * step()[0], abs=3), 3 * work + holes)
    assert step(batch_size=3, facts={"pictures": 10, "shown_per_pass": 2}) == step(batch_size=2)  # no more than there are
    assert step(batch_size=3, facts={"pictures": 10, "shown_per_pass": 0})[1] == work + holes
    assert step(device="cuda")[1] == work
    assert step(precision="bf16")[1] == work // 2 + holes
    assert step(train_unet=False, train_text_encoder=True)[1] == work // 2 + holes
    text = step(train_text_encoder=True)[0] - step()[0]
    assert text == 77 * 12 * 24 * 768 * 4
    both, alone = (needed(train_text_encoder=on, lora_rank=2).trainable for on in (True, False))
    assert both - alone == 12 * 2 * (4 * (768 + 768) + 2 * (768 + 3072))  # q, k, v, out; both layers of the feed-forward
    small, large = step(facts={"pictures": 10, "buckets": [[256, 256, 3], [128, 128, 1]]}), step(resolution=256)
    assert small == large and step(facts={"pictures": 10, "buckets": [[1024, 1024, 3]]}) == step()  # nor larger than asked for
    assert needed(gradient_checkpointing=True).flops * 2 == needed().flops * 3


def test_smaller_pictures_are_proposed_down_to_what_the_family_draws_well(needed):
    assert needed().smaller == [("resolution", 448), ("resolution", 384)]
    assert needed(resolution=448, bucket_step=32).smaller == [("resolution", 384)]
    assert needed(resolution=384).smaller == []
    assert memory._smaller(ImageKeys(resolution=1024), "sdxl") == [("resolution", 896), ("resolution", 768)]
    assert needed().precisions == ("fp32", "bf16")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("content", [None, "{", "{}", '{"block_out_channels": "x"}'])
def test_what_is_not_built_like_stable_diffusion_is_not_estimated(part, content, needed, tmp_path):
    file = tmp_path / part / "config.json"
    if content is None:
        file.unlink()
    else:
        file.write_text(content, encoding="utf-8")
    assert needed() is None
