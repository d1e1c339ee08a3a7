# SPDX-License-Identifier: Apache-2.0
"""A base model as the core sees it: what it needs, what the loop trains, what answers. Importing this module imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .types import Batch, Example, File, Span, TrainableLora

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Examination:
    """What a look at the data showed before any model was loaded.

    Attributes:
        problems: rows that cannot be trained on, with the reason, by index of the rows examined.
        facts: figures for the summary: tokens, the longest row.
        shown: for every row, its text split into pieces with whether each is learned, as the tokens really cut it; empty if there is
            no tokenizer to ask.
        lines: the same figures as sentences, for people.
    """

    problems: Mapping[int, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    shown: Sequence[Sequence[Span]] = ()
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run needs of a computer, estimated from configuration files; bytes, unless something else is said.

    Attributes:
        parameters, trainable: how many numbers the base has, by part, and the adapter.
        weights, activations, transient: the frozen base; what one batch keeps for its backward pass; what comes and goes beside that.
        flops: floating-point operations of one example in a step.
        phases: peaks outside of the steps (loading, encoding, drawing), with the weights that are then held.
        files: what else is written: "cache" by encoding, "samples" at every save, and exports of more than the adapter, by exporter.
        smaller: (key, value) of the plugin's own keys that make a run smaller at a price, the mildest first.
        precisions: the values of ``precision`` that such a base is trained in, the exactest first.
        savings: values of ``precision`` and of the plugin's own keys that make the same run fit, in the order of what they cost; by
            default the ``precisions``.
        sums: how ``weights`` and the largest of ``phases`` come about, one sentence each, for people.
        licence: of the base, as its own folder names it; empty if it does not.
    """

    parameters: Mapping[str, int]
    trainable: int
    weights: int
    activations: int
    transient: int
    flops: float
    phases: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    smaller: Sequence[tuple[str, Any]] = ()
    precisions: Sequence[str] = ("fp32", "bf16")
    savings: Sequence[Mapping[str, Any]] = ()
    sums: Sequence[str] = ()
    licence: str = ""


class TrainableModel(ABC):
    """A base model with a LoRA, as the loop sees it.

    Attributes:
        lora: what ``loraforge.adapters.lora.inject`` returned.
        replaced: how many modules compute in another way than the library's own, by kind; for the log.
        notes: what of the base the LoRA does not sit on though one might expect it, one sentence each.
    """

    lora: TrainableLora
    replaced: Mapping[str, int] = {}
    notes: Sequence[str] = ()

    @property
    def model(self) -> torch.nn.Module:
        """The module that is trained."""
        return self.lora.model

    @abstractmethod
    def encode(self, record: Any, text: Sequence[Span]) -> Example:
        """Called once per record, before the first step."""

    def on_encoded(self) -> None:
        """Called once, after the last ``encode``: what only encoding needed may leave memory."""
        return

    @abstractmethod
    def group(self, example: Example) -> Hashable:
        """Only examples of one group share a batch: an image size, a length band."""

    @abstractmethod
    def collate(self, examples: Sequence[Example], seed: int | None = None) -> Batch:
        """Tensors of shape (len(examples), ...) on the CPU.

        Args:
            seed: a number for whatever is drawn at random for an example (noise, a crop): the same for all batches of one step on all
                processes, so that no way of cutting a step changes it. None when held-out examples are measured: draw always the same.
                A repeated example has the number of its repetition under ``"repeat"``.
        """

    @abstractmethod
    def weight(self, batch: Batch) -> float:
        """What the loss averages over: learned tokens, pictures. Makes accumulation exact."""

    @abstractmethod
    def units(self, batch: Batch) -> float:
        """What is processed, for the speed shown to the user: tokens without padding, pictures."""

    @abstractmethod
    def loss(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """The mean to minimise: a scalar."""

    def sample(self, folder: Path, step: int) -> Path | None:
        """Shows what has been learned after ``step`` steps (0: the base alone).

        Args:
            folder: the run's ``samples`` folder, which earlier steps have written to.

        Returns:
            A picture that compares the steps so far, to look at; None if there is nothing to show.
        """
        return None

    def facts(self) -> Mapping[str, Any]:
        """What a reader of the adapter should know of its training data and base, as plain JSON values."""
        return {}

    def files(self) -> Mapping[str, bytes]:
        """See ``Adapter.files``."""
        return {}

    def golden(self, rows: Sequence[tuple[Any, Sequence[Span]]], template: Mapping[str, Any]) -> Mapping[str, bytes]:
        """Files that let somebody check that a server gives the model what it was trained on: some rows as the model sees them.

        Args:
            rows: held-out records with their rendered text.
            template: what the template's ``describe`` returned.
        """
        return {}


class InferenceModel(Protocol):
    """A base model with adapters that can be switched while it is loaded.

    Two attributes are optional. ``batch_size``: how many prompts to give to ``generate`` at once; without it, one. Each must then be
    answered as if it stood alone. ``watch``: None, or a function to be called after every step of a batch with how many of its prompts
    are answered; what it raises ends the batch and must come through.
    """

    def generate(self, prompts: Sequence[str], adapter: str | Mapping[str, float] | None, **settings: Any) -> Sequence[str | File]:
        """One answer or file per prompt.

        Args:
            adapter: its name; several names with a strength for each, all at once; None for the base alone.
            settings: values of the task's ``sampling``.
        """


class Decoder(Protocol):
    """Token ids as text, one after the other."""

    def step(self, token: int) -> str:
        """The text that can be told once this token has come; empty in the middle of a character."""

    def rest(self) -> str:
        """What is left at the end."""


class ChatFormat(Protocol):
    """How a base, or an adapter on it, is spoken with: what a server needs besides the network. Without torch.

    Attributes:
        stop_ids: the tokens that end an answer, the trained one first.
        stop_texts: the same as texts.
        longest: how many tokens question and answer may have together; None: not known.
        plain: whether an answer is all that the model writes up to the stop; False where its template has channels, of which one counts.
    """

    stop_ids: tuple[int, ...]
    stop_texts: tuple[str, ...]
    longest: int | None
    plain: bool

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """The token ids that ask for an answer to messages in OpenAI's form, as the chat template writes them.

        Raises:
            DataError: with what the template complains about.
        """

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, with nothing put before it."""

    def checked(self, ids: Sequence[int]) -> list[int]:
        """The same ids.

        Raises:
            DataError: if one is no token of this base.
        """

    def decoder(self) -> Decoder:
        """For one answer."""
