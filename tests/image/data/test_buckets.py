"""What check says of the buckets and the split."""

from __future__ import annotations

import pytest
from builders.halves import halves, near
from loraforge_image.data.buckets import Bucket, assign, buckets, fit
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
