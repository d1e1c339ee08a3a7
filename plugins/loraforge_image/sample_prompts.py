# SPDX-License-Identifier: Apache-2.0
"""The entries of ``sample_prompts``: a prompt, and behind it what this picture is drawn with, as sd-scripts writes it.

a street at night --n blurry --w 512 --h 768 --d 7 --l 5.5 --s 30
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import speaker

say = speaker(__name__)

_FLAG = re.compile(r"(?:^|\s)--([A-Za-z]\w*)(?=\s|=|$)[ \t]*=?")


@dataclass(frozen=True)
class SamplePrompt:
    """One picture that is drawn at every save. What is None is as for all the others.

    Attributes:
        prompt: the text alone.
        negative: what it should not show.
        width, height: in pixels.
    """

    prompt: str
    negative: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    cfg: float | None = None
    steps: int | None = None

    def size(self, usual: tuple[int, int], multiple: int) -> tuple[int, int]:
        """(width, height) in whole multiples, rounded down."""
        sides = (self.width or usual[0], self.height or usual[1])
        return (max(multiple, sides[0] // multiple * multiple), max(multiple, sides[1] // multiple * multiple))


# By flag: the attribute, the kind of number, the least and the most.
_NUMBERS: dict[str, tuple[str, Callable[[str], Any], float, float]] = {
    "w": ("width", int, 64, 4096),
    "h": ("height", int, 64, 4096),
    "d": ("seed", int, 0, 2**32 - 1),
    "l": ("cfg", float, 1, 30),
    "s": ("steps", int, 1, 200),
}
_MEANING = "--n negative, --w width, --h height, --d seed, --l cfg, --s steps"


def has_flags(entry: str) -> bool:
    """Whether a flag stands in it that ``parse`` knows, with a value behind it."""
    found = _FLAG.split(entry)
    return any(name.lower() in ("n", *_NUMBERS) and text.strip() for name, text in zip(found[1::2], found[2::2], strict=True))


def parse(entry: str) -> SamplePrompt:
    """What an entry says.

    Raises:
        ValueError: with everything that is wrong with it.
    """
    parts = _FLAG.split(entry)
    prompt, flags = parts[0].strip(), list(zip(parts[1::2], parts[2::2], strict=True))
    problems, found = [], dict[str, Any]()
    if not prompt:
        problems.append(say("there is no prompt before the flags"))
    for name, text in flags:
        value, flag = text.strip(), name.lower()
        if flag == "n":
            attribute, read = "negative", value
        elif flag in _NUMBERS:
            attribute, kind, least, most = _NUMBERS[flag]
            try:
                read = kind(value)
            except ValueError:
                problems.append(say("--{flag} wants a number; got '{value}'", flag=name, value=value))
                continue
            if not least <= read <= most:
                bounds = {"least": f"{least:g}", "most": f"{most:.10g}"}
                problems.append(say("--{flag} must be from {least} to {most}; got {value}", flag=name, value=value, **bounds))
                continue
        else:
            problems.append(say("there is no flag --{flag}; there are: {flags}", flag=name, flags=_MEANING))
            continue
        if attribute in found:
            problems.append(say("--{flag} is given twice", flag=name))
        found[attribute] = read
    if problems:
        raise ValueError("; ".join(problems))
    return SamplePrompt(prompt, **found)


def parse_all(entries: Sequence[str]) -> list[SamplePrompt]:
    """What all entries say.

    Raises:
        ValueError: naming every entry that is wrong.
    """
    found, problems = [], []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(parse(entry))
        except ValueError as error:
            shown = entry if len(entry) <= 60 else f"{entry[:57]}..."
            problems.append(say("entry {number} ('{entry}'): {problem}", number=number, entry=shown, problem=error))
    if problems:
        raise ValueError("; ".join(problems))
    return found


def remarks(entries: Sequence[str], negative: str, side: int, multiple: int, guided: bool) -> list[str]:
    """What should be known of the sample pictures before they are drawn: sizes that are rounded, and what changes nothing.

    Args:
        negative: ``sample_negative``.
        side: in pixels, of the pictures that say nothing else.
        guided: whether the base draws with guidance.
    """
    lines, asked = [], parse_all(entries)
    for number, one in enumerate(asked, 1):
        wanted, drawn = (one.width or side, one.height or side), one.size((side, side), multiple)
        if (one.width or one.height) and wanted != drawn:
            lines.append(
                say(
                    "sample_prompts, entry {number}: {wanted} is drawn as {drawn}, in multiples of {unit}",
                    number=number,
                    wanted="x".join(map(str, wanted)),
                    drawn="x".join(map(str, drawn)),
                    unit=multiple,
                )
            )
    if not guided and (negative or any(one.negative for one in asked)):
        lines.append(say("this base draws without guidance: sample_negative and --n change nothing in the sample pictures"))
    return lines


def file_words(prompt: str, longest: int = 40) -> str:
    """A prompt's words for the name of a file: ``a-street-three-houses``."""
    text = re.sub(r"[^\w]+", "-", prompt).strip("-_")
    return text[:longest].rstrip("-_").encode()[:120].decode(errors="ignore")
