# SPDX-License-Identifier: Apache-2.0
"""The font files of this computer, whatever the script: what charts, contact sheets and grids are written with."""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
from pathlib import Path

# The fonts of Windows, macOS and Linux that have the most scripts, in the order of preference; then whatever there is.
_KNOWN = re.compile(
    r"NotoSansCJK|NotoSansSC|NotoSansTC|NotoSansHans|SourceHanSans|msyh|PingFang|Hiragino|STHeiti|simhei|wqy|DroidSansFallback|malgun|meiryo|"
    r"YuGoth|msgothic|AppleSDGothic|NanumGothic|simsun|Arial ?Unicode|unifont|DejaVuSans|NotoSans|segoeui|arial",
    re.IGNORECASE,
)
_EXTRA = "cvttf_NotoSansCJK_Regular"  # Noto Sans CJK, from the extra "fonts"
_MOST = 400  # files that are looked into


def quiet_matplotlib() -> None:
    """Before matplotlib is imported: it reports in English, amid what LoRAForge says, that it lists the fonts and that its folder cannot be
    written to. Neither needs doing anything about. A program that set a level of its own keeps it."""
    log = logging.getLogger("matplotlib")
    if log.level == logging.NOTSET:
        log.setLevel(logging.ERROR)


@functools.cache
def font_files() -> tuple[str, ...]:
    """The paths of the fonts that are worth a look, the likeliest to have a character first: this computer's, and the extra "fonts"."""
    quiet_matplotlib()
    from matplotlib.font_manager import findSystemFonts

    found = {str(path) for path in findSystemFonts()}
    packaged = importlib.util.find_spec(_EXTRA)
    found |= {
        str(path) for place in (packaged.submodule_search_locations or () if packaged else ()) for path in Path(place).glob("*.[ot]tf")
    }

    def rank(path: str) -> tuple[int, str]:
        name = Path(path).name
        known = _KNOWN.search(name)
        order = _KNOWN.pattern.split("|")
        place = next((i for i, one in enumerate(order) if known and re.fullmatch(one, known[0], re.IGNORECASE)), len(order))
        # Regular letters are read more easily than bold or slanted ones.
        return place + 1000 * bool(re.search("bold|black|thin|italic|oblique|light|mono|serif", name, re.IGNORECASE)), path

    return tuple(sorted(found, key=rank)[:_MOST])
