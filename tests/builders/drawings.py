# SPDX-License-Identifier: Apache-2.0
"""Drawings in flat colours that stay what they are in other colours, poses and proportions, and what people do to a file."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

BLUE, ORANGE, PURPLE = (80, 120, 230), (240, 150, 40), (150, 60, 200)


def cat(colour=BLUE, ground=(255, 255, 255), size=(320, 320), pose="sits", share=1.0, at=(0.5, 0.5)) -> Image.Image:
    """A cat on a plain ground: ``share`` of the shorter side, its middle ``at`` these shares of the sides."""
    large = Image.new("RGB", (size[0] * 2, size[1] * 2), ground)
    pen = ImageDraw.Draw(large)
    side = min(size) * 2 * share

    def place(x: float, y: float) -> tuple[float, float]:
        return large.width * at[0] + (x - 0.5) * side, large.height * at[1] + (y - 0.5) * side

    def blot(left: float, top: float, right: float, bottom: float, ink) -> None:
        pen.ellipse([*place(left, top), *place(right, bottom)], fill=ink)

    dark = tuple(round(value * 0.7) for value in colour)
    body, head, tail, ears, eyes = {
        "sits": ((0.25, 0.4, 0.75, 0.95), (0.3, 0.1, 0.7, 0.5), (0.7, 0.7, 0.95, 0.8), (0.32, 0.58), (0.38, 0.56)),
        "lies": ((0.1, 0.5, 0.8, 0.85), (0.6, 0.25, 0.95, 0.6), (0.02, 0.2, 0.15, 0.6), (0.63, 0.82), (0.68, 0.83)),
    }[pose]
    blot(*body, colour)
    blot(*head, colour)
    blot(*tail, dark)
    for x in ears:
        pen.polygon([place(x, head[1] + 0.1), place(x + 0.1, head[1] + 0.1), place(x + 0.05, head[1] - 0.08)], fill=dark)
    for x in eyes:
        blot(x, head[1] + 0.15, x + 0.06, head[1] + 0.22, (30, 30, 30))
    return large.resize(size, Image.Resampling.LANCZOS)


def strokes(seed: int, size=(400, 300)) -> Image.Image:
    """Line art: black strokes on white."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, "white")
    for _ in range(25):
        ImageDraw.Draw(image).line([tuple(random.uniform(0, 1, 2) * size) for _ in range(3)], fill=(20, 20, 20), width=2)
    return image


def cropped(image: Image.Image, left=0.0, top=0.0, right=0.0, bottom=0.0) -> Image.Image:
    """Without these shares of its sides."""
    w, h = image.size
    return image.crop((round(left * w), round(top * h), round((1 - right) * w), round((1 - bottom) * h)))


def saved_again(image: Image.Image, kind="JPEG", quality=30) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return Image.open(buffer).convert("RGB")


def other_hue(image: Image.Image, degrees: int) -> Image.Image:
    hue, *rest = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda value: (value + degrees * 255 // 360) % 256), *rest)).convert("RGB")
