# SPDX-License-Identifier: Apache-2.0
"""What weights take by precision and offload: sums done by hand, and what is proposed in which order. Torch is not needed."""

from __future__ import annotations

import pytest
from loraforge_image.families.fitting.sizes import Weights, encoders, held, savings
from loraforge_image.records import ImageKeys

from loraforge import RunConfig

# 6 billion numbers in matrices, 1 in convolutions, 0.1 elsewhere; the largest layer has 40 million.
DENOISER = Weights(6_000_000_000, 1_000_000_000, 100_000_000, 40_000_000)


def config(precision="bf16"):
    return RunConfig(train_data_dir="x", base_model="y", precision=precision)


@pytest.mark.parametrize(
    ("precision", "keys", "device", "card", "home", "ready"),
    [
        ("fp32", {}, "cuda", 28.4e9, 0, 0),
        ("bf16", {}, "cuda", 14.2e9, 0, 0),
        ("fp8", {}, "cuda", 7.2e9, 0, 80e6),
        ("4bit", {}, "cuda", 6 * 0.5625e9 + 1.2e9, 0, 80e6),
        ("bf16", {"offload": "blocks"}, "cuda", 0.2e9, 14e9, 80e6),
        ("fp8", {"offload": "blocks", "offload_share": 0.25}, "cuda", 0.2e9 + 5.25e9, 1.75e9, 80e6),
        ("fp8", {"offload": "blocks"}, "cpu", 7.2e9, 0, 80e6),
        ("bf16", {"offload": "encoders"}, "cuda", 14.2e9, 0, 0),
    ],
    ids=str,
)
def test_what_the_denoiser_takes(precision, keys, device, card, home, ready):
    assert DENOISER.total == 7.1e9
    found = held(DENOISER, config(precision), ImageKeys(**keys), device)
    assert (found.card, found.home, found.ready) == pytest.approx((card, home, ready))
    assert (
        f"6.00 billion numbers of {'0.5625' if precision == '4bit' else found.sums[0].split('numbers of ')[1].split()[0]} bytes"
        in found.sums[0]
    )
    assert len(found.sums) == (2 if home else 1)


def test_what_the_text_encoders_take():
    whole, said = encoders({"text_encoder": 4_000_000_000}, 400_000_000, 2, ImageKeys(), "cuda")
    assert whole == 8e9 and "4.00 billion numbers of 2 bytes: 7.5 GB, of which 7.5 GB are on the card at once" in said
    assert encoders({"text_encoder": 4_000_000_000}, 400_000_000, 2, ImageKeys(offload="encoders"), "cuda")[0] == 0.8e9
    assert encoders({"text_encoder": 4_000_000_000}, 400_000_000, 2, ImageKeys(offload="encoders"), "cpu")[0] == 8e9


@pytest.mark.parametrize(
    ("precision", "keys", "device", "order"),
    [
        ("bf16", {}, "cuda", "encoders fp8 0.25 0.5 4bit 0.75 1.0"),
        ("fp32", {}, "cuda", "encoders bf16 fp8 0.25 0.5 4bit 0.75 1.0"),
        ("fp8", {"offload": "blocks", "offload_share": 0.5}, "cuda", "4bit 0.75 1.0"),
        ("4bit", {"offload": "encoders"}, "cuda", "0.25 0.5 0.75 1.0"),
        ("bf16", {"train_unet": False}, "cuda", "encoders 0.25 0.5 0.75 1.0"),
        ("fp32", {}, "cpu", "bf16"),
        ("bf16", {}, "cpu", ""),
    ],
    ids=str,
)
def test_what_is_proposed_costs_more_and_more(precision, keys, device, order):
    found = savings(config(precision), ImageKeys(**keys), device)
    assert [str(one.get("offload_share") or one.get("precision") or one.get("offload")) for one in found] == order.split()
    assert all(one["offload"] == "blocks" for one in found if "offload_share" in one)
