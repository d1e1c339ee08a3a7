# SPDX-License-Identifier: Apache-2.0
"""What FLUX.1, FLUX.2 klein and Chroma do beyond the test of a family: guidance, lengths of captions, levels, latents, distilled bases."""

from __future__ import annotations

import math

import pytest
from builders.dit import chroma, flux1, flux2
from loraforge_image.families.dit.single_file import Layout
from loraforge_image.records import ImageKeys

from loraforge import RunConfig

MADE = {"dev": flux1, "schnell": flux1, "klein": flux2, "klein distilled": flux2, "chroma": chroma}
OPTIONS = {"schnell": {"schnell": True}, "klein distilled": {"distilled": True}}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """``loaded(kind)``: (family, base, folder), each made once."""
    made: dict = {}

    def get(kind):
        if kind not in made:
            folder = MADE[kind].make(tmp_path_factory.mktemp("flux") / "base", **OPTIONS.get(kind, {}))
            family = MADE[kind].CASE.family()
            made[kind] = (family, family.load_base(RunConfig(train_data_dir="x", base_model=str(folder), precision="fp32"), {}), folder)
        return made[kind]

    return get


@pytest.mark.parametrize(
    ("kind", "words", "usual", "guided"),
    [
        ("dev", 512, (28, 3.5), False), ("schnell", 256, (4, 1.0), False), ("klein", 512, (50, 4.0), True),
        ("klein distilled", 512, (4, 1.0), False),
    ],
)  # fmt: skip
def test_captions_have_a_fixed_length_where_padding_is_read(kind, words, usual, guided, loaded):
    import torch

    _, base, _ = loaded(kind)
    with torch.no_grad():
        short, long = base.embed("a"), base.embed("a " * 600)
    assert short["context"].shape == long["context"].shape == (words, base.denoiser.config.joint_attention_dim)
    assert (base.usual_steps, base.usual_cfg) == usual and base.guided == guided


@pytest.mark.parametrize(("kind", "size"), [("schnell", (64, 96)), ("klein distilled", (96, 64))])
def test_distilled_bases_draw_what_diffusers_draws(kind, size, loaded):
    from loraforge_image.testing import check_drawing

    _, base, _ = loaded(kind)
    case = MADE[kind].CASE
    options = {"options": {"max_sequence_length": 256}} if kind == "schnell" else {}
    check_drawing(base, cfg=1.0, steps=2, tolerance=1e-5, unpack=case.drawing["unpack"], **options)


def test_what_dev_and_schnell_read_is_not_taken_for_each_other(loaded):
    """The encoders are the same, but not the length."""
    assert [loaded(kind)[1].embed_key("a")["words"] for kind in ("dev", "schnell")] == [512, 256]


