"""The scenes by neon night: the sample data of configs/cyberpunk.yaml. tiny-sd has never seen them."""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .scenes import OVER, Building, Car, Colour, Scene, Tree, draw_car, gradient, shade, windows

# Two or three colours a night: the signs of a street in one mood, and a style that can be learned from eighteen pictures.
PINK, CYAN, VIOLET, BLUE = (255, 40, 170), (0, 230, 255), (160, 70, 255), (40, 90, 255)
NIGHTS: tuple[tuple[Colour, Colour], ...] = ((PINK, CYAN), (VIOLET, CYAN), (PINK, VIOLET))


class _Night:
    """Two layers: what is dark, and what shines, which is drawn apart, blurred and added."""

    def __init__(self, scene: Scene, w: int, h: int) -> None:
        self.rng = random.Random(scene.seed + 1)
        self.colours = self.rng.choice(NIGHTS)
        self.w, self.h, self.unit = w, h, min(w, h)
        self.ground = round(scene.horizon * h)
        self.thin = max(2, round(0.017 * self.unit))
        self.image = gradient((w, h), (8, 6, 30), shade(self.colours[0], 0.42))
        self.light = Image.new("RGB", (w, h))
        self.draw, self.shine = ImageDraw.Draw(self.image), ImageDraw.Draw(self.light)

    def tone(self, share: float = 0.5) -> Colour:
        """One of the night's two colours; ``share`` of the first."""
        return self.colours[self.rng.random() >= share]


def neon(scene: Scene, width: int = 128, height: int = 128) -> Image.Image:
    """The scene at night: dark walls, glowing outlines and windows, a wet ground that mirrors them."""
    w, h = width * OVER, height * OVER
    night = _Night(scene, w, h)
    unit, ground = night.unit, night.ground
    if scene.disc is not None:
        r, x, y = 0.1 * unit, scene.disc * w, night.rng.uniform(0.14, 0.24) * h
        night.shine.ellipse((x - r, y - r, x + r, y + r), fill=night.tone(0.7))
    night.draw.rectangle((0, ground, w, h), fill=(12, 9, 28))
    for building in scene.buildings:
        _building(night, building)
    for tree in scene.trees:
        _tree(night, tree)
    edge = ground + round((0.08 if scene.road else 0.03) * h)
    night.draw.rectangle((0, edge, w, h), fill=(9, 8, 22))
    night.shine.rectangle((0, edge, w, edge + round(0.014 * h)), fill=night.colours[1])
    for car in scene.cars:
        _car(night, car)
    glow = night.image
    for blur, strength in ((0.0, 1.0), (0.014, 0.7), (0.06, 0.9)):
        light = night.light.filter(ImageFilter.GaussianBlur(blur * unit)) if blur else night.light
        glow = ImageChops.add(glow, light.point(lambda v, s=strength: round(v * s)))
    mirror = night.light.crop((0, max(0, 2 * edge - h), w, edge)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    wet = Image.new("RGB", (w, h))
    wet.paste(mirror.filter(ImageFilter.GaussianBlur(0.02 * unit)).resize((w, h - edge)).point(lambda v: round(v * 0.5)), (0, edge))
    return ImageChops.add(glow, wet).resize((width, height), Image.Resampling.LANCZOS)


def _building(night: _Night, building: Building) -> None:
    w, h = night.w, night.h
    left, right = building.x * w, (building.x + building.width) * w
    top, base = night.ground - building.height * h, night.ground + 0.03 * h
    outline, inside = night.colours if night.rng.random() < 0.6 else night.colours[::-1]
    night.draw.rectangle((left, top, right, base), fill=shade(outline, 0.14))
    if building.tower:
        night.shine.line((left, base, left, top, right, top, right, base), fill=outline, width=night.thin, joint="curve")
        for x, y, dx, dy in windows(left, right, top + 0.04 * h, base - 0.05 * h, 0.075 * h):
            night.shine.rectangle((x, y, x + dx, y + dy), fill=shade(inside, 0.75 if night.rng.random() < 0.7 else 0.2))
        return
    middle, over = (left + right) / 2, 0.06 * (right - left)
    roof = [(left - over, top), (middle, top - 0.11 * h), (right + over, top)]
    night.draw.polygon(roof, fill=shade(outline, 0.3))
    night.shine.line([*roof, roof[0], roof[1]], fill=outline, width=night.thin, joint="curve")
    night.shine.line((left, top, left, base), fill=outline, width=night.thin)
    night.shine.line((right, top, right, base), fill=outline, width=night.thin)
    door = (right - left) * 0.18
    night.shine.rectangle((middle - door / 2, base - 0.1 * h, middle + door / 2, base), fill=shade(outline, 0.5))
    for share in (0.2, 0.8):
        x, y, r = left + share * (right - left), top + 0.3 * (base - top), 0.11 * (right - left)
        night.shine.rectangle((x - r, y - r, x + r, y + r), fill=shade(inside, 0.85))


def _tree(night: _Night, tree: Tree) -> None:
    h, unit, foot = night.h, night.unit, night.ground + round(0.03 * night.h)
    x, top = tree.x * night.w, foot - tree.height * h
    trunk, tone = 0.016 * unit, night.colours[1]
    night.draw.rectangle((x - trunk, (top + foot) / 2, x + trunk, foot), fill=shade(tone, 0.25))
    if tree.pointed:
        for level in range(3):
            y = top + level * 0.22 * (foot - top)
            half = (0.05 + 0.022 * level) * unit
            low = y + 0.34 * (foot - top)
            night.draw.polygon([(x, y), (x - half, low), (x + half, low)], fill=shade(tone, 0.3))
            night.shine.polygon([(x, y), (x - half, low), (x + half, low)], fill=(0, 0, 0))
            night.shine.line([(x - half, low), (x, y), (x + half, low)], fill=tone, width=night.thin, joint="curve")
        return
    r = 0.3 * (foot - top)
    night.draw.ellipse((x - r, top, x + r, top + 2.1 * r), fill=shade(tone, 0.3))
    night.shine.ellipse((x - r, top, x + r, top + 2.1 * r), fill=(0, 0, 0))  # a tree hides the windows behind it
    night.shine.ellipse((x - r, top, x + r, top + 2.1 * r), outline=tone, width=night.thin)


def _car(night: _Night, car: Car) -> None:
    w, h, length = night.w, night.h, 0.22 * night.unit
    draw_car(night.draw, car, w, h, night.unit, shade(night.colours[0], 0.45), shade(night.colours[1], 0.7), (4, 4, 8))
    left, y = car.x * w, 0.92 * h
    night.shine.rectangle((left, y - 0.2 * length, left + 0.08 * length, y - 0.12 * length), fill=(255, 30, 60))
    night.shine.rectangle((left + 0.9 * length, y - 0.2 * length, left + length, y - 0.12 * length), fill=(220, 250, 255))
    night.shine.rectangle((left, y + 0.02 * length, left + length, y + 0.08 * length), fill=night.colours[0])
