# SPDX-License-Identifier: Apache-2.0
"""The checks together: the shipped pictures have no finding, each picture is decoded once, nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from builders.image_checks import CHECKS, CYBERPUNK, row, run_check, scene, shipped
from loraforge_image.data import perceptual_hash
from loraforge_image.data.pictures import read_picture
from loraforge_image.data.vision import sharpness
from loraforge_image.task import IMAGE
from PIL import Image

from loraforge.plan import make_plan


@pytest.mark.parametrize("name", list(CHECKS))
def test_the_shipped_pictures_have_no_finding(name):
    data = shipped()
    assert len(data) == 64 and run_check(name, data, trigger_word="cyberpunk style", resolution=128, bucket_step=32) == []


def test_the_checks_are_part_of_the_task(host):
    assert set(host.components("loraforge_checks", "image")) == set(CHECKS)
    assert {check.task for check in CHECKS.values()} == {"image"}


def test_a_picture_is_decoded_once_for_checks_split_and_buckets(tmp_path, gallery, host, monkeypatch):
    from loraforge.data import dataset

    decoded: list[str] = []
    real = perceptual_hash.read_whole
    monkeypatch.setattr(
        "loraforge_image.data.perceptual_hash.read_whole", lambda path, least=0: (decoded.append(str(path)), real(path, least))[1]
    )
    config = gallery()
    dataset.load_data(make_plan(host, "image", config))
    assert len(decoded) == 6
    dataset.load_data(make_plan(host, "image", config))
    assert len(decoded) == 6
    scene(1).save(tmp_path / "pictures" / "0.png")
    dataset.load_data(make_plan(host, "image", config))
    assert len(decoded) == 7


def test_a_large_jpeg_is_decoded_small_and_measured_the_same(tmp_path):
    path = tmp_path / "large.jpg"
    scene(3, (4000, 3000)).save(path, quality=90)
    started = time.process_time()
    seen = perceptual_hash.picture_info(str(path))
    quick = time.process_time() - started
    started = time.process_time()
    whole = read_picture(path)
    slow = time.process_time() - started
    assert (seen.width, seen.height) == whole.size == (4000, 3000)
    # Whether 4 or 16 pixels are averaged before the hash changes next to nothing.
    reference = tmp_path / "large.png"
    whole.save(reference, compress_level=1)
    assert seen.distance(perceptual_hash.picture_info(str(reference))) <= 2
    assert seen.sharpness == pytest.approx(sharpness(whole), rel=0.15)
    assert quick < 2 * slow


def test_a_phones_picture_has_its_size_the_right_way_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(1, (320, 240)).save(tmp_path / "a.jpg", exif=exif)
    seen = perceptual_hash.picture_info(str(tmp_path / "a.jpg"))
    assert (seen.width, seen.height) == (240, 320) and not seen.problem


def test_a_damaged_picture_is_a_problem_and_no_finding(tmp_path):
    for suffix in ("jpg", "png"):
        path = tmp_path / f"cut.{suffix}"
        scene(1, (2000, 1500)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "damaged" in perceptual_hash.picture_info(str(path)).problem
    data = [row(None, tmp_path / "cut.jpg"), row(None, tmp_path / "cut.png")]
    assert [f for name in ("duplicates", "blur", "small", "personal_data") for f in run_check(name, data)] == []
    assert IMAGE.fingerprint is not None and IMAGE.fingerprint(data[0]) != IMAGE.fingerprint(data[1])


def test_different_pictures_are_no_finding_of_any_check(tmp_path):
    for i in range(40):
        scene(i, (640, 480)).save(tmp_path / f"{i}.jpg")
    data = [row(None, tmp_path / f"{i}.jpg", f"a scene with {i} patches") for i in range(40)]
    assert [f for name in CHECKS for f in run_check(name, data)] == []


def test_no_check_imports_torch():
    code = (
        "import sys\nfrom loraforge_image.checks import checks\nfrom loraforge_image.task import IMAGE\n"
        "from loraforge_image.data.perceptual_hash import picture_info\n"
        f"picture_info({str(CYBERPUNK / 'neon-01.png')!r})\nchecks()\nassert not {{'torch', 'transformers'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
