# SPDX-License-Identifier: Apache-2.0
"""How every chart looks: colours, lines, marks, letters, what stands above and below. Drawn into files, never on a screen.

The colours are those of Okabe and Ito (2008), which the common kinds of colour blindness leave apart; no line is told from another by its
colour alone, so that a grey print can be read too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from .errors import printable
from .fonts import font_files, quiet_matplotlib
from .messages import language, speaker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, BLUE, SKY, GREEN, VERMILLION, PURPLE = "#000000", "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7"
GREY = "#595959"
# What is drawn in the same way in every chart.
TRAIN: Mapping[str, Any] = {"color": BLUE, "linewidth": 2.2, "linestyle": "-", "solid_capstyle": "round", "zorder": 3}
RAW: Mapping[str, Any] = {"color": SKY, "linewidth": 0.8, "alpha": 0.55, "zorder": 1}
HELD_OUT: Mapping[str, Any] = {
    **{"color": VERMILLION, "linewidth": 1.8, "linestyle": (0, (5, 2)), "zorder": 4},
    **{"marker": "o", "markersize": 5.5, "markerfacecolor": "white", "markeredgewidth": 1.6},
}
STAR: Mapping[str, Any] = {
    **{"color": GREEN, "linestyle": "", "marker": "*", "markersize": 16, "zorder": 6},
    **{"markeredgecolor": BLACK, "markeredgewidth": 0.9},
}

WIDTH = 6.4  # inches; letters of 11 points are read on a phone that is 360 points wide, and at their own size on paper
_DPI = 160
_LINE = 0.215  # inches between two lines of small letters
_CELLS = 80  # of letters of text that one line holds; Chinese ones take two
SMALL, _TEXT, _LARGE = 9.5, 10.5, 15.0
_OWN = "DejaVu Sans"  # comes with matplotlib
_HAN = "训练损失留出样本"  # what a font of Chinese must have
# In English, which every font can write.
ADVICE = (
    "No font on this computer has some letters of this chart, which are left out, or English instead: install Noto Sans CJK, or run "
    "pip install 'loraforge[fonts]'."
)


@dataclass(frozen=True)
class About:
    """What is said of a chart besides its curves.

    Attributes:
        title: what it shows.
        run: the name of the run; as long, and of whatever signs, as its user made it.
        began: when the run began, in seconds since 1970. Not the time of drawing: one run gives one picture.
        summary: the chart in words, for whoever cannot see it; it goes into the file.
    """

    title: str
    run: str = ""
    began: float | None = None
    summary: str = ""


def name_of(folder: Path) -> str:
    """The name of the run in a folder, which may be given as ``.``."""
    return Path(os.path.abspath(folder)).name


@contextlib.contextmanager
def sheet(path: Path, about: About, height: float, lines: Sequence[str] = ()) -> Iterator[Figure]:
    """A figure to draw axes into. When they are drawn it gets its heading, the names of what the first axes show, and the text below; it is
    written aside, and renamed when it is complete.

    Args:
        height: of the axes, in inches.
        lines: of text below them, see ``wrapped``.
    """
    quiet_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families, unknown = _families((_HAN if language() != "en" else "") + about.run)
    wanting = wrapped(ADVICE) if any(map(_read, unknown)) else []
    look = {"font.family": families, "text.parse_math": False, "font.size": _TEXT, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(WIDTH, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        _frame(figure, about, unknown, height, [*lines, *wanting])
        aside = path.with_name(f".{path.stem}.partial.png")
        figure.savefig(aside, metadata=_written(about))
    aside.replace(path)


def _frame(figure: Figure, about: About, unknown: frozenset[str], height: float, lines: Sequence[str]) -> None:
    """Everything around the axes, whose place is measured in inches from above."""
    handles, labels = figure.axes[0].get_legend_handles_labels() if figure.axes else ([], [])
    columns = next((n for n in (3, 2) if _fits(labels, n)), 1)
    above = 0.64 + _LINE * -(-len(labels) // columns) + (0.08 if labels else 0)
    below = 0.1 + _LINE * len(lines) if lines else 0.0
    whole = above + height + below
    figure.set_size_inches(WIDTH, whole)
    left = 0.02
    # Few fonts of Chinese are there in bold, and matplotlib says so on the screen.
    bold: dict[str, Any] = {"weight": "bold", "family": _OWN} if about.title.isascii() else {}
    figure.text(left, 1 - 0.1 / whole, about.title, size=_LARGE, va="top", **bold)
    run = figure.text(left, 1 - 0.4 / whole, "", size=SMALL, color=GREY, va="top")

    def fits(text: str) -> bool:
        run.set_text(text)
        return float(run.get_window_extent().width) < (1 - 2 * left) * WIDTH * _DPI

    run.set_text(_subtitle(about, unknown, fits))
    if labels:
        figure.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(left, 1 - 0.64 / whole), ncols=columns, frameon=False, fontsize=SMALL,
            handlelength=2.6, columnspacing=1.6, borderaxespad=0, borderpad=0,
        ).set_in_layout(False)  # fmt: skip
    if lines:
        figure.text(left, (below - 0.06) / whole, "\n".join(lines), size=_TEXT, va="top", linespacing=1.4)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, below / whole, 1, height / whole), w_pad=0.08)  # type: ignore[call-arg]


def label(axes: Any, across: str, up: str) -> None:
    """What the axes show, and a faint grid."""
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3, linewidth=0.7)


def plain_ticks(axis: Any, *, logarithmic: bool = False) -> None:
    """Numbers as people write them, not powers and offsets."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if logarithmic:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


