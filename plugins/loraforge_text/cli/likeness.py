# SPDX-License-Identifier: Apache-2.0
"""Whose answers a server gives: the adapter's, the base's, or somebody else's; told by what the run answers on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import LoadedRun, speaker

from .servers import ModelServer

say = speaker(__name__)

MOST = 64  # tokens of an answer that are compared


@dataclass(frozen=True)
class Likeness:
    """The answers of a server beside those of this machine.

    Attributes:
        answers: how many were compared.
        same: of these, letter for letter the adapter's.
        nearer: that go with the adapter's for longer than with the base's, or are the adapter's.
        as_base: that are the base's, where adapter and base differ, or go with the base's for longer.
        told: on how many of the prompts adapter and base differ, so that they can be told apart.
    """

    answers: int
    same: int
    nearer: int
    as_base: int
    told: int

    @property
    def fits(self) -> bool:
        """Whether the server answers as the adapter does. Other rounding, or a quantised base, makes answers part late; another adapter or
        template makes them part at once."""
        return self.same == self.answers or (self.told > 0 and self.nearer * 2 > self.told and self.nearer > self.as_base)

    @property
    def sentence(self) -> str:
        """What it comes to, and what to do."""
        if not self.told:
            return say(
                "{same} of {n} answers are those of the adapter on this machine. Adapter and base answer these prompts alike, so which "
                "of them the server has cannot be told.",
                same=self.same,
                n=self.answers,
            )
        if self.same == self.answers:
            return say("All {n} answers are letter for letter those of the adapter on this machine.", n=self.answers)
        if self.fits:
            return say(
                "The server answers with the adapter: {same} of {n} answers are letter for letter those of this machine, and "
                "{nearer} of the {told} that can tell go with the adapter's rather than the base's. The rest is another rounding or a "
                "quantised base; ask some held-out questions again if that matters.",
                same=self.same,
                n=self.answers,
                nearer=self.nearer,
                told=self.told,
            )
        if self.as_base * 2 > self.told:
            return say(
                "The server answers with the base: {n} of the {told} answers that can tell go with the base's. The adapter is not loaded, "
                "switched off, or the model's name is the base's.",
                n=self.as_base,
                told=self.told,
            )
        return say(
            "The answers are neither the adapter's nor the base's: {same} of {n} are those of this machine. The server has another "
            "adapter, another base, another template or system prompt, or does not take the likeliest word.",
            same=self.same,
            n=self.answers,
        )


def compare(asked: ModelServer, opened: LoadedRun, prompts: Sequence[Mapping[str, Any]]) -> tuple[Likeness, list[tuple[int, int, int]]]:
    """Has server, adapter and base answer the golden prompts.

    Returns:
        whose the answers are; and of each prompt of which the server counts other tokens than were trained, (its number, trained, counted).
    """
    replies = [asked.answer(prompt, MOST) for prompt in prompts]
    counted = [
        (number, len(prompt["ids"]), reply.counted)
        for number, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))
        if reply.counted is not None and reply.counted != len(prompt["ids"])
    ]
    adapters = opened.adapters()
    model = opened.inference_model(adapters)
    texts = [str(prompt["text"]) for prompt in prompts]
    ours, base = ([_whole(str(answer)) for answer in model.generate(texts, side, max_tokens=MOST)] for side in (next(iter(adapters)), None))
    return judge([_whole(reply.text) for reply in replies], ours, base), counted


def judge(theirs: Sequence[str], ours: Sequence[str], base: Sequence[str]) -> Likeness:
    """Whose the answers ``theirs`` are; ``ours`` and ``base``: the adapter's and the base's to the same prompts on this machine."""
    told = nearer = as_base = 0
    for their, mine, its in zip(theirs, ours, base, strict=True):
        if mine == its:
            continue
        told += 1
        with_mine, with_base = (_together(their, one) for one in (mine, its))
        nearer += with_mine > with_base
        as_base += with_base > with_mine
    same = sum(their == mine for their, mine in zip(theirs, ours, strict=True))
    return Likeness(len(theirs), same, nearer, as_base, told)


def _together(one: str, other: str) -> float:
    """How many characters two answers go together from the start; without end if they are equal."""
    if one == other:
        return float("inf")
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _whole(text: str) -> str:
    """An answer without the halves of characters that a limit or a model leaves: some servers drop them, some show them as U+FFFD."""
    return text.replace("\ufffd", "").strip()
