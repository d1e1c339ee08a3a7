"""What a plugin author writes. Importing this module imports neither torch nor transformers.

Task          a kind of run: its record, what it does by default, its YAML keys
Loader        reads data into records
Template      turns one record into spans of text
ModelFamily   loads a base with a LoRA on it (Trainee), or opens one to ask it (Responder)
Exporter      writes an adapter for some program
Check         looks at all rows before a run trains on them
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from .config import Keys, KeySet, NoKeys, RunConfig
from .types import Adapter, Answer, Batch, Example, File, Record, Sketch, Span

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .lora import Lora
    from .opened import OpenRun

R = TypeVar("R", bound=Record)

Severity = Literal["error", "warning", "hint"]


@dataclass(frozen=True)
class Quiz(Generic[R]):
    """A question of general knowledge whose answer a good base knows, to see what training made it forget.

    Attributes:
        choices: the same question with one answer each; the first is right. The model chooses the one that it finds likeliest.
        group: what kind it is, for the report: a language, say.
    """

    choices: tuple[R, ...]
    group: str = ""


@dataclass(frozen=True)
class Task(Generic[R]):
    """What a kind of run is. A value, not a base class.

    Attributes:
        name: what follows ``loraforge train``.
        record: what its loaders yield and its families read.
        ask: makes the record of a bare question or prompt, for ``sample``.
        loader, template, exporters: what a run uses unless the YAML says otherwise.
        keys: the YAML keys of every run of this task.
        aliases: other values of ``task_type`` that mean this task.
        unit: what ``loss`` is averaged over, for people: "tokens", "pictures".
        items: what several records are, for people: "questions", "pictures".
        question, answer: how a record is shown to people.
        judge: scores one answer to one record, by measure, each 0 to 1; for ``eval``. The answer is an ``Answer``.
        cautions: what somebody who relies on such an adapter should know, for the model card; sentences.
        headline: the measure of ``judge`` that people ask for first.
        lower_is_better: measures of ``judge`` that should fall.
        answering: the settings of ``sample`` for answering held-out records, whose longest answer is known.
        overlap: how much of one text's wording is another's, 0 to 1, by the longest run they share; for telling answers that are recited.
        quiz: questions of general knowledge, for seeing what was forgotten.
        sketch: what a record asks, so that near-identical ones stand on one side of the split.
        evaluate: for tasks whose answers are not judged one by one: compares base and adapter in its own way. Called with the opened
            run, its records, the most answers to make (None: as many as usual) and a function to be told (done, all); returns measure ->
            {"base": figure, "adapter": figure}, each figure as text.
        beside: puts several files that answer one prompt into one, for looking at them side by side.
        sampling: the settings of ``sample``, each an option of the command: ``max_tokens`` becomes ``--max-tokens``.
    """

    name: str
    help: str
    record: type[R]
    ask: Callable[[str], R]
    loader: str
    template: str
    exporters: tuple[str, ...]
    keys: type[Keys] = NoKeys
    aliases: tuple[str, ...] = ()
    unit: str = "examples"
    items: str = "examples"
    question: Callable[[R], str] = str
    answer: Callable[[R], str] = str
    judge: Callable[[R, Answer], Mapping[str, float]] = field(default=lambda record, answer: {})
    cautions: tuple[str, ...] = ()
    headline: str = ""
    lower_is_better: tuple[str, ...] = ()
    answering: Callable[[Sequence[R]], Mapping[str, Any]] = field(default=lambda records: {})
    overlap: Callable[[str, str], float] | None = None
    quiz: Callable[[], Sequence[Quiz[R]]] = field(default=lambda: ())
    sketch: Callable[[R], Sketch] | None = None
    evaluate: Callable[[OpenRun, Sequence[R], int | None, Callable[[int, int], None]], Mapping[str, Mapping[str, str]]] | None = None
    sampling: type[Keys] = NoKeys
    beside: Callable[[Mapping[str, File]], File] | None = None


class Component(ABC):
    """Something that a run picks by name.

    Attributes:
        name: how the YAML and ``--to`` call it; unique among its kind within the task.
        task: the task that it serves.
        help: one sentence for ``loraforge list``.
        keys: the YAML keys that it adds to the runs that use it.
    """

    name: ClassVar[str]
    task: ClassVar[str]
    help: ClassVar[str] = ""
    keys: ClassVar[type[Keys]] = NoKeys


class Loader(Component, Generic[R]):
    """Reads one layout of data."""

    @abstractmethod
    def load(self, config: RunConfig, keys: KeySet, note: Callable[[str], None]) -> Iterable[R]:
        """The records, in the order of the files.

        Args:
            note: tells the user one decision: which column became what, which encoding a file has.

        Raises:
            DataError: with every bad row at once, each by file and row.
        """


class Template(Component, Generic[R]):
    """Turns a record into text: no tokenizer, no torch."""

    def recognises(self, value: str) -> bool:
        """Whether a ``prompt_template`` that is no template's name is meant for this one (an inline string, say)."""
        return False

    def prepare(self, config: RunConfig, keys: KeySet, records: Sequence[R]) -> Template[R]:
        """The template that this run uses: itself, or a copy that knows the base model and the data."""
        return self

    def describe(self) -> Mapping[str, Any]:
        """All that decides its text, as plain JSON values; the manifest keeps it and its hash. ``reason`` says why it was chosen."""
        return {"name": self.name}

    def recall(self, description: Mapping[str, Any]) -> Template[R]:
        """The template that ``describe`` described: what was trained is what is asked, whatever became of the base's own files."""
        return self

    @abstractmethod
    def render(self, record: R) -> Sequence[Span]:
        """The text of one record. A record without an answer renders as the prompt alone."""


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
class Footprint:
    """What a run needs of a computer, estimated from configuration files; bytes, unless something else is said.

    Attributes:
        parameters, trainable: how many numbers the base has, by part, and the adapter.
        weights, activations, transient: the frozen base; what one batch keeps for its backward pass; what comes and goes beside that.
        flops: floating-point operations of one example in a step.
        phases: peaks outside of the steps (loading, encoding, drawing), with the weights that are then held.
        files: what else is written: "cache" by encoding, "samples" at every save, and exports of more than the adapter, by exporter.
        smaller: (key, value) of the plugin's own keys that make a run smaller at a price, the mildest first.
        precisions: the values of ``precision`` that such a base is trained in, the exactest first.
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


class Trainee(ABC):
    """A base model with a LoRA, as the loop sees it.

    Attributes:
        lora: what ``loraforge.lora.attach`` returned.
    """

    lora: Lora

    @property
    def model(self) -> torch.nn.Module:
        """The module that is trained."""
        return self.lora.model

    @abstractmethod
    def encode(self, record: Any, text: Sequence[Span]) -> Example:
        """Called once per record, before the first step."""

    def settle(self) -> None:
        """Called once, after the last ``encode``: what only encoding needed may leave memory."""
        return

    @abstractmethod
    def group(self, example: Example) -> Hashable:
        """Only examples of one group share a batch: an image size, a length band."""

    @abstractmethod
    def collate(self, examples: Sequence[Example], draw: int | None = None) -> Batch:
        """Tensors of shape (len(examples), ...) on the CPU.

        Args:
            draw: a number for whatever is drawn at random for an example (noise, a crop): the same for all batches of one step on all
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


