# SPDX-License-Identifier: Apache-2.0
"""The scenes in the lights that tiny-sd is trained on (by day, at dusk, in fog and snow, by night, in pastel), and as line drawings, by
which the measure of content is validated too."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .scenes import CARS, OVER, WALLS, Building, Colour, Scene, Tree, draw_car, gradient, rgb, shade, windows


@dataclass(frozen=True)
class Light:
    """How a scene's own colours are seen: ``colour * times`` mixed with ``haze`` by ``share``; what is None stays as by day.

    Args:
        words: what a caption says of it, any of these.
        sky: top and horizon.
        glass: the colour of windows.
        ground: the colour of grass.
        stars: how many; ``flakes``: how many of snow.
    """

    words: tuple[str, ...]
    times: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haze: Colour = (255, 255, 255)
    share: float = 0.0
    sky: tuple[Colour, Colour] | None = None
    glass: Colour | None = None
    ground: Colour | None = None
    disc: Colour = (255, 236, 130)
    stars: int = 0
    flakes: int = 0

    def seen(self, colour: Colour) -> Colour:
        """The colour in this light."""
        parts = zip(colour, self.times, self.haze, strict=True)
        return tuple(max(0, min(255, round(c * t * (1 - self.share) + z * self.share))) for c, t, z in parts)  # type: ignore[return-value]


LIGHTS: Mapping[str, Light] = {
    "day": Light(("by day", "blue sky", "sunny day")),
    "dusk": Light(
        ("at dusk", "sunset", "evening"), (0.74, 0.56, 0.6), sky=((88, 66, 128), (250, 150, 96)), glass=(252, 206, 120), disc=(255, 120, 70)
    ),
    "fog": Light(("in fog", "foggy morning"), haze=(214, 218, 222), share=0.6, sky=((206, 210, 216), (222, 224, 226))),
    "snow": Light(
        ("in winter", "snow"),
        (0.94, 0.97, 1.02),
        sky=((168, 182, 204), (222, 228, 236)),
        ground=(246, 249, 252),
        flakes=40,
        disc=(250, 244, 222),
    ),
    "night": Light(
        ("at night", "by night"), (0.22, 0.27, 0.42), sky=((8, 12, 34), (28, 38, 78)), glass=(250, 208, 112), disc=(240, 240, 222), stars=24
    ),
    "rain": Light(
        ("rainy night", "dark night"), (0.13, 0.14, 0.22), sky=((4, 5, 14), (16, 18, 34)), glass=(176, 214, 236), disc=(60, 70, 100)
    ),
    "pastel": Light(("pastel colours",), haze=(255, 246, 240), share=0.5),
}
# Line drawings: paper and line.
LINES: Mapping[str, tuple[tuple[str, ...], tuple[tuple[Colour, Colour], ...]]] = {
    "pencil": (("line drawing", "sketch"), (((250, 248, 242), (40, 40, 46)), ((244, 236, 216), (92, 58, 40)))),
    "chalk": (
        ("chalk drawing", "white lines on black"),
        (((18, 20, 24), (236, 236, 230)), ((22, 44, 92), (226, 236, 250)), ((20, 46, 38), (250, 236, 170))),
    ),
}
KINDS = (*LIGHTS, *LINES)
_COMMON = 0.45  # the share of plain days: what a prompt without a word about the light shows


def pick(rng: random.Random) -> str:
    """One of LIGHTS: the plain day most often."""
    return "day" if rng.random() < _COMMON else rng.choice([*LIGHTS][1:])


def words(kind: str) -> tuple[str, ...]:
    """What captions say of this kind of picture."""
    return LIGHTS[kind].words if kind in LIGHTS else LINES[kind][0]


def caption(scene: Scene, kind: str, rng: random.Random) -> str:
    """What a scene shows: the place first, the rest in any order, now and then something left out; then the light, by day not always."""
    place, *parts = scene.words()
    rng.shuffle(parts)
    if len(parts) > 1 and rng.random() < 0.25:
        parts = parts[:-1]
    said = [place, *parts]
    if kind != "day" or rng.random() < 0.5:
        said.append(rng.choice(words(kind)))
    return ", ".join(said)


def paint(scene: Scene, kind: str = "day", width: int = 128, height: int = 128) -> Image.Image:
    """The scene in one of KINDS."""
    if kind in LIGHTS:
        return _lit(scene, LIGHTS[kind], width, height).resize((width, height), Image.Resampling.LANCZOS)
    rng = random.Random(scene.seed + 2)
    paper, line = rng.choice(LINES[kind][1])
    # Plain colours have sharp borders: their differences are the lines.
    flat = _lit(scene, Light(("",), sky=((255, 255, 255), (255, 255, 255))), width, height)
    edges = ImageChops.lighter(*(_border(flat, dx, dy) for dx, dy in ((2, 0), (0, 2))))
    thick = edges.point(lambda v: 255 if v > 24 else 0).filter(ImageFilter.MaxFilter(3)).resize((width, height), Image.Resampling.BOX)
    return ImageOps.colorize(thick, paper, line)


def _border(image: Image.Image, dx: int, dy: int) -> Image.Image:
    moved = ImageChops.difference(image, ImageChops.offset(image, dx, dy))
    red, green, blue = moved.split()
    found = ImageChops.lighter(red, ImageChops.lighter(green, blue))
    found.paste(0, (0, 0, dx, found.height)) if dx else found.paste(0, (0, 0, found.width, dy))
    return found


def _lit(scene: Scene, light: Light, width: int, height: int) -> Image.Image:
    rng = random.Random(scene.seed)
    w, h = width * OVER, height * OVER
    unit = min(w, h)
    seen = light.seen
    top = rgb(colorsys.hsv_to_rgb(rng.uniform(0.55, 0.6), rng.uniform(0.45, 0.65), rng.uniform(0.85, 0.98)))
    image = gradient((w, h), *(light.sky or (seen(top), seen((226, 238, 246)))))
    draw = ImageDraw.Draw(image)
    ground = round(scene.horizon * h)
    _sky(draw, scene, light, w, h, rng)
    for hill in range(2):
        tone = (128 - 18 * hill, 172 - 14 * hill, 138 - 30 * hill)
        phase, wave = rng.uniform(0, 6), rng.uniform(1.2, 2.4)
        rise = 0.1 - 0.05 * hill
        line = [(x, ground - (0.5 + 0.5 * math.sin(phase + wave * x / w * math.pi)) * rise * h) for x in range(0, w + 1, max(1, w // 40))]
        draw.polygon([(0, ground), *line, (w, ground)], fill=seen(tone))
    draw.rectangle((0, ground, w, h), fill=seen(light.ground or shade((120, 178, 84), rng.uniform(0.92, 1.06))))
    for building in scene.buildings:
        _building(draw, building, light, w, h, ground)
    for tree in scene.trees:
        _tree(draw, tree, light, w, h, ground + round(0.03 * h))
    if scene.road:
        edge = ground + round(0.08 * h)
        draw.rectangle((0, edge, w, h), fill=seen((112, 114, 120)))
        draw.rectangle((0, edge, w, edge + round(0.015 * h)), fill=seen((206, 204, 196)))
        dash, lane = round(0.11 * unit), (edge + h) // 2 + round(0.03 * h)
        for left in range(round(rng.uniform(-1, 0) * dash), w, 2 * dash):
            draw.rectangle((left, lane, left + dash, lane + round(0.016 * h)), fill=seen((238, 236, 226)))
    for car in scene.cars:
        draw_car(draw, car, w, h, unit, seen(CARS[car.colour]), light.glass or seen((196, 222, 238)), seen((38, 38, 42)))
    for _ in range(light.flakes):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.006, 0.01) * unit
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    return image


def _sky(draw: ImageDraw.ImageDraw, scene: Scene, light: Light, w: int, h: int, rng: random.Random) -> None:
    unit = min(w, h)
    stars = random.Random(scene.seed + 3)
    for _ in range(light.stars):
        x, y, r = stars.uniform(0, w), stars.uniform(0, 0.5 * h), 0.005 * unit
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(232, 234, 240))
    if scene.disc is not None:
        r, x, y = 0.07 * unit, scene.disc * w, rng.uniform(0.08, 0.2) * h
        draw.ellipse((x - r, y - r, x + r, y + r), fill=light.disc)
    for _ in range(scene.clouds):
        x, y, r = rng.uniform(0.05, 0.85) * w, rng.uniform(0.06, 0.26) * h, rng.uniform(0.035, 0.06) * unit
        for shift in (-1.2, 0.0, 1.2):
            grow = 1.3 if shift == 0 else 1.0
            draw.ellipse((x + shift * r - r * grow, y - r * grow, x + shift * r + r * grow, y + r * 0.8), fill=light.seen((252, 253, 255)))


def _building(draw: ImageDraw.ImageDraw, building: Building, light: Light, w: int, h: int, ground: int) -> None:
    rng = random.Random(building.seed)
    seen = light.seen
    left, right = building.x * w, (building.x + building.width) * w
    top = ground - building.height * h
    base = ground + 0.03 * h
    wall = shade(WALLS[building.colour], rng.uniform(0.94, 1.04))
    if building.tower:
        wall = shade(((wall[0] + 190) // 2, (wall[1] + 196) // 2, (wall[2] + 206) // 2), 0.9)
    draw.rectangle((left, top, right, base), fill=seen(wall))
    draw.rectangle((right - 0.14 * (right - left), top, right, base), fill=seen(shade(wall, 0.84)))
    if building.tower:
        draw.rectangle((left, top, right, top + 0.018 * h), fill=seen(shade(wall, 0.7)))
        for x, y, dx, dy in windows(left, right, top + 0.04 * h, base - 0.05 * h, 0.075 * h):
            draw.rectangle((x, y, x + dx, y + dy), fill=light.glass or seen((84, 122, 158)))
        return
    peak = 0.11 * h
    over = 0.06 * (right - left)
    roof = shade((150, 66, 52), rng.uniform(0.8, 1.1))
    draw.polygon([(left - over, top), ((left + right) / 2, top - peak), (right + over, top)], fill=seen(roof))
    door = (right - left) * 0.18
    middle = (left + right) / 2
    draw.rectangle((middle - door / 2, base - 0.1 * h, middle + door / 2, base), fill=seen((92, 62, 46)))
    for share in (0.2, 0.8):
        x, y, r = left + share * (right - left), top + 0.3 * (base - top), 0.11 * (right - left)
        draw.rectangle((x - r, y - r, x + r, y + r), fill=seen((240, 244, 240)))
        draw.rectangle((x - r * 0.75, y - r * 0.75, x + r * 0.75, y + r * 0.75), fill=light.glass or seen((112, 158, 190)))


def _tree(draw: ImageDraw.ImageDraw, tree: Tree, light: Light, w: int, h: int, foot: int) -> None:
    unit, seen = min(w, h), light.seen
    x, top = tree.x * w, foot - tree.height * h
    trunk = 0.016 * unit
    draw.rectangle((x - trunk, (top + foot) / 2, x + trunk, foot), fill=seen((104, 74, 48)))
    if tree.pointed:
        for level in range(3):
            y = top + level * 0.22 * (foot - top)
            half = (0.05 + 0.022 * level) * unit
            draw.polygon(
                [(x, y), (x - half, y + 0.34 * (foot - top)), (x + half, y + 0.34 * (foot - top))], fill=seen((38, 104 + 6 * level, 66))
            )
        return
    r = 0.3 * (foot - top)
    draw.ellipse((x - r, top, x + r, top + 2.1 * r), fill=seen((66, 136, 58)))
    draw.ellipse((x - r * 0.8, top + 0.1 * r, x + r * 0.4, top + 1.4 * r), fill=seen((92, 164, 74)))
