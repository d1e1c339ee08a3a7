# SPDX-License-Identifier: Apache-2.0
"""The model family ``causal-lm``: anything that transformers' AutoModelForCausalLM loads."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import (
    Adapter,
    Batch,
    ChatFormat,
    ConfigError,
    DataError,
    Examination,
    Example,
    KeySet,
    MemoryEstimate,
    ModelError,
    ModelFamily,
    Record,
    RunConfig,
    Span,
    TrainableModel,
    panics_as_errors,
    scanned_layers,
    speaker,
)

from ..base_files import EMBEDDED, TYPICAL_RANGES, BaseFiles, locate, read_base, require_trained_file
from ..gguf_bases.conversion import PACKAGED, origin
from ..gguf_bases.gguf_file import means_gguf
from ..records import TextKeys
from ..templates import golden_prompts
from ..templates.builtin import AutoTemplate
from . import exported_tokenizer, limits, meta_model
from .answering import CausalInferenceModel, trained_stops
from .chat_format import chat_format
from .encoding import examine, examine_rows, tokenizer_of
from .loading import load_model
from .memory import estimate_memory
from .stored_weights import refuse_unusable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from loraforge.adapters.lora import Lora

say = speaker(__name__)

_OLDER_TOKENIZERS = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "merges.txt")
_TRANSPOSED = frozenset({"gpt2", "openai-gpt"})  # built of transformers' Conv1D
_BAND = 16  # where rows are padded, those whose lengths differ by less than this many tokens may share a batch


class CausalLM(ModelFamily):
    """Language models with safetensors weights, from a folder, a hub or the package itself."""

    name = "causal-lm"
    task = "text"
    help = "Language models of transformers: a folder with config.json and safetensors, a GGUF file, a hub id, or the embedded tiny-chat."
    peft_task_type = "CAUSAL_LM"

    def matches(self, base_model: str) -> bool:
        folder = Path(base_model).expanduser()
        if base_model in EMBEDDED or base_model in PACKAGED or means_gguf(folder):
            return True
        if not folder.is_dir():
            # A hub id is looked at when its files are fetched; a wrong one is explained there.
            return base_model.startswith("modelscope:") or (base_model.count("/") == 1 and not base_model.startswith((".", "/")))
        named = read_base(folder.absolute()).config.get("architectures") or ()
        return any(str(n).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for n in named)

    def typical_ranges(self, base_model: str) -> Mapping[str, tuple[float, float]]:
        return TYPICAL_RANGES.get(base_model, {})

    def examine(self, config: RunConfig, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]]) -> Examination:
        folder = locate(config.base_model, config.revision)
        tokenizer, base = tokenizer_of(folder), read_base(folder)
        _refuse_precision(config)
        refuse_unusable(base, config.precision)
        text = limits.text_config(base.config)
        limits.refuse_both_ways(text)
        _refuse_scanned(config.lora_target, base.config.get("model_type"))
        _refuse_transposed(config, base.config.get("model_type"))
        older = any((folder / name).is_file() for name in _OLDER_TOKENIZERS) or any(folder.glob("*.tiktoken"))
        if tokenizer is None and not older:
            raise ModelError(say("base_model {folder} has no tokenizer: take the tokenizer.json that belongs to it.", folder=folder))
        with meta_model.looked_ahead(base, config):
            if tokenizer is None:
                return Examination(facts={"tokens": say("counted when the model is loaded (the base has no tokenizer.json)")})
            if config.export != []:
                exported_tokenizer.refuse_contradicting(tokenizer, base, [spans for _, spans in rows])
            examined = examine_rows(tokenizer, base, config, keys[TextKeys].max_seq_length, rows)
            return dataclasses.replace(examined, facts={**examined.facts, **_made_of(folder)})

    def base_files(self, config: RunConfig) -> Sequence[Path]:
        folder = locate(config.base_model, config.revision, weights=True)
        return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in (".json", ".jinja", ".safetensors", ".model", ".txt"))

    def cautions(self, config: RunConfig, keys: KeySet) -> Sequence[str]:
        if keys[TextKeys].golden != "data":
            return ()
        return (
            "Adapter and PEFT export carry a few questions of the data in the file of golden prompts, by which a server can be checked. "
            "Before they are handed on, delete it if the questions must not leave.",
        )

    def estimate_memory(self, config: RunConfig, keys: KeySet, facts: Mapping[str, Any], device: str) -> MemoryEstimate | None:
        folder = locate(config.base_model, config.revision)
        return estimate_memory(folder, read_base(folder).config, config, keys[TextKeys].max_seq_length, facts, device)

    def load(self, config: RunConfig, keys: KeySet, device: torch.device) -> TrainableCausalLM:
        from loraforge.adapters import lora

        from . import reach

        folder = locate(config.base_model, config.revision, weights=True)
        model = load_model(folder, config.precision, device)
        places = reach.choose(model, config.lora_target)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        given = lora.read_peft(_adapter_folder(config.init_from_adapter)) if config.init_from_adapter else None
        injected = lora.inject(model, config, given, among=places.reached)
        mine = keys[TextKeys]
        made = TrainableCausalLM(
            injected, _tokenizer(folder), read_base(folder), mine.max_seq_length, mine.system_prompt, config.kernels == "auto"
        )
        made.notes, made.golden_source = places.notes, mine.golden
        return made

    def open(self, config: RunConfig, adapters: Mapping[str, Adapter], device: torch.device) -> CausalInferenceModel:
        from loraforge.adapters import lora

        folder = locate(config.base_model, config.revision, weights=True)
        for adapter in adapters.values():
            require_trained_file(config.base_model, folder, adapter.facts)
        model = load_model(folder, config.precision, device)
        lora.load_adapters(model, adapters)
        model.eval()
        return CausalInferenceModel(model, _tokenizer(folder), read_base(folder), trained_stops(adapters))

    def chat_format(self, base_model: str, revision: str | None, adapter: Path | None) -> ChatFormat:
        return chat_format(base_model, revision, adapter)

    def network(self, base_model: str, revision: str | None, precision: str, device: torch.device) -> torch.nn.Module:
        model: torch.nn.Module = load_model(locate(base_model, revision, weights=True), precision, device)
        return model.eval()


def _made_of(folder: Path) -> dict[str, str]:
    """For the manifest: the GGUF file that a base was made of."""
    made = origin(folder)
    return {"gguf": f"{made.get('file')} (sha256 {made.get('sha256')})"} if made else {}


def _adapter_folder(path: str) -> Path:
    folder = Path(path)
    if folder.name == "adapter_model.safetensors" and (folder.parent / "adapter_config.json").is_file():
        return folder.parent
    return folder / "adapter" if (folder / "adapter" / "adapter_config.json").is_file() else folder


def _refuse_scanned(target: str | Sequence[str], model_type: str | None) -> None:
    wanted = {part.strip().rpartition(".")[2] for part in (target.split(",") if isinstance(target, str) else target)}
    if never := [name for name in scanned_layers(model_type) if name in wanted or _names(target, name)]:
        raise ConfigError(
            say(
                "lora_target: '{names}' cannot learn in a {kind} model, which reads these weights past any adapter. Leave it out; "
                "all-linear does so.",
                names="', '".join(never),
                kind=model_type,
            )
        )


def _refuse_precision(config: RunConfig) -> None:
    """What is kept of a language model in fewer bits, and what then cannot be computed."""
    if config.precision == "fp8":
        raise ConfigError(
            say(
                "precision: fp8 is for pictures. A language model is kept in fewer bits with precision: 4bit; a base that was stored in "
                "fp8 is read as it is, with precision: bf16."
            )
        )
    if config.adapter_kind != "lora" and config.precision == "4bit":
        raise ConfigError(
            say(
                "lora_variant: {variant} computes with the base's own weights, which precision: 4bit has packed. Use "
                "lora_variant: lora, or precision: bf16.",
                variant=config.lora_variant,
            )
        )


def _refuse_transposed(config: RunConfig, model_type: str | None) -> None:
    """GPT-2's layers are no linear layers to peft's LoKr and LoHa."""
    if config.adapter_kind != "lora" and model_type in _TRANSPOSED:
        raise ConfigError(
            say(
                "lora_variant: {variant} works on plain linear layers, and those of a {kind} model are transposed. Use lora_variant: lora.",
                variant=config.lora_variant,
                kind=model_type,
            )
        )


def _names(target: str | Sequence[str], layer: str) -> bool:
    """Whether a regular expression means Mamba's ``layer`` where transformers has it, and not any layer of whatever name."""
    places = [f"{start}.layers.0.{block}" for start in ("model", "backbone") for block in ("mixer", "mamba")]
    try:
        found = re.compile(target if isinstance(target, str) else "")
    except re.error:
        return False  # said elsewhere
    return any(found.fullmatch(f"{p}.{layer}") and not found.fullmatch(f"{p}.any{layer[layer.find('_') :]}") for p in places)


