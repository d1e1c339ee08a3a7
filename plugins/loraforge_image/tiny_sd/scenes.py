# SPDX-License-Identifier: Apache-2.0
"""Procedurally drawn scenes with captions: streets by day, which tiny-sd is trained on, and by neon night, the sample data.

A scene is laid out first and painted afterwards, so that the two ways of painting share what they show and differ in style only.
"""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
OVER = 3  # drawn larger and shrunk, so that edges are smooth

WALLS: dict[str, Colour] = {
    "red": (196, 74, 62),
    "yellow": (232, 196, 96),
    "white": (236, 232, 222),
    "blue": (104, 146, 196),
    "brown": (158, 116, 84),
    "pink": (226, 160, 158),
}
CARS: dict[str, Colour] = {"red": (206, 40, 40), "blue": (40, 84, 190), "white": (240, 240, 240), "yellow": (240, 200, 40)}
_NUMBERS = ("no", "one", "two", "three", "four", "five")


@dataclass(frozen=True)
class Building:
    """A house (with a roof) or a tower block; x, width and height are shares of the picture."""

    x: float
    width: float
    height: float
    colour: str
    tower: bool
    seed: int


@dataclass(frozen=True)
class Tree:
    """A round tree or a pine; x and height are shares of the picture."""

    x: float
    height: float
    pointed: bool


@dataclass(frozen=True)
class Car:
    """A car on the road."""

    x: float
    colour: str


@dataclass(frozen=True)
class Scene:
    """What there is to see. ``horizon`` is the share of the height above the ground."""

    horizon: float
    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]
    cars: tuple[Car, ...]
    road: bool
    disc: float | None  # where the sun or the moon stands
    clouds: int
    seed: int

    def words(self) -> list[str]:
        """What it shows, in caption words, the place first."""
        towers = sum(b.tower for b in self.buildings)
        houses = len(self.buildings) - towers
        place = "a city street" if towers > houses and self.road else "a street" if self.road else "a meadow"
        parts = [place]
        if houses:
            colours = {b.colour for b in self.buildings if not b.tower}
            colour = f"{next(iter(colours))} " if len(colours) == 1 else ""
            parts.append(f"{_NUMBERS[min(houses, 5)]} {colour}house{'s' if houses > 1 else ''}")
        if towers:
            parts.append(f"{_NUMBERS[min(towers, 5)]} tall building{'s' if towers > 1 else ''}")
        if self.trees:
            kind = "pine tree" if all(t.pointed for t in self.trees) else "tree"
            parts.append(f"{_NUMBERS[min(len(self.trees), 5)]} {kind}{'s' if len(self.trees) > 1 else ''}")
        parts += [f"a {car.colour} car" for car in self.cars]
        return parts


def compose(rng: random.Random, aspect: float = 1.0) -> Scene:
    """A random scene for a picture of ``aspect`` = width / height."""
    kind = rng.choices(("street", "city", "meadow"), (4, 4, 2))[0]
    horizon = rng.uniform(0.62, 0.74)
    room = max(1, round((2 if kind == "meadow" else 4) * min(aspect, 1.6) * rng.uniform(0.5, 1.0)))
    room = min(room, 5)
    same = rng.choice(list(WALLS)) if rng.random() < 0.45 else None
    buildings = []
    for place in range(room):
        slot = 1 / room
        width = slot * rng.uniform(0.62, 0.9)
        x = place * slot + rng.uniform(0, slot - width)
        tower = kind == "city" and rng.random() < 0.8
        height = rng.uniform(0.38, 0.58) if tower else rng.uniform(0.16, 0.24) / max(1.0, 0.8 / max(aspect, 0.8))
        buildings.append(Building(x, width, height, same or rng.choice(list(WALLS)), tower, rng.randrange(1 << 30)))
    pointed = rng.random() < 0.4
    trees = tuple(
        Tree(rng.uniform(0.06, 0.94), rng.uniform(0.2, 0.34), pointed)
        for _ in range(rng.choice((0, 1, 1, 2, 3)) if kind != "meadow" else rng.randint(1, 4))
    )
    road = kind != "meadow"
    cars = (Car(rng.uniform(0.12, 0.7), rng.choice(list(CARS))),) if road and rng.random() < 0.6 else ()
    return Scene(
        horizon,
        tuple(buildings),
        trees,
        cars,
        road,
        rng.uniform(0.1, 0.9) if rng.random() < 0.5 else None,
        rng.randint(0, 3),
        rng.randrange(1 << 30),
    )


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """One colour at the top, another at the bottom."""
    column = Image.new("RGB", (1, 64))
    for y in range(64):
        t = y / 63
        column.putpixel((0, y), tuple(round(a + (b - a) * t) for a, b in zip(top, bottom, strict=True)))
    return column.resize(size, Image.Resampling.BICUBIC)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, lighter or darker."""
    return tuple(max(0, min(255, round(c * factor))) for c in colour)  # type: ignore[return-value]


def rgb(values: tuple[float, float, float]) -> Colour:
    """0 to 1 -> 0 to 255."""
    return tuple(round(255 * v) for v in values)  # type: ignore[return-value]


# --- what every way of painting needs -----------------------------------------------------------------------------------------


def windows(left: float, right: float, top: float, bottom: float, pitch: float) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) of a tower's windows."""
    columns = max(2, round((right - left) / pitch))
    rows = max(2, round((bottom - top) / pitch))
    dx, dy = (right - left) / columns, (bottom - top) / rows
    return [(left + (c + 0.22) * dx, top + (r + 0.2) * dy, dx * 0.56, dy * 0.58) for c in range(columns) for r in range(rows)]


