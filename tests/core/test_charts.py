# SPDX-License-Identifier: Apache-2.0
"""The look of charts: colours that the colour-blind and a grey print tell apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from loraforge import charts

# Machado, Oliveira and Fernandes (2009), table 1 at severity 1.0: linear RGB as it is seen without one kind of cones.
SEEN = {
    "by most": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
ROLES = {
    "training": charts.TRAIN["color"], "held out": charts.HELD_OUT["color"], "each step": charts.RAW["color"], "paper": "#FFFFFF",
    "writing": charts.BLACK,
}  # fmt: skip


def lab(colour: str, matrix) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as somebody sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]) @ seen
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz / [0.95047, 1.0, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_measure_is_the_published_one():
    assert lab("#FFFFFF", SEEN["by most"]) == pytest.approx([100, 0, 0], abs=0.02)
    assert lab("#FF0000", SEEN["by most"]) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert all(np.sum(matrix, axis=1) == pytest.approx(1, abs=1e-5) for matrix in SEEN.values())  # grey stays grey
    red, green = lab("#C04040", SEEN["deuteranopia"]), lab("#6F7030", SEEN["deuteranopia"])
    assert np.linalg.norm(red - green) < 20  # what such a test must be able to find fault with


@pytest.mark.parametrize("who", SEEN)
def test_colours_are_far_apart_for_whoever_looks(who):
    """23 units are ten times what is just seen side by side."""
    for (one, a), (other, b) in itertools.combinations(ROLES.items(), 2):
        assert np.linalg.norm(lab(a, SEEN[who]) - lab(b, SEEN[who])) > 23, (one, other)
    for colour in (charts.GREY, charts.BLUE, charts.VERMILLION):  # is written with, on white
        assert lab(colour, SEEN[who])[0] < 66, colour


def test_lines_differ_without_any_colour():
    looks = [(str(look["linestyle"]), look.get("marker")) for look in (charts.TRAIN, charts.HELD_OUT, charts.STAR)]
    assert len(set(looks)) == 3
    assert lab(charts.RAW["color"], SEEN["by most"])[0] - lab(charts.TRAIN["color"], SEEN["by most"])[0] > 20  # lighter, in grey too


def test_lines_of_text_are_as_wide_as_the_chart():
    english = charts.wrapped("Use the checkpoint of step 108 (adapter_from: best), fewer epochs, or more examples. " * 3)
    chinese = charts.wrapped("从第 108 步起过拟合：请使用第 108 步的检查点（adapter_from: best），减少轮次，或增加样本。" * 3)
    for lines in (english, chinese):
        assert len(lines) > 2 and all(40 < charts._cells(line) <= 82 for line in lines[:-1])
        assert lines[0].startswith("• ") and all(line.startswith("  ") for line in lines[1:])
    assert not any(line.endswith("（") or line.lstrip()[0] in "，。）" for line in chinese)
    assert "".join(line[2:] for line in chinese).count("adapter_from") == 3


@pytest.mark.parametrize(("lengths", "columns"), [([8, 8, 8], 3), ([19, 26, 17, 33], 2), ([40, 40, 40], 1), ([5], 3)])
def test_a_legend_has_as_many_columns_as_fit(lengths, columns):
    labels = ["x" * length for length in lengths]
    assert next((n for n in (3, 2) if charts._fits(labels, n)), 1) == columns
