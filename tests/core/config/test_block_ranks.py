# SPDX-License-Identifier: Apache-2.0
"""Ranks of parts of a base: what an entry fits, which of several holds, what is said of one that does nothing."""

from __future__ import annotations

import pytest

from loraforge import ConfigError, RunConfig
from loraforge.config.block_ranks import apply_block_ranks, parse_block_rank

UNET = [
    *(f"unet.down_blocks.{i}.attentions.{j}.transformer_blocks.0.{a}.to_{p}" for i in range(3) for j in (0, 1) for a in ("attn1", "attn2") for p in "qk"),
    "unet.mid_block.attentions.0.proj_in",
    "unet.up_blocks.0.attentions.1.proj_in",
    "unet.up_blocks.1.resnets.0.conv1",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1",
]  # fmt: skip
TEXT = [f"model.layers.{i}.{name}" for i in (*range(13), 101) for name in ("self_attn.q_proj", "mlp.up_proj")]


@pytest.mark.parametrize(
    ("names", "entry", "count"),
    [
        (UNET, "down_blocks.2=16", 8), (UNET, "unet.down_blocks.2=16", 8), (UNET, "mid_block=16", 1), (UNET, "attn2=16", 12), (UNET, "to_q=16", 12),
        (UNET, "down_blocks.*.attentions.1=16", 12), (UNET, "down_blocks.0-1.attentions.0=16", 8), (UNET, "*_blocks.1=16", 9), (UNET, "text_encoder=16", 1),
        (UNET, "up_blocks.*.resnets = 16", 1), (UNET, "text*=16", 1), (UNET, "unet.up_blocks.1.resnets.0.conv1=16", 1),
        (TEXT, "layers.1=16", 2), (TEXT, "layers.0-3=16", 8), (TEXT, "layers.10-12.mlp=16", 3), (TEXT, "layers.101=16", 2), (TEXT, "self_attn＝16", 14),
    ],
)  # fmt: skip
def test_what_an_entry_fits(names, entry, count):
    found = apply_block_ranks(dict.fromkeys(names, 4), [entry])
    assert list(found) == names and sum(rank == 16 for rank in found.values()) == count and set(found.values()) == {4, 16}


def test_the_last_that_fits_holds_and_zero_leaves_out():
    entries = ["down_blocks=8", "down_blocks.1=0", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q=2", "mid_block=32"]
    found = apply_block_ranks(dict.fromkeys(UNET, 4), entries)
    assert [n for n in UNET if n not in found] == [
        n for n in UNET if ".down_blocks.1." in n and not ("attentions.0" in n and n.endswith("attn1.to_q"))
    ]
    assert (
        found["unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"] == 2 and found["unet.mid_block.attentions.0.proj_in"] == 32
    )
    assert found["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"] == 8 and found["unet.up_blocks.1.resnets.0.conv1"] == 4


def test_all_that_does_nothing_is_said_at_once_with_what_there_is():
    entries = ["down_block.2=16", "down_blocks.1=2", "down_blocks=8", "layers.7=1"]
    with pytest.raises(ConfigError) as error:
        apply_block_ranks(dict.fromkeys(UNET, 4), entries)
    wrong, also, hidden = error.value.problems
    assert "'down_block.2=16' fits none" in wrong and "unet.down_blocks.0-2, unet.mid_block.attentions.0, unet.up_blocks.0-1" in wrong
    assert "'layers.7=1'" in also and "'down_blocks.1=2' changes nothing, as later entries fit all" in hidden
    with pytest.raises(ConfigError, match="no layer is left"):
        apply_block_ranks(dict.fromkeys(UNET, 4), ["unet=0", "text_encoder=0"])


@pytest.mark.parametrize(
    ("entry", "told"),
    [("down_blocks.2", "no rank of a block"), ("=4", "no rank"), ("a=b", "no rank"), ("a=-1", "no rank"), ("a..b=1", "no rank"), ("a=1.5", "no rank"),
     ("layers.(0|1)=4", "no rank of a block"), ("layers.5-2=4", "higher number to a lower"), ("a=513", "at most 512"), ("", "no rank")],
)  # fmt: skip
def test_what_is_no_entry(entry, told):
    with pytest.raises(ValueError, match=told):
        parse_block_rank(entry)


def test_a_mapping_and_a_line_mean_the_same():
    from loraforge import RunConfig

    wanted = ["mid_block=32", "down_blocks.2=0"]
    for written in (wanted, {"mid_block": 32, "down_blocks.2": 0}, "mid_block=32, down_blocks.2=0"):
        config = RunConfig(train_data_dir=".", base_model="b", block_ranks=written)
        assert [parse_block_rank(entry) for entry in config.block_ranks] == [parse_block_rank(entry) for entry in wanted]


def test_every_bad_entry_is_named_at_once():
    with pytest.raises(ValueError) as error:
        RunConfig(train_data_dir="x", base_model="x", block_ranks=["a=x", "b=2", "c"])
    said = str(error.value)
    assert said.count("is no rank of a block") == 2 and "'a=x' is no rank" in said and "'c' is no rank" in said