def _tokenizer(folder: Path) -> Any:
    """``tokenizers.Tokenizer`` of the base; made from the older formats by transformers where there is no tokenizer.json."""
    found = tokenizer_of(folder)
    if found is not None:
        return found
    from transformers import AutoTokenizer

    try:
        with panics_as_errors():
            made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            say("the tokenizer in {folder} cannot be loaded: {error}", folder=folder, error=str(error).split("\n")[0])
        ) from None
    backend = getattr(made, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            say("the tokenizer in {folder} has no fast version (tokenizer.json), which exact training of answers needs.", folder=folder)
        )
    return backend


def _config(model: Any) -> Mapping[str, Any]:
    """Of the language model in ``model``, with what its config.json leaves to be the default."""
    found: Mapping[str, Any] = model.config.get_text_config().to_dict()
    return found


class TrainableCausalLM(TrainableModel):
    """A causal language model with a LoRA: next-token cross entropy on the learned tokens.

    Args:
        fast: see ``kernels.replace``.
    """

    def __init__(self, lora: Lora, tokenizer: Any, base: BaseFiles, longest: int, system: str | None = None, fast: bool = False) -> None:
        self.lora = lora
        self._tokenizer, self._base, self._longest, self._system = tokenizer, base, longest, system
        self._head: Any = None
        self._in_line = self._places = False
        if fast:
            from ..kernels import replace

            done = replace(lora.model)
            self._head, self._in_line, self._places = done.head, done.in_line, done.places
            self.replaced = {**lora.replaced, **done.counts}

    golden_source: str = "data"

    def encode(self, record: Record, text: Sequence[Span]) -> Example:
        """``ids`` and ``learned`` of one row.

        Raises:
            DataError: if the row cannot be trained on; only a base without tokenizer.json gets this far with such a row.
        """
        encoded, problem = examine(self._tokenizer, self._base, record, text, self._longest)
        if encoded and not problem:  # the loaded model knows more than its config.json says
            model: Any = self.lora.model
            problem = limits.problem(encoded.ids, _config(model), len(model.get_input_embeddings().weight))
        if problem or encoded is None:
            raise DataError(problem or "")
        return {"ids": encoded.ids, "learned": encoded.learned}

    @functools.cached_property
    def _band(self) -> int:
        return 1 if _config(self.lora.model).get("model_type") in limits.READS_PADDING else _BAND

    def group(self, example: Example) -> Hashable:
        """The length band; rows that lie end to end may have any length."""
        return 0 if self._in_line else (len(example["ids"]) - 1) // self._band

    def collate(self, examples: Sequence[Example], seed: int | None = None) -> Batch:
        """``input_ids`` (int64): the rows end to end, (1, tokens), or padded on the right, (rows, longest), each with what the model needs
        beside them; ``targets`` (n,): the places, counted through all rows, after which a learned token comes; ``labels`` (n,): these
        tokens; ``tokens``: how many there are without padding."""
        import torch

        from ..kernels import packed_attention

        lengths = [len(example["ids"]) for example in examples]
        longest = max(lengths)
        starts = [sum(lengths[:row]) if self._in_line else row * longest for row in range(len(examples))]
        places = [
            (start + place - 1, example["ids"][place])
            for start, example in zip(starts, examples, strict=True)
            for place, learn in enumerate(example["learned"])
            if learn and place  # the first token of a row is never predicted
        ]
        shared = {
            "targets": torch.tensor([place for place, _ in places], dtype=torch.long),
            "labels": torch.tensor([token for _, token in places], dtype=torch.long),
            "tokens": sum(lengths),
        }
        rows = [torch.tensor(example["ids"], dtype=torch.long) for example in examples]
        if self._in_line:
            return {**packed_attention.line(rows), **shared}
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"input_ids": ids, "attention_mask": (torch.arange(longest) < torch.tensor(lengths)[:, None]).long(), **shared}

    def weight(self, batch: Batch) -> float:
        """Learned tokens; the first token of a row is never predicted."""
        return float(len(batch["labels"]))

    def units(self, batch: Batch) -> float:
        """Tokens without padding."""
        return float(batch["tokens"])

    def loss(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """Mean cross entropy in nats per learned token, in float32."""
        from torch.nn import functional

        from ..kernels import linear_cross_entropy

        given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids", "row_lengths") if name in batch}
        if self._places:
            given["places"] = batch["targets"]
        # use_cache: with a cache, transformers lets the rows of a line see each other.
        out = model(**given, use_cache=False).logits.flatten(0, 1)
        if not self._places:
            out = out[batch["targets"]]
        if self._head is not None:
            return linear_cross_entropy.cross_entropy(out, self._head, batch["labels"])
        return functional.cross_entropy(out.float(), batch["labels"])

    def golden(self, rows: Sequence[tuple[Any, Sequence[Span]]], template: Mapping[str, Any]) -> Mapping[str, bytes]:
        """Prompts as text and as tokens."""
        if not rows or self.golden_source == "off":
            return {}
        made: bytes | None
        if self.golden_source == "neutral":
            made = golden_prompts.neutral_prompts(self._tokenizer, AutoTemplate().recall(template).prompting, template)
        else:
            made = golden_prompts.golden_prompts(self._tokenizer, rows, self._system, template)
        return {golden_prompts.NAME: made} if made else {}
