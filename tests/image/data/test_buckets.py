# SPDX-License-Identifier: Apache-2.0
"""What check says of the buckets and the split."""

from __future__ import annotations

import pytest
from builders.halves import halves, near
from loraforge_image.data.buckets import Bucket, assign, buckets, choose, examine_pictures, fit, own_bucket
from loraforge_image.records import ImageKeys, Picture
from PIL import Image, ImageDraw

from loraforge import RunConfig


def plan_line(gallery, host, **values):
    from loraforge.data.dataset import load_data
    from loraforge.plan import make_plan

    return load_data(make_plan(host, "image", gallery(**values))).examination.lines[0]


def test_the_plan_says_what_is_held_out(gallery, host):
    start = "6 pictures, 60 with repeats; x 3 epochs / batch 2 = 90 steps"
    line = plan_line(gallery, host, epochs=3, repeats=10, eval_ratio=0.2)
    assert line == f"{start} if all were learned; about 20% are held out (eval_ratio), which leaves about 72"
    assert plan_line(gallery, host, epochs=3, repeats=10, eval_ratio=0) == start


def test_pictures_of_the_class_are_not_held_out(tmp_path):
    from builders.tiny_images import draw_pictures
    from loraforge_image.data.buckets import examine_pictures

    folder = draw_pictures(tmp_path / "p")
    rows = [(Picture(where="x", path=str(folder / f"{i}.png"), prior=i > 2, repeats=10), None) for i in range(6)]
    config = RunConfig(train_data_dir="x", base_model="y", epochs=1, batch_size=1, gradient_accumulation=1, eval_ratio=0.5)
    assert examine_pictures(config, ImageKeys(resolution=64, bucket_step=16), rows).lines[0].endswith("leaves about 45")


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (1024, 64), (128, 32), (768, 64)])
def test_buckets_hold_at_most_the_area_and_come_in_pairs(resolution, step):
    found = buckets(resolution, step, 2.0)
    assert Bucket(resolution, resolution) in found and len(found) == len(set(found)) > 2
    for bucket in found:
        assert bucket.width % step == bucket.height % step == 0 and bucket.width * bucket.height <= resolution * resolution
        assert Bucket(bucket.height, bucket.width) in found and max(bucket.width / bucket.height, bucket.height / bucket.width) <= 2


def test_pictures_go_to_the_nearest_shape():
    found = buckets(512, 64, 2.0)
    assert assign((1000, 1000), found) == Bucket(512, 512)
    wide = assign((1600, 900), found)
    assert abs(wide.width / wide.height - 16 / 9) < 0.25 and assign((900, 1600), found) == Bucket(wide.height, wide.width)


def test_fitting_never_distorts_and_crops_where_it_is_told():
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).ellipse((100, 50, 200, 150), fill="black")
    fitted = fit(image, Bucket(64, 64))
    box = fitted.convert("L").point(lambda v: 255 if v < 128 else 0).getbbox()
    assert abs((box[2] - box[0]) - (box[3] - box[1])) <= 1
    left, right = fit(halves((400, 100)), Bucket(64, 64), (0.0, 0.5)), fit(halves((400, 100)), Bucket(64, 64), (1.0, 0.5))
    assert near(left.getpixel((32, 32)), (255, 0, 0)) and near(right.getpixel((32, 32)), (0, 0, 255))


# What BucketManager.select_bucket of sd-scripts gives with no_upscale (library/train_util.py), worked out by hand from its lines.
@pytest.mark.parametrize(
    ("resolution", "step", "size", "bucket"),
    [(512, 64, (300, 300), (256, 256)), (512, 64, (511, 400), (448, 384)), (512, 64, (512, 512), (512, 512)), (512, 64, (64, 100), (64, 64)),
     (512, 64, (1024, 1024), (512, 512)), (512, 64, (800, 600), (512, 384)), (512, 64, (1000, 700), (576, 384)), (512, 8, (1920, 1280), (624, 416)),
     (1024, 64, (900, 700), (896, 640)), (512, 64, (600, 800), (384, 512)), (512, 64, (513, 511), (512, 448))],
)  # fmt: skip
def test_pictures_that_are_never_enlarged_get_the_bucket_of_sd_scripts(resolution, step, size, bucket):
    keys = ImageKeys(resolution=resolution, bucket_step=step, bucket_no_upscale=True)
    assert own_bucket(size, keys) == Bucket(*bucket)


@pytest.mark.parametrize("resolution", [256, 512, 1000])
@pytest.mark.parametrize("step", [8, 64])
def test_no_picture_is_enlarged_or_larger_than_the_area(resolution, step):
    keys = ImageKeys(resolution=resolution, bucket_step=step, bucket_no_upscale=True, bucket_max_ratio=2)
    for width in range(step, 2000, 37):
        for height in range(step, 2000, 53):
            bucket = own_bucket((width, height), keys)
            assert bucket.width % step == bucket.height % step == 0
            if bucket.width and bucket.height:
                assert bucket.width <= width and bucket.height <= height and bucket.width * bucket.height <= (resolution + 1) ** 2
                assert max(bucket.width, bucket.height) <= 2 * min(bucket.width, bucket.height)