class Responder(Protocol):
    """A base model with adapters that can be switched while it is loaded."""

    def respond(self, prompts: Sequence[str], adapter: str | Mapping[str, float] | None, **settings: Any) -> Sequence[str | File]:
        """One answer or file per prompt.

        Args:
            adapter: its name; several names with a strength for each, all at once; None for the base alone.
            settings: values of the task's ``sampling``.
        """


class ModelFamily(Component):
    """Loads base models of one kind. Stateless and cheap to list: the trainee exists only with a loaded model.

    Attributes:
        peft_task_type: what PEFT calls such models (``CAUSAL_LM``), for readers of the adapter's config.
    """

    peft_task_type: ClassVar[str | None] = None

    @abstractmethod
    def recognises(self, base_model: str) -> bool:
        """Whether this is a base of this family. Reads a config file at most, never weights."""

    def found(self, base_model: str) -> str:
        """What ``base_model`` is, for people, where this family sees that it is another one's or nobody's; otherwise nothing."""
        return ""

    def usual(self, base_model: str) -> Mapping[str, tuple[float, float]]:
        """The usual ranges of keys for a base that differs from most, for the advice of ``check`` and ``train``."""
        return {}

    def examine(self, config: RunConfig, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]]) -> Examination:
        """All that can be wrong with rendered rows, found without loading a model and without importing torch."""
        return Examination()

    def base_files(self, config: RunConfig) -> Sequence[Path]:
        """The files of the base model, for the manifest's hashes and for readers that need their common folder."""
        return ()

    def footprint(self, config: RunConfig, keys: KeySet, facts: Mapping[str, Any], device: str) -> Footprint | None:
        """What a run needs, for ``examine``'s facts with ``rows``, on "cpu" or "cuda"; None: cannot be told. Imports no torch."""
        return None

    @abstractmethod
    def load(self, config: RunConfig, keys: KeySet, device: torch.device) -> Trainee:
        """The frozen base with a LoRA on it: a fresh one, or that of ``init_from_adapter``."""

    @abstractmethod
    def open(self, config: RunConfig, adapters: Mapping[str, Adapter], device: torch.device) -> Responder:
        """The base and the adapters by name, for sampling."""