def draw_car(draw: ImageDraw.ImageDraw, car: Car, w: int, h: int, unit: int, body: Colour, glass: Colour, tyre: Colour) -> None:
    """A car seen from the side; ``unit`` is the picture's shorter side."""
    length = 0.22 * unit
    x, y = car.x * w, 0.92 * h
    draw.rounded_rectangle((x, y - 0.28 * length, x + length, y), radius=0.08 * length, fill=body)
    draw.polygon(
        [
            (x + 0.18 * length, y - 0.26 * length),
            (x + 0.3 * length, y - 0.5 * length),
            (x + 0.7 * length, y - 0.5 * length),
            (x + 0.84 * length, y - 0.26 * length),
        ],
        fill=body,
    )
    draw.polygon(
        [
            (x + 0.26 * length, y - 0.28 * length),
            (x + 0.34 * length, y - 0.45 * length),
            (x + 0.66 * length, y - 0.45 * length),
            (x + 0.76 * length, y - 0.28 * length),
        ],
        fill=glass,
    )
    for wheel in (0.24, 0.76):
        cx, r = x + wheel * length, 0.11 * length
        draw.ellipse((cx - r, y - r, cx + r, y + r), fill=tyre)


# --- pictures of nothing, for the autoencoder --------------------------------------------------------------------------------


def shapes(rng: random.Random, width: int = 128, height: int = 128) -> Image.Image:
    """Random shapes, lines and glows in any colour, dark ones included: an autoencoder must not know one kind of picture only."""
    w, h = width * 2, height * 2

    def colour() -> Colour:
        return rgb(colorsys.hsv_to_rgb(rng.random(), rng.random() ** 0.6, rng.random() ** rng.choice((0.5, 2.0))))

    image = gradient((w, h), colour(), colour())
    light = Image.new("RGB", (w, h))
    for layer in (image, light):
        draw = ImageDraw.Draw(layer)
        for _ in range(rng.randint(2, 14)):
            x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.02, 0.3) * w
            box = (x - r, y - r * rng.uniform(0.3, 1), x + r, y + r * rng.uniform(0.3, 1))
            shape = rng.choice(("rectangle", "ellipse", "line", "polygon", "grid"))
            if shape == "line":
                draw.line((x, y, rng.uniform(0, w), rng.uniform(0, h)), fill=colour(), width=rng.randint(2, 8))
            elif shape == "polygon":
                draw.polygon([(rng.uniform(x - r, x + r), rng.uniform(y - r, y + r)) for _ in range(rng.randint(3, 5))], fill=colour())
            elif shape == "grid":
                tone = colour()
                for a, b, dx, dy in windows(box[0], box[2], box[1], box[3], max(12.0, 0.4 * r)):
                    draw.rectangle((a, b, a + max(dx, 1), b + max(dy, 1)), fill=tone)
            else:
                getattr(draw, shape)(box, fill=colour())
    if rng.random() < 0.6:
        image = ImageChops.add(image, light.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.05) * w)).point(lambda v: round(v * 0.8)))
    return image.resize((width, height), Image.Resampling.LANCZOS)