def test_small_pictures_are_trained_small_and_those_below_the_step_are_said(tmp_path):
    rows = []
    for name, size in (("a", (300, 200)), ("b", (50, 200)), ("c", (900, 900))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        rows.append((Picture(str(tmp_path / f"{name}.png"), "x", where=name), "x"))
    config = RunConfig(train_data_dir="x", base_model="x")
    made = examine_pictures(config, ImageKeys(bucket_no_upscale=True), rows)
    assert made.facts["buckets"] == [[256, 192, 1], [512, 512, 1]]
    assert list(made.problems) == [1] and "50x200" in made.problems[1] and "bucket_step, 64" in made.problems[1]
    made = examine_pictures(config, ImageKeys(), rows)
    assert made.facts["pictures"] == 3
    assert choose((300, 200), ImageKeys(), buckets(512, 64, 2.0)) == Bucket(640, 384)


def test_what_no_bucket_shows_is_said_from_a_fifth_on_the_worst_first(tmp_path):
    """2000x100 in 160x96 shows 100 of its 100 rows and 167 of 2000 columns: 92 % are lost. 2.5 : 1 in 2 : 1 loses a fifth."""
    sizes = {"panorama": (2000, 100), "square": (500, 500), "fits": (480, 240), "long": (500, 200), "high": (200, 700), "more": (300, 90),
             "and more": (90, 420), "most": (90, 450), "nearly": (490, 200)}  # fmt: skip
    rows = []
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        rows.append((Picture(str(tmp_path / f"{name}.png"), "x", where=name), "x"))
    keys = ImageKeys(resolution=128, bucket_step=32)
    shapes = buckets(128, 32, 2.0)
    right = {}
    for name, (width, height) in sizes.items():
        bucket = assign((width, height), shapes)
        scale = max(bucket.width / width, bucket.height / height)
        right[name] = 1 - bucket.width / (width * scale) * bucket.height / (height * scale)
    assert abs(right["panorama"] - (1 - 160 / 96 / 20)) < 1e-9 and right["square"] == 0
    worst = sorted((name for name in sizes if right[name] >= 0.2), key=lambda name: -right[name])
    config = RunConfig(train_data_dir="x", base_model="x")
    [line] = [line for line in examine_pictures(config, keys, rows).lines if "bucket_max_ratio" in line]
    assert line.startswith(f"{len(worst)} pictures lose") and "panorama (92%)" in line and len(worst) > 5
    assert ", ".join(f"{name} ({right[name]:.0%})" for name in worst[:5]) + " ..." in line
    assert not any("bucket_max_ratio" in line for line in examine_pictures(config, keys, rows[1:3]).lines)


def test_a_profile_that_cannot_be_used_is_named(tmp_path):
    rows = []
    for name, profile in (("a", b"nonsense" * 20), ("b", None)):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{name}.png", icc_profile=profile)
        rows.append((Picture(str(tmp_path / f"{name}.png"), "x", where=f"{name}.png"), "x"))
    lines = examine_pictures(RunConfig(train_data_dir="x", base_model="x"), ImageKeys(), rows).lines
    assert [line for line in lines if "sRGB" in line and "a.png" in line and "b.png" not in line]


def test_pictures_with_a_resolution_of_their_own_are_said_and_counted(tmp_path):
    Image.new("RGB", (400, 400)).save(tmp_path / "a.png")
    rows = [(Picture(str(tmp_path / "a.png"), "x", where=str(side), resolution=side), "x") for side in (None, 128, 256, 256, 32)]
    made = examine_pictures(RunConfig(train_data_dir="x", base_model="x"), ImageKeys(resolution=192), rows)
    assert made.facts["buckets"] == [[128, 128, 1], [192, 192, 1], [256, 256, 2]] and made.facts["own_area"] == 256 * 256
    assert any("128 (1), 256 (2); the others have 192" in line for line in made.lines)
    assert list(made.problems) == [4] and "its resolution, 32, is smaller than bucket_step (64)" in made.problems[4]


def test_masks_are_counted_and_those_of_another_shape_named(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    Image.new("RGBA", (100, 80)).save(tmp_path / "b.png")
    Image.new("L", (50, 40)).save(tmp_path / "m.png")
    Image.new("L", (50, 50)).save(tmp_path / "wrong.png")

    def look(*given, **keys):
        rows = [(Picture(str(tmp_path / name), "x", where=name, mask=mask and str(tmp_path / mask)), "x") for name, mask in given]
        return examine_pictures(RunConfig(train_data_dir="x", base_model="x"), ImageKeys(resolution=64, **keys), rows)

    made = look(("a.png", "m.png"), ("b.png", ""))
    assert "1 of 2 pictures has a mask; what lies outside of it counts 0.1 (unmasked_weight)" in made.lines
    assert "50x50 and 100x80" in look(("a.png", "wrong.png")).problems[0]
    assert not look(("a.png", "wrong.png"), mask="off").problems and not any("mask" in line for line in look(("a.png", "")).lines)
    assert any(line.startswith("1 of 2 pictures has a mask") for line in look(("a.png", ""), ("b.png", ""), mask="alpha").lines)
    assert any("none of the 1 picture has transparency" in line for line in look(("a.png", ""), mask="alpha").lines)
    assert any("unmasked_weight changes nothing" in line for line in look(("a.png", ""), unmasked_weight=0.5).lines)