class Exporter(Component):
    """Writes an adapter. Sees an ``Adapter``, never a model; the values of its keys are in ``adapter.facts["config"]``.

    Keys whose field has ``json_schema_extra={"option": True}`` are options of ``train`` and ``export`` too.
    """

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        """Why an adapter of such a run could not be exported, known before it is trained; otherwise nothing."""
        return ""

    @abstractmethod
    def export(self, adapter: Adapter, destination: Path) -> Path:
        """Writes into the new, empty folder ``destination``; the caller renames it when it is whole.

        Returns:
            The file or folder that the user hands on, inside ``destination``.

        Raises:
            ExportError: if the format cannot hold what was trained.
        """

    def deliver(self, adapter: Adapter, path: Path) -> Sequence[str]:
        """Puts the finished export where its reader looks for it, if that was asked for.

        Returns:
            What was put where, one sentence each.

        Raises:
            ExportError: if something is in the way.
        """
        return ()

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        """The commands or lines that use ``path``, to be shown and pasted."""
        return ()


@dataclass(frozen=True)
class Finding:
    """Something about the data that somebody should look at.

    Attributes:
        rows: indices of the rows it is about, the one to change first; more than one where rows are compared.
        message: what is wrong and what to do about it, in one or two sentences.
        excerpt: the words or the file that it is about.
        severity: how bad it is, if that differs from the check's own.
    """

    rows: tuple[int, ...]
    message: str
    excerpt: str = ""
    severity: Severity | None = None


class Check(Component, Generic[R]):
    """Looks at all rows of a run's data before it trains on them. All checks of a task are made unless the config turns one off.

    Attributes:
        severity: how bad its findings are: an ``error`` stops a run unless it is waived, a ``warning`` should be looked at, a ``hint``
            may help.
        private: whether it finds what must not be handed on: such rows do not travel with the adapter, not even as examples.
    """

    severity: ClassVar[Severity] = "warning"
    private: ClassVar[bool] = False

    @abstractmethod
    def look(self, config: RunConfig, keys: KeySet, rows: Sequence[R]) -> Iterable[Finding]:
        """What is wrong with the rows, in any order. Must be quick, and import neither torch nor transformers."""
