# SPDX-License-Identifier: Apache-2.0
"""A kind of run: what it is (``Task``), how its answers are judged (``Evaluation``), how it is sampled (``Sampling``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ..config.schema import Keys, NoKeys
from .components import Template
from .models import InferenceModel
from .start import Start
from .types import Adapter, Answer, File, Fingerprint, Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class ChoiceQuestion(Generic[R]):
    """A question of general knowledge whose answer a good base knows, to see what training made it forget.

    Attributes:
        choices: the same question with one answer each; the first is right. The model chooses the one that it finds likeliest.
        group: what kind it is, for the report: a language, say.
    """

    choices: tuple[R, ...]
    group: str = ""


class TrainedRun(Protocol):
    """A finished run, as a task's own comparison sees it; ``loraforge.load_run`` returns one.

    Attributes:
        path: its folder.
        manifest: what ``manifest.json`` says.
    """

    @property
    def path(self) -> Path: ...

    @property
    def template(self) -> Template[Any]: ...

    @property
    def manifest(self) -> Mapping[str, Any]: ...

    def adapters(self) -> dict[str, Adapter]:
        """The run's adapter, by its name."""

    def inference_model(self, adapters: Mapping[str, Adapter]) -> InferenceModel:
        """The base with these adapters."""


@dataclass(frozen=True)
class Evaluation(Generic[R]):
    """How the answers of a task are judged.

    Attributes:
        judge: scores one answer to one record, by measure, each 0 to 1. The answer is an ``Answer``.
        headline: the measure of ``judge`` that people ask for first, where none of ``truth`` applies.
        truth: measures of ``judge`` that say whether an answer is right, rather than how it sounds; the first that enough rows have leads
            the verdict. Without them nothing is called better than the base, only nearer to the examples.
        lower_is_better: measures of ``judge`` that should fall.
        generation: the settings of ``sample`` for answering held-out records, whose longest answer is known.
        overlap: how much of one text's wording is another's, 0 to 1, by the longest run they share; for telling answers that are recited.
        general_knowledge: probe questions that a good base can answer, for seeing what was forgotten.
        compare: for tasks whose answers are not judged one by one: compares base and adapter in its own way. Called with the run, its
            records, the most answers to make (None: as many as usual) and a function to be told (done, all); returns measure ->
            {"base": figure, "adapter": figure}, each figure as text.
    """

    judge: Callable[[R, Answer], Mapping[str, float]] = field(default=lambda record, answer: {})
    headline: str = ""
    truth: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    generation: Callable[[Sequence[R]], Mapping[str, Any]] = field(default=lambda records: {})
    overlap: Callable[[str, str], float] | None = None
    general_knowledge: Callable[[], Sequence[ChoiceQuestion[R]]] = field(default=lambda: ())
    compare: Callable[[TrainedRun, Sequence[R], int | None, Callable[[int, int], None]], Mapping[str, Mapping[str, str]]] | None = None


@dataclass(frozen=True)
class Sampling(Generic[R]):
    """How a task is sampled: ``loraforge sample``.

    Attributes:
        ask: makes the record of a bare question or prompt.
        settings: the settings of ``sample``, each an option of the command: ``max_tokens`` becomes ``--max-tokens``.
        side_by_side: puts several files that answer one prompt into one, for looking at them beside each other.
    """

    ask: Callable[[str], R]
    settings: type[Keys] = NoKeys
    side_by_side: Callable[[Mapping[str, File]], File] | None = None


@dataclass(frozen=True)
class Task(Generic[R]):
    """What a kind of run is. A value, not a base class.

    Attributes:
        name: what follows ``loraforge train``.
        record: what its loaders yield and its families read.
        loader, template, exporters: what a run uses unless the YAML says otherwise.
        sampling: how it is sampled.
        evaluation: how its answers are judged.
        keys: the YAML keys of every run of this task.
        aliases: other values of ``task_type`` that mean this task.
        unit: what ``loss`` is averaged over, for people: "tokens", "pictures".
        items: what several records are, for people: "questions", "pictures".
        question, answer: how a record is shown to people.
        cautions: what somebody who relies on such an adapter should know, for the model card; sentences.
        fingerprint: what a record asks and teaches, so that near-identical ones stand on one side of the split.
        start: how somebody begins: ``loraforge init``, and what ``--example`` knows.
        usual: the usual ranges of the core's keys in such runs, where they are others than for text, each with the reason that advice
            gives; what a family says of its own bases comes first.
    """

    name: str
    help: str
    record: type[R]
    loader: str
    template: str
    exporters: tuple[str, ...]
    sampling: Sampling[R]
    evaluation: Evaluation[R] = field(default_factory=Evaluation)
    keys: type[Keys] = NoKeys
    aliases: tuple[str, ...] = ()
    unit: str = "examples"
    items: str = "examples"
    question: Callable[[R], str] = str
    answer: Callable[[R], str] = str
    cautions: tuple[str, ...] = ()
    fingerprint: Callable[[R], Fingerprint] | None = None
    start: Start[R] = field(default_factory=Start)
    usual: Mapping[str, tuple[float, float, str]] = field(default_factory=dict)
