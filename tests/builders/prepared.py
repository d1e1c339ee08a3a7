# SPDX-License-Identifier: Apache-2.0
"""Calls of ``loraforge prepare image``, and what it wrote."""

from __future__ import annotations

import csv

import numpy as np
from click.testing import CliRunner
from loraforge_image.prepare.command import prepare
from PIL import Image


def scene(seed: int, width: int = 320, height: int = 288) -> Image.Image:
    """A sharp picture of coloured blocks, unlike that of any other seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 10, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def call(*arguments, fails: type[Exception] | None = None):
    result = CliRunner().invoke(prepare, ["image", *map(str, arguments)])
    if fails:
        assert isinstance(result.exception, fails), (result.exception, result.output)
        return str(result.exception)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def rows(file) -> dict[str, dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return {row["file_name"]: row for row in csv.DictReader(stream)}


def kinds(folder) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with (folder / "findings.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["file_name"], set()).add(row["finding"])
    return found
