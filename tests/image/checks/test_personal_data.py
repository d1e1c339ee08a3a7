# SPDX-License-Identifier: Apache-2.0
"""Personal data in captions and in files."""

from __future__ import annotations

import pytest
from builders.image_checks import row, rows, run_check, scene, severity
from PIL import Image


@pytest.mark.parametrize(
    ("caption", "shown"),
    [("a card of zhang.san@firm.cn", "zh"), ("海报，电话13800138000", "13*******00"), ("证件110101199003071234", "11**************34")],
)
def test_personal_data_in_captions_is_found_and_masked(tmp_path, caption, shown):
    [found] = run_check("personal_data", rows(tmp_path, caption))
    assert severity("personal_data", found) == "warning" and shown in found.excerpt and "*" in found.excerpt
    assert "zhang.san" not in found.excerpt


def test_harmless_captions_are_left_alone(tmp_path):
    assert run_check("personal_data", rows(tmp_path, "a sign with 1234567, 1980s, f/1.8", "@ the beach", "写着400-800-1234的招牌")) == []


def test_what_a_camera_wrote_is_a_hint(tmp_path):
    exif = Image.Exif()
    exif[0x013B] = "Zhang San"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825).update({2: (31.0, 13.0, 30.0), 3: "E", 4: (121.0, 28.0, 0.0)})
    exif.get_ifd(0x8769)[0xA431] = "12345"
    paths = []
    for suffix in ("jpg", "png", "webp"):
        paths.append(tmp_path / f"a.{suffix}")
        scene(1).save(paths[-1], exif=exif)
    for path in paths:
        place, owner = run_check("personal_data", [row(None, path)])
        assert "GPS" in place.message and "Artist, BodySerialNumber" in owner.message and place.excerpt == path.name
        assert {severity("personal_data", f) for f in (place, owner)} == {"hint"}
        assert "Zhang" not in owner.message + owner.excerpt
