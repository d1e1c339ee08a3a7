# SPDX-License-Identifier: Apache-2.0
"""The names of all modules in a WebUI file, as text files, against what is written for bases with the real topologies.

``golden/*.txt`` come from the rules of the facts document (../shared/facts/webui-lora-format.md, 2.1), which ``spelled`` says once more and
without the code under test; ``python tests/image/families/test_kohya_names.py`` writes them.
"""

from __future__ import annotations

import json
import struct

import pytest
from builders import ROOT

GOLDEN = ROOT / "tests" / "image" / "golden"
# Lines of a file -> kohya's number of modules; a real SD2 base has 23 text layers in diffusers.
COUNTS = {"sd15": 264, "sd15-conv": 86, "sd2": 192 + 6 * 23, "sd2-conv": 86, "sdxl": 986, "sdxl-conv": 66}


# --- the rules ---------------------------------------------------------------------------------------------------------------


def transformer(place: str, depth: int) -> list[str]:
    layers = [f"{attention}_to_{part}" for attention in ("attn1", "attn2") for part in ("q", "k", "v", "out_0")] + [
        "ff_net_0_proj",
        "ff_net_2",
    ]
    return [f"{place}_proj_in", f"{place}_proj_out", *(f"{place}_transformer_blocks_{i}_{name}" for i in range(depth) for name in layers)]


def text(prefix: str, layers: int) -> list[str]:
    parts = [f"self_attn_{part}_proj" for part in ("q", "k", "v", "out")] + ["mlp_fc1", "mlp_fc2"]
    return [f"{prefix}_text_model_encoder_layers_{layer}_{part}" for layer in range(layers) for part in parts]


def sd1_unet() -> tuple[list[str], list[str]]:
    """(attention, LoCon) of SD1 and SD2, in diffusers' names: four levels, attention on the three wide ones."""
    plain, conv = transformer("lora_unet_mid_block_attentions_0", 1), []

    def resnet(place: str, shortcut: bool) -> None:
        conv.extend(f"lora_unet_{place}_{part}" for part in ("conv1", "conv2", "time_emb_proj", *(["conv_shortcut"] if shortcut else [])))

    for level in range(4):
        for j in range(2):
            resnet(f"down_blocks_{level}_resnets_{j}", j == 0 and level in (1, 2))  # 320, 640, 1280, 1280: the width grows twice
            if level < 3:
                plain += transformer(f"lora_unet_down_blocks_{level}_attentions_{j}", 1)
        for j in range(3):
            resnet(f"up_blocks_{level}_resnets_{j}", True)  # what comes across is joined to it
            if level > 0:
                plain += transformer(f"lora_unet_up_blocks_{level}_attentions_{j}", 1)
        if level < 3:
            conv += [f"lora_unet_down_blocks_{level}_downsamplers_0_conv", f"lora_unet_up_blocks_{level}_upsamplers_0_conv"]
    for j in range(2):
        resnet(f"mid_block_resnets_{j}", False)
    return plain, conv


def sdxl_unet() -> tuple[list[str], list[str]]:
    """(attention, LoCon) of SDXL, in the original names: three levels of three blocks."""
    plain, conv = transformer("lora_unet_middle_block_1", 10), []

    def resnet(place: str, skip: bool) -> None:
        parts = ("in_layers_2", "emb_layers_1", "out_layers_3", *(["skip_connection"] if skip else []))
        conv.extend(f"lora_unet_{place}_{part}" for part in parts)

    for block, depth in ((4, 2), (5, 2), (7, 10), (8, 10)):
        plain += transformer(f"lora_unet_input_blocks_{block}_1", depth)
    for block, depth in ((0, 10), (1, 10), (2, 10), (3, 2), (4, 2), (5, 2)):
        plain += transformer(f"lora_unet_output_blocks_{block}_1", depth)
    for block in (1, 2, 4, 5, 7, 8):
        resnet(f"input_blocks_{block}_0", block in (4, 7))
    for block in range(9):
        resnet(f"output_blocks_{block}_0", True)
    for block in (0, 2):
        resnet(f"middle_block_{block}", False)
    conv += ["lora_unet_input_blocks_3_0_op", "lora_unet_input_blocks_6_0_op"]
    return plain, [*conv, "lora_unet_output_blocks_2_2_conv", "lora_unet_output_blocks_5_2_conv"]


def spelled() -> dict[str, list[str]]:
    """Every list by the name of its file."""
    sd1, xl = sd1_unet(), sdxl_unet()
    lists = {
        "sd15": sd1[0] + text("lora_te", 12),
        "sd15-conv": sd1[1],
        "sd2": sd1[0] + text("lora_te", 23),
        "sd2-conv": sd1[1],
        "sdxl": xl[0] + text("lora_te1", 12) + text("lora_te2", 32),
        "sdxl-conv": xl[1],
    }
    return {name: sorted(names) for name, names in lists.items()}


