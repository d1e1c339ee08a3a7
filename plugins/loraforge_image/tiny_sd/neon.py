"""The scenes by neon night: the sample data of configs/cyberpunk.yaml. tiny-sd has never seen them."""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .scenes import NEON, OVER, Building, Scene, Tree, draw_car, gradient, shade, windows


def neon(scene: Scene, width: int = 128, height: int = 128) -> Image.Image:
    """The scene at night: dark walls, glowing outlines and signs, a wet road that mirrors them."""
    rng = random.Random(scene.seed + 1)
    w, h = width * OVER, height * OVER
    unit = min(w, h)
    image = gradient((w, h), (10, 6, 34), rng.choice(((92, 20, 110), (26, 34, 110), (110, 16, 84))))
    light = Image.new("RGB", (w, h))  # what shines: drawn apart, blurred, added
    draw, shine = ImageDraw.Draw(image), ImageDraw.Draw(light)
    ground = round(scene.horizon * h)
    if scene.disc is not None:
        r, x, y = 0.1 * unit, scene.disc * w, rng.uniform(0.14, 0.24) * h
        shine.ellipse((x - r, y - r, x + r, y + r), fill=rng.choice(NEON))
        for line in range(3):
            draw.rectangle((x - r, y + r * (0.2 + 0.3 * line), x + r, y + r * (0.28 + 0.3 * line)), fill=(20, 8, 40))
    draw.rectangle((0, ground, w, h), fill=(14, 10, 30))
    for building in scene.buildings:
        _neon_building(draw, shine, building, w, h, ground)
    for tree in scene.trees:
        _neon_tree(draw, shine, tree, w, h, ground + round(0.03 * h), rng)
    edge = ground + round(0.08 * h) if scene.road else ground + round(0.03 * h)
    shine.rectangle((0, edge, w, edge + round(0.012 * h)), fill=rng.choice(NEON))
    for car in scene.cars:
        draw_car(draw, car, w, h, unit, (30, 22, 54), (12, 60, 84), (6, 6, 12))
        length, y = 0.22 * unit, 0.92 * h
        shine.rectangle((car.x * w, y - 0.2 * length, car.x * w + 0.08 * length, y - 0.12 * length), fill=(255, 30, 60))
        shine.rectangle((car.x * w + 0.93 * length, y - 0.2 * length, car.x * w + length, y - 0.12 * length), fill=(220, 250, 255))
        shine.rectangle((car.x * w, y - 0.02 * length, car.x * w + length, y + 0.03 * length), fill=rng.choice(NEON))
    mirror = light.crop((0, max(0, 2 * edge - h), w, edge)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = mirror.filter(ImageFilter.BoxBlur(0.01 * unit)).resize((w, h - edge))
    wet = Image.new("RGB", (w, h))
    wet.paste(mirror.point(lambda v: round(v * 0.55)), (0, edge))
    for blur, strength in ((0.0, 1.0), (0.012, 0.9), (0.05, 0.9)):
        glow = light.filter(ImageFilter.GaussianBlur(blur * unit)) if blur else light
        image = ImageChops.add(image, glow.point(lambda v, s=strength: round(v * s)))
    image = ImageChops.add(image, wet.filter(ImageFilter.GaussianBlur(0.006 * unit)))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _neon_building(draw: ImageDraw.ImageDraw, shine: ImageDraw.ImageDraw, building: Building, w: int, h: int, ground: int) -> None:
    rng = random.Random(building.seed)
    unit = min(w, h)
    left, right = building.x * w, (building.x + building.width) * w
    top, base = ground - building.height * h, ground + 0.03 * h
    wall = shade((30, 22, 62), rng.uniform(0.8, 1.2))
    edge, thin = rng.choice(NEON), max(2, round(0.009 * unit))
    draw.rectangle((left, top, right, base), fill=wall)
    if building.tower:
        shine.line((left, base, left, top, right, top, right, base), fill=edge, width=thin)
        for x, y, dx, dy in windows(left, right, top + 0.04 * h, base - 0.05 * h, 0.075 * h):
            if rng.random() < 0.55:
                shine.rectangle((x, y, x + dx, y + dy), fill=shade(rng.choice(NEON), rng.uniform(0.35, 0.8)))
        if rng.random() < 0.7:
            x, y = rng.uniform(left, right - 0.06 * w), rng.uniform(top, (top + base) / 2)
            shine.rectangle((x, y, x + 0.035 * w, y + 0.16 * h), fill=rng.choice(NEON))
        return
    peak = 0.11 * h
    over = 0.06 * (right - left)
    roof = [(left - over, top), ((left + right) / 2, top - peak), (right + over, top)]
    draw.polygon(roof, fill=shade(wall, 0.7))
    shine.line([*roof, roof[0]], fill=edge, width=thin)
    shine.line((left, top, left, base), fill=edge, width=thin)
    shine.line((right, top, right, base), fill=edge, width=thin)
    middle, door = (left + right) / 2, (right - left) * 0.18
    shine.rectangle((middle - door / 2, base - 0.1 * h, middle + door / 2, base), fill=shade(rng.choice(NEON), 0.6))
    for share in (0.2, 0.8):
        x, y, r = left + share * (right - left), top + 0.3 * (base - top), 0.1 * (right - left)
        shine.rectangle((x - r, y - r, x + r, y + r), fill=rng.choice(NEON))


def _neon_tree(draw: ImageDraw.ImageDraw, shine: ImageDraw.ImageDraw, tree: Tree, w: int, h: int, foot: int, rng: random.Random) -> None:
    unit = min(w, h)
    x, top = tree.x * w, foot - tree.height * h
    trunk, tone = 0.012 * unit, rng.choice(NEON)
    draw.rectangle((x - trunk, (top + foot) / 2, x + trunk, foot), fill=(20, 14, 40))
    thin = max(2, round(0.01 * unit))
    if tree.pointed:
        half = 0.09 * unit
        draw.polygon([(x, top), (x - half, foot - 0.2 * (foot - top)), (x + half, foot - 0.2 * (foot - top))], fill=(16, 34, 56))
        shine.line(
            [(x, top), (x - half, foot - 0.2 * (foot - top)), (x + half, foot - 0.2 * (foot - top)), (x, top)], fill=tone, width=thin
        )
        return
    r = 0.3 * (foot - top)
    draw.ellipse((x - r, top, x + r, top + 2.1 * r), fill=(18, 30, 56))
    shine.ellipse((x - r, top, x + r, top + 2.1 * r), outline=tone, width=thin)