def test_dev_is_told_a_guidance_of_1_in_training_and_that_of_the_picture_in_drawing(loaded, monkeypatch):
    import torch
    from loraforge_image.families.drawing import draw

    _, base, _ = loaded("dev")
    told = []
    forward = base.denoiser.forward

    def listen(*args, **given):
        told.append(given["guidance"].tolist())
        return forward(*args, **given)

    monkeypatch.setattr(base.denoiser, "forward", listen)
    with torch.no_grad():
        words = base.condition(["a", "b"])
        base.predict(torch.zeros(2, 16, 4, 4), torch.tensor([0.1, 0.2]), words, {})
        draw(base, torch.device("cpu"), words, [1, 2], (32, 32), steps=1, cfg=2.5)
        base.predict(torch.zeros(2, 16, 4, 4), torch.tensor([0.1, 0.2]), words, {})
    assert told == [[1.0, 1.0], [2.5, 2.5], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("kind", "shift"),
    [
        ("dev", lambda tokens: math.exp(0.5 + 0.65 * (tokens - 256) / 3840)), ("schnell", lambda tokens: 1.0), ("chroma", lambda tokens: 1.0),
        ("klein", lambda tokens: math.exp(0.5 + 0.65 * (tokens - 256) / 3840)),
    ],
)  # fmt: skip
def test_levels_are_drawn_with_the_published_shift(kind, shift, loaded):
    """A quarter of them lies below the shifted quartile of the logistic of a normal number."""
    from scipy import special, stats

    _, base, _ = loaded(kind)
    plain = float(special.expit(stats.norm.ppf(0.25)))
    for side in (512, 1024):
        tokens = base.tokens(base.latent_shape(side, side))
        assert tokens == (side // 16) ** 2
        k = shift(tokens)
        assert base.objective.level(0.25, tokens) == pytest.approx(k * plain / (1 + (k - 1) * plain))


def test_latents_of_klein_are_those_of_its_pipeline(loaded):
    import torch

    _, base, _ = loaded("klein")
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        mean, deviation = base.encode(pixels)
        theirs = base.pipe._encode_vae_image(pixels, None)
        decoded = base.decode(theirs)
        right = base.pipe.vae.decode(base.pipe.vae.encode(pixels).latent_dist.mode()).sample
    assert mean.shape == base.latent_shape(96, 64) == (16, 4, 6) and not deviation.any()
    torch.testing.assert_close(mean[None], theirs)
    torch.testing.assert_close(decoded, right, rtol=1e-3, atol=1e-5)


def test_chroma_reads_one_token_of_padding_and_no_more(loaded):
    """As its pipeline embeds them, up to where the pipeline's mask ends."""
    import torch

    _, base, _ = loaded("chroma")
    with torch.no_grad():
        rows = [base.embed(caption) for caption in ("a", "a wall", "a " * 600)]
        context, mask = chroma.masked(base.pipe, ["a"])
    ends = [len(base.pipe.tokenizer(caption).input_ids) for caption in ("a", "a wall")]
    assert [len(row["context"]) for row in rows] == [ends[0] + 1, ends[1] + 1, 512] and int(mask.sum()) == ends[0] + 1
    torch.testing.assert_close(rows[0]["context"], context[0, : ends[0] + 1])


def test_distilled_bases_are_told_of(loaded):
    def said(kind, **keys):
        family, _, folder = loaded(kind)
        return " ".join(family.remarks(RunConfig(train_data_dir="x", base_model=str(folder)), ImageKeys(**keys)))

    assert said("dev", sample_cfg=2.0) == said("klein", sample_cfg=2.0) == ""
    assert "is FLUX.1 schnell, which was distilled" in said("schnell") and "sample_cfg" not in said("schnell")
    assert said("schnell", assistant_adapter="x") == "" and "is FLUX.1 dev; a training adapter" in said("dev", assistant_adapter="x")
    assert "Train on FLUX.2-klein-base of the same size" in said("klein distilled")
    names = {"flux-2-klein-4b": True, "flux-2-klein-base-4b": False, "FLUX.2_klein_9B-fp8": True, "my-klein-style": False}
    assert {name: MADE["klein"].CASE.family().called_distilled(f"{name}.safetensors") for name in names} == names
    assert all("sample_cfg changes nothing" in said(kind, sample_cfg=2.0) for kind in ("schnell", "klein distilled"))


def test_captions_that_are_cut_are_named_with_their_tokens(loaded):
    """As many tokens as the tokenizer makes of them, against what the network reads."""
    from loraforge_image.records import Picture

    from loraforge import Span

    rows = [(Picture(where=f"{n}.png", path=f"{n}.png", caption="a" * n, sha256=str(n)), [Span("a" * n, True)]) for n in (9, 600)]
    for kind, most in (("dev", 511), ("schnell", 255), ("klein", 500), ("chroma", 511)):
        family, base, folder = loaded(kind)
        tokenizer = base.pipe.tokenizer_2 if kind in ("dev", "schnell") else base.pipe.tokenizer
        _, lines = family.examine_captions(RunConfig(train_data_dir="x", base_model=str(folder)), ImageKeys(), rows)
        assert lines == [f"1 caption is cut at {most} tokens: 600.png ({len(tokenizer('a' * 600, add_special_tokens=False).input_ids)})"]
    asked = base_template(loaded("klein")[1])
    assert len(asked) == 512 - 500


def base_template(base) -> list[int]:
    """What stands around an empty caption, as the real template has it: its words are one token each there."""
    import re

    text = base.pipe.tokenizer.apply_chat_template(
        [{"role": "user", "content": ""}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return re.findall(r"<[^>]+>|\w+|\n\n|\n", text)


# Of the original models, as the files in circulation have them, where diffusers' converters take the real width alone.
DOUBLE = (
    [f"{side}_{part}" for side in ("img", "txt") for part in ("attn.qkv", "attn.proj", "mlp.0", "mlp.2")],
    [f"{side}_attn.norm.{part}_norm.scale" for side in ("img", "txt") for part in ("query", "key")],
)


def original_names(guidance: bool, chroma: bool) -> dict:
    """(rows, columns) of the tensors of a FLUX.1 or a Chroma with one block of each kind, of the real width."""
    wide = 3072
    shapes = {
        "img_in": (wide, 64), "txt_in": (wide, 4096), "final_layer.linear": (64, wide), "single_blocks.0.linear1": (7 * wide, wide),
        "single_blocks.0.linear2": (wide, 5 * wide),
    }  # fmt: skip
    sizes = {"attn.qkv": (3 * wide, wide), "attn.proj": (wide, wide), "mlp.0": (4 * wide, wide), "mlp.2": (wide, 4 * wide)}
    shapes |= {f"double_blocks.0.{name}": sizes[name.partition("_")[2]] for name in DOUBLE[0]}
    if chroma:
        shapes |= {"distilled_guidance_layer.in_proj": (5120, 64), "distilled_guidance_layer.out_proj": (wide, 5120)}
        for layer in range(5):
            shapes |= {f"distilled_guidance_layer.layers.{layer}.{part}_layer": (5120, 5120) for part in ("in", "out")}
    else:
        told = [("time_in", 256), ("vector_in", 768), *([("guidance_in", 256)] if guidance else [])]
        for name, inputs in told:
            shapes |= {f"{name}.in_layer": (wide, inputs), f"{name}.out_layer": (wide, wide)}
        shapes |= {f"double_blocks.0.{side}_mod.lin": (6 * wide, wide) for side in ("img", "txt")}
        shapes |= {"single_blocks.0.modulation.lin": (3 * wide, wide), "final_layer.adaLN_modulation.1": (2 * wide, wide)}
    made = {f"{name}.weight": shape for name, shape in shapes.items()} | {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    made |= {f"double_blocks.0.{name}": (128,) for name in DOUBLE[1]}
    made |= {f"single_blocks.0.norm.{part}_norm.scale": (128,) for part in ("query", "key")}
    return made | ({f"distilled_guidance_layer.norms.{layer}.scale": (5120,) for layer in range(5)} if chroma else {})


@pytest.mark.parametrize("kind", ["dev", "schnell", "chroma"])
def test_files_of_the_original_model_are_recognised_and_converted(kind, tmp_path):
    """Real sizes without numbers: a header is all that recognition reads, and names and shapes are what a converter can get wrong."""
    import json
    import struct

    import diffusers
    import torch
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
    from loraforge_image.families.dit import families

    family = MADE[kind].CASE.family()
    shapes = original_names(kind == "dev", kind == "chroma")
    entries = {name: {"dtype": "BF16", "shape": list(shape), "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({f"model.diffusion_model.{name}": entry for name, entry in entries.items()}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    assert [one.name for one in families() if one.matches(str(file))] == [family.name]
    with torch.device("meta"):
        options = {} if kind == "chroma" else {"guidance_embeds": kind == "dev"}
        model = getattr(diffusers, family.transformer)(num_layers=1, num_single_layers=1, **options)
        tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
        found = SINGLE_FILE_LOADABLE_CLASSES[family.transformer]["checkpoint_mapping_fn"](tensors)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in found.items()} == wanted


@pytest.mark.parametrize(("module", "found"), [(flux1, "FluxKontextPipeline"), (flux2, "Flux2Pipeline"), (chroma, ""), (flux1, "")])
def test_a_folder_of_a_relative_is_named_and_one_of_a_stranger_left_to_others(module, found, tmp_path):
    (tmp_path / "model_index.json").write_text(f'{{"_class_name": "{found or "PixArtSigmaPipeline"}"}}', encoding="utf-8")
    family = module.CASE.family()
    said = family.describe_base(str(tmp_path))
    assert not family.matches(str(tmp_path))
    assert said == (f"{tmp_path} is one of a {found}; of {family.title}, LoRAForge trains those of a {family.pipeline}" if found else "")


def test_relatives_are_not_taken_for_these():
    """FLUX.2 dev is told its guidance, and Chroma Radiance draws pixels."""
    named = {
        "flux2": [["double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight", "guidance_in.in_layer.weight"]],
        "chroma": [["double_blocks.0.img_attn.qkv.weight", "distilled_guidance_layer.in_proj.weight", "img_in_patch.weight"]],
    }
    for module, files in ((flux2, named["flux2"]), (chroma, named["chroma"])):
        layouts: tuple[Layout, ...] = module.CASE.family().layouts
        assert not any(layout.fits(names) for names in files for layout in layouts)
