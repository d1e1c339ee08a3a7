# SPDX-License-Identifier: Apache-2.0
"""Which fonts are looked into, and in which order."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
from builders.fonts import make_font

from loraforge import charts, font_files, fonts


@pytest.fixture
def system(monkeypatch):
    """``system(paths)``: the fonts that the computer has."""

    def have(*paths):
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: list(paths))
        font_files.cache_clear()

    yield have
    font_files.cache_clear()
    charts._families.cache_clear()


def test_known_fonts_of_many_scripts_come_first_and_bold_ones_last(system):
    system("/f/zebra.ttf", "/f/NotoSansCJK-Bold.ttc", "/f/DejaVuSans.ttf", "/f/msyh.ttc", "/f/NotoSansCJK-Regular.ttc")
    found = [path.rpartition("/")[2] for path in font_files() if path.startswith("/f/")]
    assert found == ["NotoSansCJK-Regular.ttc", "msyh.ttc", "DejaVuSans.ttf", "zebra.ttf", "NotoSansCJK-Bold.ttc"]


def test_the_font_of_the_extra_is_found_and_charts_are_chinese_with_it(system, tmp_path, monkeypatch):
    place = tmp_path / fonts._EXTRA
    place.mkdir()
    (place / "__init__.py").touch()
    (tmp_path / "no font.ttf").write_bytes(b"no font")
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    system(str(tmp_path / "no font.ttf"))
    charts._families.cache_clear()
    assert font_files() == (str(tmp_path / "no font.ttf"),) and not charts.readable()
    make_font(place / "NotoSansCJKtc-Regular.otf", charts._HAN)
    font_files.cache_clear()
    charts._families.cache_clear()
    assert str(place / "NotoSansCJKtc-Regular.otf") in font_files() and charts.readable()
    assert charts.words("loraforge.diagnosis.curves")("held-out examples") == "留出样本"


def test_matplotlib_says_nothing_of_its_own(tmp_path):
    """A fresh computer whose folder of settings cannot be written to: matplotlib's two remarks would stand in the midst of a training."""
    (tmp_path / "file").touch()
    code = (
        "from loraforge import font_files; import logging; font_files(); logging.getLogger('matplotlib.font_manager').warning('building')"
    )
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "file" / "below")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, encoding="utf-8")
    assert done.returncode == 0 and done.stderr == ""
