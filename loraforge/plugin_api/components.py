# SPDX-License-Identifier: Apache-2.0
"""What a run picks by name. Importing this module imports neither torch nor transformers.

Loader        reads data into records
Template      turns one record into spans of text
Check         looks at all rows before a run trains on them
ModelFamily   loads a base with a LoRA on it (TrainableModel), or opens one to ask it (InferenceModel)
Exporter      writes an adapter for some program
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from ..config.schema import Keys, KeySet, NoKeys, RunConfig
from ..errors import ExportError, ModelError
from ..messages import speaker
from .models import ChatFormat, Examination, InferenceModel, MemoryEstimate, TrainableModel
from .types import Adapter, Record, Span

if TYPE_CHECKING:
    import torch

say = speaker(__name__)

R = TypeVar("R", bound=Record)

Severity = Literal["error", "warning", "hint"]
"""An error stops a run, a warning is to be looked at, a hint may be."""


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

    def matches(self, value: str) -> bool:
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


class ModelFamily(Component):
    """Loads base models of one kind. Stateless and cheap to list: the trainable model exists only with a loaded model.

    Attributes:
        peft_task_type: what PEFT calls such models (``CAUSAL_LM``), for readers of the adapter's config.
        exporters: what a run of such a base writes unless the YAML says otherwise; empty: what the task says.
        adapter_files: whether ``init_from_adapter`` may name other programs' files; then ``examine`` says whether one can be taken up.
    """

    peft_task_type: ClassVar[str | None] = None
    exporters: ClassVar[tuple[str, ...]] = ()
    adapter_files: ClassVar[bool] = False

    @abstractmethod
    def matches(self, base_model: str) -> bool:
        """Whether this is a base of this family. Reads a config file at most, never weights."""

    def describe_base(self, base_model: str) -> str:
        """What ``base_model`` is, for people, where this family sees that it is another one's or nobody's; otherwise nothing."""
        return ""

    def typical_ranges(self, base_model: str) -> Mapping[str, tuple[float, float]]:
        """The usual ranges of keys for a base that differs from most, for the advice of ``check`` and ``train``."""
        return {}

    def settle(self, keys: KeySet) -> tuple[KeySet, Sequence[str]]:
        """The keys with what the config left open and files decide (the rank, by ``init_from_adapter``), and a sentence on each. Imports
        no torch, and raises nothing: what is wrong with the files is said by ``examine``."""
        return keys, ()

    def examine(self, config: RunConfig, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]]) -> Examination:
        """All that can be wrong with rendered rows, found without loading a model, and without importing torch unless there is an
        ``init_from_adapter`` to look at."""
        return Examination()

    def base_files(self, config: RunConfig) -> Sequence[Path]:
        """The files of the base model, for the manifest's hashes and for readers that need their common folder."""
        return ()

    def brought_files(self, config: RunConfig, keys: KeySet) -> Mapping[str, Path]:
        """Files beside the base and the data that a run is trained with, by the key that names them, or ``key: name`` for several; the
        manifest keeps their places and hashes."""
        return {}

    def cautions(self, config: RunConfig, keys: KeySet) -> Sequence[str]:
        """What somebody who hands such an adapter on should know, for the model card; sentences, beside those of the task."""
        return ()

    def estimate_memory(self, config: RunConfig, keys: KeySet, facts: Mapping[str, Any], device: str) -> MemoryEstimate | None:
        """What a run needs, for ``examine``'s facts with ``rows``, on "cpu" or "cuda"; None: cannot be told. Imports no torch."""
        return None

    @abstractmethod
    def load(self, config: RunConfig, keys: KeySet, device: torch.device) -> TrainableModel:
        """The frozen base with a LoRA on it: a fresh one, or that of ``init_from_adapter``."""

    @abstractmethod
    def open(self, config: RunConfig, adapters: Mapping[str, Adapter], device: torch.device) -> InferenceModel:
        """The base and the adapters by name, for sampling."""

    def chat_format(self, base_model: str, revision: str | None, adapter: Path | None) -> ChatFormat:
        """How the base is spoken with, or the adapter that was exported into a folder: for servers. Imports no torch.

        Raises:
            ModelError: if this family's models are not spoken with.
        """
        raise ModelError(say("a base of the family '{name}' cannot be served as a chat.", name=self.name))

    def network(self, base_model: str, revision: str | None, precision: str, device: torch.device) -> torch.nn.Module:
        """The base alone, which continues token ids as transformers' language models do: for servers.

        Args:
            precision: ``fp32``, ``bf16``, ``fp16`` or ``4bit``.
        """
        raise ModelError(say("a base of the family '{name}' cannot be served as a chat.", name=self.name))


class Exporter(Component):
    """Writes an adapter. Sees an ``Adapter``, never a model; the values of its keys are in ``adapter.facts["config"]``.

    Keys whose field has ``json_schema_extra={"option": True}`` are options of ``train`` and ``export`` too.

    Attributes:
        kinds: what it can write (``Adapter.kind``). A config whose adapter would be of another kind is refused before it is trained, with
            the exporters that do write it; ``export`` never sees one.
        at_saves: whether it writes the adapter alone, and quickly, so that ``export_at_saves`` may have it at every save.
    """

    kinds: ClassVar[tuple[str, ...]] = ("lora",)
    at_saves: ClassVar[bool] = False

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        """Why an adapter of such a run could not be exported or delivered, known before it is trained; several reasons on lines of their
        own; otherwise nothing. Is asked by ``check`` too, so it must be quick, write nothing and import no torch."""
        return ""

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        """Why an adapter for this family's bases could not be exported, known before it is trained; otherwise nothing."""
        return ""

    def require_kind(self, adapter: Adapter) -> None:
        """
        Raises:
            ExportError: if the adapter is of a kind that this exporter does not write.
        """
        if adapter.kind not in self.kinds:
            raise ExportError(
                say("export: {exporter} writes no {variant}; `--to merged` writes a whole model.", exporter=self.name, variant=adapter.kind)
            )

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
        """The commands or lines that use ``path``, to be shown and pasted, the most usual first. A line that begins with ``# `` explains;
        one that begins with ``# ! `` warns, and is shown even where there is room for nothing else."""
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
    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[R]) -> Iterable[Finding]:
        """What is wrong with the rows, in any order. Must be quick, and import neither torch nor transformers."""
