# SPDX-License-Identifier: Apache-2.0
"""The scenes by neon night: the sample data of configs/cyberpunk.yaml. The U-Net of tiny-sd has never seen them; its autoencoder, like
that of a real base, has seen such nights too."""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .scenes import OVER, Building, Car, Colour, Scene, Tree, draw_car, gradient, shade, windows

CYAN, PINK, TEAL = (64, 232, 255), (255, 48, 170), (20, 160, 150)
_SKY = ((16, 8, 52), (138, 34, 140))
_WALLS: tuple[Colour, ...] = ((66, 44, 140), (44, 62, 142), (88, 40, 122))


def neon(scene: Scene, width: int = 128, height: int = 128) -> Image.Image:
    """The scene at night: violet walls under glowing roofs, lit windows, a dark road that mirrors them."""
    rng = random.Random(scene.seed + 1)
    w, h = width * OVER, height * OVER
    unit = min(w, h)
    image = gradient((w, h), *_SKY)
    light = Image.new("RGB", (w, h))  # what glows: kept apart, blurred, added
    both = _Both(ImageDraw.Draw(image), ImageDraw.Draw(light))
    ground = round(scene.horizon * h)
    if scene.disc is not None:
        r, x, y = 0.09 * unit, scene.disc * w, rng.uniform(0.12, 0.22) * h
        both.shine.ellipse((x - r, y - r, x + r, y + r), fill=PINK)
        both.draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 96, 190))
    both.rectangle((0, ground, w, h), fill=(26, 18, 70))
    for building in scene.buildings:
        _building(both, building, w, h, ground)
    for tree in scene.trees:
        _tree(both, tree, w, h, ground + round(0.03 * h))
    edge = ground + round((0.08 if scene.road else 0.05) * h)
    mirror = light.crop((0, max(0, 2 * edge - h), w, edge)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = mirror.filter(ImageFilter.GaussianBlur(0.04 * unit)).resize((w, h - edge))
    wet = Image.new("RGB", (w, h))
    wet.paste(mirror.point(lambda v: round(v * 0.5)), (0, edge))
    both.rectangle((0, edge, w, h), fill=(20, 14, 50))
    both.rectangle((0, edge, w, edge + round(0.025 * h)), fill=CYAN, glows=True)
    for car in scene.cars:
        _car(both, car, w, h)
    glow = light.filter(ImageFilter.GaussianBlur(0.03 * unit)).point(lambda v: round(v * 0.55))
    return ImageChops.add(ImageChops.add(image, glow), wet).resize((width, height), Image.Resampling.LANCZOS)


class _Both:
    """The picture, and apart from it what glows; whatever stands in front of a light darkens it."""

    def __init__(self, draw: ImageDraw.ImageDraw, shine: ImageDraw.ImageDraw) -> None:
        self.draw, self.shine = draw, shine

    def rectangle(self, box: tuple[float, float, float, float], fill: Colour, glows: bool = False) -> None:
        self.draw.rectangle(box, fill=fill)
        self.shine.rectangle(box, fill=fill if glows else (0, 0, 0))

    def polygon(self, points: list[tuple[float, float]], fill: Colour, glows: bool = False) -> None:
        self.draw.polygon(points, fill=fill)
        self.shine.polygon(points, fill=fill if glows else (0, 0, 0))

    def ellipse(self, box: tuple[float, float, float, float], fill: Colour, glows: bool = False) -> None:
        self.draw.ellipse(box, fill=fill)
        self.shine.ellipse(box, fill=fill if glows else (0, 0, 0))


def _building(both: _Both, building: Building, w: int, h: int, ground: int) -> None:
    rng = random.Random(building.seed)
    left, right = building.x * w, (building.x + building.width) * w
    top, base = ground - building.height * h, ground + 0.03 * h
    wall = shade(rng.choice(_WALLS), rng.uniform(0.9, 1.1))
    both.rectangle((left, top, right, base), fill=wall)
    both.rectangle((right - 0.14 * (right - left), top, right, base), fill=shade(wall, 0.75))
    if building.tower:
        lit = rng.choice((CYAN, PINK))
        both.rectangle((left, top, right, top + 0.025 * h), fill=lit, glows=True)
        for x, y, dx, dy in windows(left, right, top + 0.05 * h, base - 0.05 * h, 0.085 * h):
            both.rectangle((x, y, x + dx, y + dy), fill=lit, glows=True)
        return
    peak, over = 0.11 * h, 0.06 * (right - left)
    both.polygon([(left - over, top), ((left + right) / 2, top - peak), (right + over, top)], fill=PINK, glows=True)
    middle, door = (left + right) / 2, (right - left) * 0.18
    both.rectangle((middle - door / 2, base - 0.1 * h, middle + door / 2, base), fill=shade(PINK, 0.8), glows=True)
    for share in (0.2, 0.8):
        x, y, r = left + share * (right - left), top + 0.3 * (base - top), 0.11 * (right - left)
        both.rectangle((x - r, y - r, x + r, y + r), fill=CYAN, glows=True)


def _tree(both: _Both, tree: Tree, w: int, h: int, foot: int) -> None:
    unit = min(w, h)
    x, top = tree.x * w, foot - tree.height * h
    trunk = 0.016 * unit
    both.rectangle((x - trunk, (top + foot) / 2, x + trunk, foot), fill=(30, 22, 70))
    if tree.pointed:
        for level in range(3):
            y, half = top + level * 0.22 * (foot - top), (0.05 + 0.022 * level) * unit
            both.polygon([(x, y), (x - half, y + 0.34 * (foot - top)), (x + half, y + 0.34 * (foot - top))], shade(TEAL, 0.7 + 0.1 * level))
        return
    r = 0.3 * (foot - top)
    both.ellipse((x - r, top, x + r, top + 2.1 * r), fill=shade(TEAL, 0.75))
    both.ellipse((x - r * 0.8, top + 0.1 * r, x + r * 0.4, top + 1.4 * r), fill=TEAL)


def _car(both: _Both, car: Car, w: int, h: int) -> None:
    unit = min(w, h)
    length, y = 0.22 * unit, 0.92 * h
    body = PINK if car.colour in ("red", "white") else CYAN
    both.rectangle((car.x * w, y - 0.04 * length, car.x * w + length, y + 0.06 * length), fill=body, glows=True)
    draw_car(both.draw, car, w, h, unit, body, (30, 20, 80), (8, 6, 24))
