# SPDX-License-Identifier: Apache-2.0
"""Lines that fit a terminal: broken at words, in Chinese between signs, and never inside of what is copied: a path, a key, a command.

Where Chinese breaks follows the rules of its typesetters (W3C's clreq, "Prohibition rules for line start and line end"): no closing sign
begins a line, no opening one ends it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

_WIDE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001f300-\U0001faff\U00020000-\U0003ffff"
_CLOSING = "。，、；：？！）》〉】〕」』”’…—～·％.,;:?!)]}>%°×"
_OPENING = "（《〈【〔「『“‘([{<"
# What ends a path or a word of a command in Chinese text; its own brackets stand in many a file's name.
_STOP = "\\s，。；：、！？“”‘’《》「」|`"
# What stays together, whichever begins first: `code`, a quoted path, a command with its words, a path, `key: value`.
_TOGETHER = re.compile(
    r"`[^`\n]*`"
    r"|(?<![\w'])'[^'\n]*[/\\][^'\n]*'"
    r"|(?<![\w/.-])(?:loraforge|pip install|python -m|tensorboard --)"
    rf"(?: (?:'[^'\n]*'|\"[^\"\n]*\"|(?![('\"])[!-~][^{_STOP}]*(?<![.,;:])))+"
    rf"|(?<![\w/])(?:[A-Za-z]:\\|\.{{0,2}}/|~/|[A-Za-z0-9_.-]+[/\\])[^{_STOP}]+"
    r"|\[[^\]\n]{1,30}\]"
    r"|(?<![\w-])[a-z][a-z0-9_]+: (?!loraforge|pip )(?=[\w.\[-])[A-Za-z0-9_.-]+"
)
_LABEL = re.compile(r"(\s*\S(?:.{0,18}\S)??[:：]?\s{2,})\S")


def cells(text: str) -> int:
    """How many columns a text takes on a terminal: two for a Chinese sign."""
    from rich.cells import cell_len

    return cell_len(text)


def _units(text: str) -> Iterator[tuple[int, int]]:
    """The parts of one line that are not broken, with the white space in front of each left out."""
    cuts = {0, len(text)}
    kept = [found.span() for found in _TOGETHER.finditer(text)]
    for place in range(1, len(text)):
        before, after = text[place - 1], text[place]
        wide = re.match(f"[{_WIDE}]", before) or re.match(f"[{_WIDE}]", after)
        if (before.isspace() != after.isspace()) or (wide and after not in _CLOSING and before not in _OPENING):
            cuts.add(place)
    cuts = {cut for cut in cuts if not any(start < cut < end for start, end in kept)}
    ordered = sorted(cuts)
    for start, end in itertools.pairwise(ordered):
        if text[start:end].strip():
            yield start, end


def lines(text: str, width: int, first: int = 0, rest: int = 0) -> list[tuple[int, int]]:
    """Where the lines of one paragraph begin and end in it; white space between two of them belongs to none.

    Args:
        width: columns of a line. A part that is longer and may not be broken has a line to itself, which the terminal folds.
        first: columns that are taken in the first line.
        rest: and in the others.
    """
    found: list[tuple[int, int]] = []
    begun, ended = 0, 0
    for start, end in _units(text):
        room = width - (rest if found else first)
        if ended and cells(text[begun:end]) > room:
            found.append((begun, ended))
            begun = start
        ended = end
    return [*found, (begun, ended)]


def hanging(text: str, width: int) -> int:
    """By how many columns the further lines of a paragraph stand in: under its text, where a label that is not too wide stands in front."""
    indent = cells(text) - cells(text.lstrip())
    label = _LABEL.match(text)
    if label is None:
        return indent
    return cells(label[1]) if cells(label[1]) <= width // 3 else indent + 2


def wrap(text: str, width: int, first: str = "", rest: str | None = None) -> str:
    """A text of several paragraphs in lines of at most ``width`` columns.

    Args:
        first: what stands in front of the first line.
        rest: and of the others; by default each paragraph hangs under its own text.
    """
    done = []
    for number, paragraph in enumerate(text.split("\n")):
        front = (first if number == 0 else rest or "") if rest is not None else first
        under = rest if rest is not None else first + " " * hanging(paragraph, width)
        for line, (start, end) in enumerate(lines(paragraph, width, cells(front), cells(under))):
            done.append(((under if line else front) + paragraph[start:end]).rstrip())
    return "\n".join(done)
