# SPDX-License-Identifier: Apache-2.0
"""Ranks for parts of a model: ``block_ranks: [down_blocks.2=16, mid_block=32, up_blocks.0.attentions.1=0]``. Without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from ..messages import speaker
from ..terminal import first_few

say = speaker(__name__)

LARGEST_RANK = 512
_PART = r"(?:[\w*]+|\d+-\d+)"
_ENTRY = re.compile(rf"\s*({_PART}(?:\.{_PART})*)\s*[=＝]\s*(\d{{1,4}})\s*")


@dataclass(frozen=True)
class BlockRank:
    """One entry.

    Attributes:
        place: a run of the parts of a layer's path: ``layers.0-15``, ``attn2``, ``up_blocks.*.resnets``.
        rank: of every layer there; 0 leaves them out.
    """

    place: str
    rank: int

    def fits(self, path: str) -> bool:
        """Whether the layer called ``path`` lies there."""
        wanted, found = self.place.split("."), path.split(".")
        starts = range(len(found) - len(wanted) + 1)
        return any(all(map(_is_part, wanted, found[start : start + len(wanted)])) for start in starts)


def _is_part(wanted: str, found: str) -> bool:
    span = re.fullmatch(r"(\d+)-(\d+)", wanted)
    if span is not None:
        return found.isdecimal() and int(span[1]) <= int(found) <= int(span[2])
    return re.fullmatch(re.escape(wanted).replace(r"\*", r"\w*"), found) is not None


def parse_block_rank(written: str) -> BlockRank:
    """One entry as it is written.

    Raises:
        ValueError: in words for the user, if it is none.
    """
    found = _ENTRY.fullmatch(written)
    if found is None:
        raise ValueError(
            say(
                "'{entry}' is no rank of a block. Write part=rank: down_blocks.2=16, mid_block=32, layers.0-15=8, attn2=0 (none there); "
                "a star stands for anything within a name",
                entry=written,
            )
        )
    spans = [part.split("-") for part in found[1].split(".") if "-" in part]
    if any(int(low) > int(high) for low, high in spans):
        raise ValueError(say("'{entry}' counts from a higher number to a lower one", entry=written))
    if int(found[2]) > LARGEST_RANK:
        raise ValueError(say("'{entry}': the rank must be at most {most}", entry=written, most=LARGEST_RANK))
    return BlockRank(found[1], int(found[2]))


def apply_block_ranks(ranks: Mapping[str, int], entries: Sequence[str], *, strict: bool = True) -> dict[str, int]:
    """The layers with the ranks that ``block_ranks`` gives them, without those that it leaves out; of several entries that fit a layer the
    last holds.

    Args:
        ranks: the layers that would get an adapter, by full name.
        strict: whether they are all of the base's.

    Raises:
        ConfigError: if they are, and an entry changes nothing, or no layer is left; it lists what there is.
    """
    if not entries:
        return dict(ranks)
    parsed = [parse_block_rank(entry) for entry in entries]
    found, used, fitting = dict(ranks), set(), set()
    for name in ranks:
        fits = [number for number, entry in enumerate(parsed) if entry.fits(name)]
        fitting.update(fits)
        if fits:
            used.add(fits[-1])
            found[name] = parsed[fits[-1]].rank
    problems = [
        say(
            "block_ranks: '{entry}' fits none of the layers that get a LoRA. There are: {have}.",
            entry=entries[number],
            have=first_few(_blocks(ranks), 12),
        )
        for number in range(len(parsed))
        if number not in fitting
    ]
    problems += [
        say("block_ranks: '{entry}' changes nothing, as later entries fit all its layers. Put the wider one first.", entry=entries[number])
        for number in sorted(fitting - used)
    ]
    left = {name: rank for name, rank in found.items() if rank}
    if not left and not problems:
        problems.append(say("block_ranks: no layer is left that would get a LoRA."))
    if problems and strict:
        raise ConfigError(problems)
    return left


def _blocks(names: Mapping[str, int]) -> list[str]:
    """What the layers' names begin with, up to the first number, with numbers that follow each other as one span."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for name in names:
        found = re.match(r"(.*?\.)(\d+)(?=\.|$)", name)
        start, number = (found[1], found[2]) if found else (name.rpartition(".")[0] or name, "")
        numbers.setdefault((start, "n" if number else ""), []).extend([int(number)] if number else [])
    lines = []
    for (start, _), seen in numbers.items():
        low, high = (min(seen), max(seen)) if seen else (0, 0)
        lines.append(f"{start}{low}" if seen and low == high else f"{start}{low}-{high}" if seen else start)
    return lines