# --- words -----------------------------------------------------------------------------------------------------------------


def readable() -> bool:
    """Whether a font of this computer has the letters of the user's language."""
    return language() == "en" or not _families(_HAN)[1]


def _read(sign: str) -> bool:
    """Whether a character must be seen: a pictograph need not."""
    return unicodedata.category(sign) not in ("So", "Sk", "Cf", "Cc", "Mn", "Me", "Cn", "Co", "Cs")


def words(module: str) -> Callable[..., str]:
    """``say`` for charts: in English where no font has the letters of the user's language."""
    return speaker(module) if readable() else str.format


def wrapped(text: str) -> list[str]:
    """Lines of small letters for the text below a chart; Chinese may be broken after any character."""
    text, first, then = printable(text), "• ", "  "
    if _cells(text) == len(text):
        return textwrap.wrap(text, _CELLS, initial_indent=first, subsequent_indent=then)
    lines, used = [first], len(first)
    for part in re.findall(r"[!-~]+|.", text):
        if used + _cells(part) > _CELLS and part not in "，。；：、）”》":
            kept = lines[-1].rstrip("（“《")  # no line ends with an opening bracket
            lines[-1], moved = kept, lines[-1][len(kept) :]
            lines.append(then + moved)
            used = _cells(lines[-1])
        lines[-1] += part
        used += _cells(part)
    return lines


def _cells(text: str) -> int:
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def _fits(labels: Sequence[str], columns: int) -> bool:
    """Whether a legend is no wider than the sheet: its first columns have one label more where the number does not come out even."""
    each, more = divmod(len(labels), columns)
    sizes = [each + (i < more) for i in range(columns)]
    wide = [max(map(_cells, labels[sum(sizes[:i]) : sum(sizes[: i + 1])]), default=0) for i in range(columns)]
    return sum(wide) + 8 * columns <= _CELLS + 6


def _subtitle(about: About, unknown: frozenset[str], fits: Callable[[str], bool]) -> str:
    """The run and its date in one line; a name that is too long loses its middle, and for letters that no font has stand dots."""
    when = _date(about.began, "%Y-%m-%d %H:%M")
    name = printable(about.run)
    name = re.sub(r"…(?:\W*…)*", "…", "".join(sign if sign not in unknown else "…" if _read(sign) else "" for sign in name))
    name = " ".join(name.split())

    def line(kept: int) -> str:
        short = name if kept >= len(name) else f"{name[: -(-kept // 2)]}…{name[len(name) - kept // 2 :]}"
        return "  ·  ".join(part for part in (short, when) if part)

    low, high = 1, len(name)  # the most characters that fit
    while low < high and not fits(line(high)):
        middle = (low + high) // 2
        low, high = (middle, high - 1) if fits(line(middle)) else (low, middle)
    return line(high)


def _date(moment: float | None, how: str) -> str:
    """A moment in local time; nothing where a log holds a number that is none."""
    try:
        return time.strftime(how, time.localtime(moment)) if moment is not None else ""
    except (OverflowError, ValueError, OSError):
        return ""


def _written(about: About) -> dict[str, str]:
    """What the file says of itself."""
    when = _date(about.began, "%Y-%m-%dT%H:%M:%S%z")
    said = {"Title": about.title, "Source": printable(about.run), "Creation Time": when, "Description": about.summary}
    return {"Software": "LoRAForge", **{key: value for key, value in said.items() if value}}


# --- letters ---------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _families(text: str) -> tuple[list[str], frozenset[str]]:
    """The names of the fonts that have the characters of ``text``, matplotlib's own first; and the characters that none has."""
    from matplotlib import font_manager

    names = [_OWN]
    missing = {sign for sign in printable(text) if not sign.isspace()} - _signs(font_manager.findfont(_OWN))
    for file in font_files() if missing else ():
        if missing and missing & _signs(file):
            missing -= _signs(file)
            names.append(_called(file))
    return names, frozenset(missing)


@functools.lru_cache(maxsize=512)
def _signs(file: str) -> frozenset[str]:
    """The characters that a font file has; none where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _called(file: str) -> str:
    """The name by which matplotlib finds a font file."""
    from matplotlib import font_manager

    known = next((font.name for font in font_manager.fontManager.ttflist if font.fname == file), None)
    if known is None:
        before = len(font_manager.fontManager.ttflist)
        font_manager.fontManager.addfont(file)
        known = font_manager.fontManager.ttflist[before].name  # a collection may add several
    return str(known)