def golden(name: str) -> list[str]:
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").split()


# --- the lists ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(COUNTS))
def test_the_lists_are_what_the_rules_say_and_as_long_as_kohyas(name):
    assert golden(name) == spelled()[name] and len(set(golden(name))) == len(golden(name)) == COUNTS[name]


# Taken from the facts document's table and from files of kohya's trainer, letter by letter.
BY_HAND = {
    "sd15": ["lora_unet_down_blocks_0_attentions_0_proj_in", "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k",
             "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj", "lora_te_text_model_encoder_layers_11_mlp_fc2",
             "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0"],
    "sd15-conv": ["lora_unet_down_blocks_2_downsamplers_0_conv", "lora_unet_up_blocks_0_upsamplers_0_conv",
                  "lora_unet_down_blocks_1_resnets_0_conv_shortcut", "lora_unet_mid_block_resnets_1_time_emb_proj"],
    "sd2": ["lora_te_text_model_encoder_layers_22_self_attn_out_proj", "lora_unet_down_blocks_2_attentions_1_proj_out"],
    "sd2-conv": ["lora_unet_up_blocks_3_resnets_2_conv_shortcut"],
    "sdxl": ["lora_unet_input_blocks_4_1_proj_in", "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_v",
             "lora_unet_middle_block_1_transformer_blocks_9_ff_net_2", "lora_unet_output_blocks_0_1_transformer_blocks_9_attn1_to_q",
             "lora_unet_output_blocks_5_1_transformer_blocks_1_attn1_to_out_0", "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
             "lora_te2_text_model_encoder_layers_31_mlp_fc1"],
    "sdxl-conv": ["lora_unet_input_blocks_3_0_op", "lora_unet_output_blocks_2_2_conv", "lora_unet_output_blocks_5_2_conv",
                  "lora_unet_input_blocks_7_0_skip_connection", "lora_unet_output_blocks_8_0_emb_layers_1"],
}  # fmt: skip
NOWHERE = ["lora_unet_down_blocks_3_resnets_0_conv_shortcut", "lora_unet_down_blocks_3_attentions_0_proj_in", "lora_unet_conv_in",
           "lora_unet_output_blocks_6_1_proj_in", "lora_te_encoder_layers_0_mlp_fc1", "lora_te2_text_projection"]  # fmt: skip


def test_the_lists_hold_what_is_spelled_by_hand_and_not_what_nobody_reads():
    for name, wanted in BY_HAND.items():
        assert set(wanted) <= set(golden(name)), name
    assert not set(NOWHERE) & {name for kind in COUNTS for name in golden(kind)}


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_the_readers_tables_are_these_lists(family):
    from loraforge_image.families.stable_diffusion.kohya_names import known_modules

    extra = set(text("lora_te", 24)[-6:]) if family == "sd2" else set()  # OpenCLIP's last layer, which SD2 does not use
    assert known_modules(family) == set(golden(family)) | set(golden(f"{family}-conv")) | extra


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("conv_rank", [0, 2])
def test_the_written_file_holds_exactly_these_modules(family, conv_rank, sd_bases, tmp_path):
    import torch
    from builders.tiny_images import load_sd, network_of
    from loraforge_image.export.webui import WebuiExporter
    from loraforge_image.families.stable_diffusion.targets import lora_modules, readable
    from loraforge_image.records import ImageKeys

    from loraforge import Adapter, RunConfig
    from loraforge.adapters import lora

    base = sd_bases(family, full=True)
    config = RunConfig(train_data_dir="x", base_model=str(base), lora_rank=1, lora_dropout=0.0)
    network = network_of(load_sd(str(base), family), True)
    modules = readable(lora_modules(network, config, ImageKeys(train_text_encoder=True, conv_rank=conv_rank)), family)
    torch.manual_seed(0)
    tensors, probes = {}, {}
    for name, rank in modules.items():
        weight = network.get_submodule(name).weight
        a, b = torch.randn(rank, *weight.shape[1:]), torch.randn(weight.shape[0], rank, *(1 for _ in weight.shape[2:]))
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        probes[name] = lora.probe(name, b.flatten(1) @ a.flatten(1))
    ranks = {name: rank for name, rank in modules.items() if rank != 1}
    file = WebuiExporter().export(Adapter(tensors, 1, 1, ("x",), probes, "b", ranks=ranks, facts={"name": "x", "family": family}), tmp_path)
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    keys = set(header) - {"__metadata__"}
    wanted = set(golden(family)) | (set(golden(f"{family}-conv")) if conv_rank else set())
    assert keys == {f"{name}.{part}" for name in wanted for part in ("alpha", "lora_down.weight", "lora_up.weight")}
    assert set(ranks.values()) == ({2} if conv_rank else set())


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for stem, lines in spelled().items():
        (GOLDEN / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
