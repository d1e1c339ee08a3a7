# SPDX-License-Identifier: Apache-2.0
"""What travels through a run: record -> spans -> example -> batch -> adapter."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .adapter import Adapter as Adapter

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Review:
    """What people say of a row, beside what the row itself says.

    Attributes:
        reviewer: who looked at it; empty if nobody did.
        approved: what they decided; None if the data do not say.
        waived: the names of checks whose findings on this row were looked at and accepted.
    """

    reviewer: str = ""
    approved: bool | None = None
    waived: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether somebody answers for the row: it is approved, or, where nothing says so, it names its reviewer."""
        return self.approved if self.approved is not None else bool(self.reviewer)


@dataclass(frozen=True)
class Record:
    """One row of the user's data. Tasks derive their own: a conversation, a picture with its caption.

    Attributes:
        where: what the user calls this row: ``metadata.csv, row 12``. It is not part of what the row says.
        repeats: how often one pass over the data shows it.
        review: what people say of it.
        side: where the data themselves say what is learned and what is only asked, which of the two it is.
        group: what the column says that ``split_by`` names: rows of one group stand on one side. None: nothing.
    """

    where: str = field(compare=False, kw_only=True)
    repeats: int = field(default=1, compare=False, kw_only=True)
    review: Review = field(default=Review(), compare=False, kw_only=True)
    side: Literal["train", "held-out"] | None = field(default=None, compare=False, kw_only=True)
    group: str | None = field(default=None, compare=False, kw_only=True)

    @property
    def can_be_held_out(self) -> bool:
        """Whether the row may be held out; False for rows that are there for something else than being learned."""
        return True

    def content(self) -> dict[str, Any]:
        """What the row says, without where it stands and what is said of it: plain values that JSON can hold."""
        values = dataclasses.asdict(self)
        del values["where"], values["repeats"], values["review"], values["side"], values["group"]
        return values

    def content_hash(self) -> str:
        """SHA-256 (hex) of the content: equal for equal rows, wherever they stand."""
        text = json.dumps(self.content(), ensure_ascii=False, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Span:
    """A stretch of the text that the model sees.

    Attributes:
        text: the characters.
        learn: whether the model is trained to produce them.
    """

    text: str
    learn: bool = False


def prompt_of(spans: Sequence[Span]) -> str:
    """The text that stands before the last learned span: what the model is given before it answers."""
    learned = [i for i, span in enumerate(spans) if span.learn]
    end = learned[-1] if learned else len(spans)
    return "".join(span.text for span in spans[:end])


class Answer(str):
    """An answer that is text.

    Attributes:
        stopped: whether the model ended it by itself; False if it was cut at the longest length allowed, or for repeating itself.
        repeats: whether it was ended because it only repeated itself.
    """

    stopped: bool
    repeats: bool

    def __new__(cls, text: str, stopped: bool = True, repeats: bool = False) -> Answer:
        made = super().__new__(cls, text)
        made.stopped, made.repeats = stopped, repeats
        return made

    @property
    def ended(self) -> str:
        """What ended it: ``stop``, ``limit`` or ``repetition``."""
        return "repetition" if self.repeats else "stop" if self.stopped else "limit"


@dataclass(frozen=True)
class Lesson:
    """One answer that a record teaches.

    Attributes:
        key: equal answers have equal keys.
        features: as those of ``Fingerprint``.
        short: whether it may be a class's name, such as yes and no: then only an equal answer is the same, and none where many
            questions have it.
        numbers: those that it names. Two answers of which each names one that the other does not are two answers, however alike they
            are: one form filled in with another article or dose.
    """

    key: str
    features: frozenset[Hashable]
    short: bool = False
    numbers: frozenset[str] = frozenset()


class Looks(Protocol):
    """What near-identical records are told by where features do not do: pictures, say."""

    def earlier(self, all: Sequence[Any]) -> Iterator[Sequence[int]]:
        """For every one of ``all`` in turn (the ``looks`` of all records, or None), the earlier ones it is near-identical to, the nearest
        first. Asked of one of them."""
        ...


@dataclass(frozen=True)
class Fingerprint:
    """What a record asks and teaches, for telling near-identical records.

    Attributes:
        key: decides the side of the split: equal keys stand on one side, in every run and however the data grow.
        features: two records whose features overlap by ``similarity.NEAR`` (Jaccard) or more ask the same.
        others: features of what else it asks: the earlier questions of a conversation, a mirrored picture. Records are near-identical
            where any of the one are near any of the other.
        floor: from so many features on it is near-identical to a record that contains nearly all of them; 0: never.
        lessons: the answers that it teaches; none where the question is all there is.
        looks: tells near-identical records instead of the features.
    """

    key: str
    features: frozenset[Hashable]
    others: tuple[frozenset[Hashable], ...] = ()
    floor: int = 0
    lessons: tuple[Lesson, ...] = ()
    looks: Looks | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class File:
    """An answer that is no text: a picture, say.

    Attributes:
        data: the file's bytes.
        suffix: ``.png``.
    """

    data: bytes = field(repr=False)
    suffix: str


Example: TypeAlias = Mapping[str, Any]
"""What a trainable model makes of one record: names to tensors or plain values. Only the model looks inside."""
Batch: TypeAlias = Mapping[str, Any]
"""What it makes of several: tensors of shape (examples, ...), or plain values. Only the model looks inside."""


class TrainableLora(Protocol):
    """A LoRA that sits on a model, as the core sees it; ``loraforge.adapters.lora.inject`` returns one.

    Attributes:
        model: the module that it sits on.
        initial: tensors that the base's weights were reduced by (PiSSA); otherwise empty.
    """

    model: torch.nn.Module
    initial: dict[str, Tensor]

    def layers(self) -> Iterator[tuple[str, Any]]:
        """The adapted modules by full name."""

    def count(self) -> tuple[int, int]:
        """(trained, all) parameters."""

    def rate(self, name: str) -> float:
        """The learning rate of the parameter called ``name``."""

    def adapter(
        self, base_folder: str | None = None, facts: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
    ) -> Adapter:
        """What has been learned so far, detached."""
