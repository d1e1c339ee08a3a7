# SPDX-License-Identifier: Apache-2.0
"""Base and adapter put together tensor by tensor, and written into one GGUF file."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Adapter, ExportError, LoraForgeError, first_few, prompt_of, speaker

from ..records import Conversation
from ..templates.served import export_jinja
from . import gguf_layout as layout
from .folder import Served, read_json
from .gguf_vocabulary import Vocabulary, read_vocabulary
from .llama_cpp import ARCHITECTURES, KNOWN_ENDS, library

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

# llama.cpp's names of types, of what such a file is called in it, and how far a weight may be from what was to be written.
TYPES: Mapping[str, tuple[str, str, float]] = {
    "f32": ("F32", "ALL_F32", 1e-5),
    "f16": ("F16", "MOSTLY_F16", 0.005),
    "bf16": ("BF16", "MOSTLY_BF16", 0.01),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0", 0.03),
    "q5_1": ("Q5_1", "MOSTLY_Q5_1", 0.2),
    "q5_0": ("Q5_0", "MOSTLY_Q5_0", 0.2),
    "q4_1": ("Q4_1", "MOSTLY_Q4_1", 0.35),
    "q4_0": ("Q4_0", "MOSTLY_Q4_0", 0.35),
}
_COARSE = ("q5_1", "q5_0", "q4_1", "q4_0")
_LARGEST_F16 = 65504.0
_BLOCK = 32  # weights that share a scale


@dataclass(frozen=True)
class _Planned:
    """A tensor of the file.

    Attributes:
        source: the base's tensor; empty for one that the base has not.
        module: the adapted module whose weight it is; empty for others.
        shape: (rows, row) or (row,).
        type: llama.cpp's name of its numbers' type.
    """

    source: str
    module: str
    shape: tuple[int, ...]
    type: str


@dataclass(frozen=True)
class GgufModel:
    """Base and adapter, put together tensor by tensor: no more than one is in memory."""

    of: Served
    adapter: Adapter
    kind: str
    config: Mapping[str, Any]
    weights: _Weights
    extra: Mapping[str, Tensor]
    planned: Mapping[str, _Planned]

    @classmethod
    def make(cls, of: Served, adapter: Adapter, kind: str) -> GgufModel:
        """
        Raises:
            ExportError: naming what the file cannot hold.
        """
        config, weights = _whole_config(of.folder), _Weights(of.folder)
        extra = layout.extra_tensors(config)
        planned = {name: _Planned("", "", tuple(tensor.shape), "F32") for name, tensor in extra.items()}
        planned |= _plan(config, weights, adapter, kind)
        return cls(of, adapter, kind, config, weights, extra, planned)

    def write(self, file: Path, vocabulary: Vocabulary | None = None) -> None:
        """
        Args:
            vocabulary: that of the base, unless it is given.
        """
        gguf = library()
        vocabulary = vocabulary or self._vocabulary()
        writer = gguf.GGUFWriter(file, ARCHITECTURES[self.config["model_type"]])
        self._write_facts(writer)
        _write_vocabulary(writer, vocabulary, self.of, self._trained_prompts())
        jinja = export_jinja(self.adapter.facts.get("template") or {})
        if jinja is not None:
            writer.add_chat_template(jinja)
        for name, one in self.planned.items():
            kind = gguf.GGMLQuantizationType[one.type]
            block, size = gguf.GGML_QUANT_SIZES[kind]
            count = functools.reduce(lambda a, b: a * b, one.shape, 1)
            writer.add_tensor_info(name, one.shape, None, count // block * size, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, one in self.planned.items():
            kind = gguf.GGMLQuantizationType[one.type]
            writer.write_tensor_data(gguf.quants.quantize(self._finished(name, one).contiguous().numpy(), kind))
        writer.close()

    def _finished(self, name: str, one: _Planned) -> Tensor:
        """A tensor of the file in float32.

        Raises:
            ExportError: if its numbers are too large for the type, or none.
        """
        tensor = self.extra[name] if not one.source else self._arranged(one, self._merged(one))
        largest = max(map(abs, map(float, tensor.aminmax())))
        if not largest <= (_LARGEST_F16 if one.type == "F16" else 3.4e38):
            raise ExportError(
                say(
                    "{name} has weights up to {largest:.3g}, which {type} cannot hold. Use quantize: bf16 or f32.",
                    name=one.source,
                    largest=largest,
                    type=one.type.lower(),
                )
            )
        return tensor

    def _arranged(self, one: _Planned, tensor: Tensor) -> Tensor:
        return layout.arranged(self.config, f"{one.module}.weight" if one.module else one.source, tensor)

    def _merged(self, one: _Planned) -> Tensor:
        """The base's tensor, with what the adapter adds to it."""
        tensor = self.weights.read(one.source)
        return tensor if not one.module else tensor + self._change(one, tensor)

    def _change(self, one: _Planned, tensor: Tensor) -> Tensor:
        """What the adapter adds to a weight.

        Raises:
            ExportError: if it is not what was trained.
        """
        from loraforge.adapters import lora

        change = self.adapter.delta(one.module)
        if lora.differs(self.adapter, one.module, change):
            lora.refuse([one.module])
        if not self.adapter.dora:
            return change
        summed = tensor + change
        magnitude = self.adapter.tensors[f"{one.module}.lora_magnitude_vector"]
        adapted: Tensor = summed * (magnitude / summed.norm(dim=1))[:, None]
        return adapted - tensor

    def verify(self, file: Path) -> float:
        """Reads the file again: every adapted weight must be the base's with what was trained.

        Returns:
            How much of the adapter is in it, from 0 to 1: rounding can undo a change that is smaller than its steps.

        Raises:
            ExportError: naming the modules that differ, or saying that most of the adapter is lost.
        """
        import torch

        gguf = library()
        there = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
        wrong, kept, whole = [], 0.0, 0.0
        for name, one in self.planned.items():
            if not one.module:
                continue
            base = self.weights.read(one.source)
            change = self._change(one, base)
            base, change = self._arranged(one, base), self._arranged(one, change)
            held = torch.from_numpy(gguf.quants.dequantize(there[name].data, there[name].tensor_type).copy()).reshape(one.shape)
            wanted = base + change
            if float((held - wanted).norm()) > TYPES[one.type.lower()][2] * float(wanted.norm()):
                wrong.append(one.module)
            kept += float(((held - base) * change).sum())
            whole += float((change * change).sum())
        if wrong:
            from loraforge.adapters import lora

            lora.refuse(wrong)
        share = kept / whole if whole else 1.0
        if share < 0.5:
            raise ExportError(
                say(
                    "rounded to {kind}, the file would hold {share:.0%} of what the adapter changes: it is smaller than the steps of these "
                    "weights. Use quantize: f16 or q8_0, or `export: [gguf]`, which keeps the adapter apart.",
                    kind=self.kind,
                    share=share,
                )
            )
        return share

    def _vocabulary(self) -> Vocabulary:
        return read_vocabulary(self.of.base, int(self.config["vocab_size"]), self._trained_prompts())

    def _trained_prompts(self) -> list[str]:
        found = []
        for system in (None, "Be brief."):
            try:
                found.append(prompt_of(self.of.prompting.render(Conversation("Question?", "answer", system=system, where=""))))
            except LoraForgeError:
                continue
        return found

    def _write_facts(self, writer: Any) -> None:
        gguf, kind = library(), TYPES[self.kind][1]
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(_name(str(self.adapter.facts.get("name", "adapter")), self.of.folder))
        writer.add_size_label(gguf.size_label(self.weights.count, self.weights.count, 0, 0))
        for key, value in layout.facts_of(self.config).items():
            _write_fact(writer, f"{writer.arch}.{key}", value)
        writer.add_file_type(gguf.LlamaFileType[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _plan(config: Mapping[str, Any], weights: _Weights, adapter: Adapter, kind: str) -> dict[str, _Planned]:
    gguf = library()
    known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    number = known.get(ARCHITECTURES[config["model_type"]])
    if number is None:
        raise ExportError(say("the installed gguf does not know the type {kind} yet: pip install -U gguf", kind=config["model_type"]))
    table = gguf.get_tensor_name_map(number, layout.blocks(config))
    modules = {layout.tensor_name(table, f"{module}.weight"): module for module in adapter.modules if module not in adapter.parameters}
    tied = bool(config.get("tie_word_embeddings", True))
    sources = {name: layout.tensor_name(table, name) for name in weights.shapes if layout.is_read(name)}
    if tied:  # then the file's own head, if there is one, is the embedding once more
        sources = {name: to for name, to in sources.items() if to != "output.weight"}
    found = {to: name for name, to in sources.items() if to is not None}
    if tied and "output.weight" in modules:
        found["output.weight"] = found["token_embd.weight"]
    lost = [name for name, to in sources.items() if to is None]
    lost += [module for to, module in modules.items() if to not in found] + list(adapter.parameters)
    if lost:
        raise ExportError(
            say(
                "llama.cpp has no tensor for {n} of the base's or adapted layers ({names}). Use `export: [merged]`.",
                n=len(lost),
                names=first_few(lost),
            )
        )
    if "token_embd.weight" in found and weights.shapes[found["token_embd.weight"]][0] != int(config["vocab_size"]):
        raise ExportError(
            say(
                "the embedding has {rows} rows, and config.json says {size}.",
                rows=weights.shapes[found["token_embd.weight"]][0],
                size=config["vocab_size"],
            )
        )
    planned = {}
    for name, source in found.items():
        shape = weights.shapes[source]
        planned[name] = _Planned(source, modules.get(name, ""), shape, _type(name, shape, kind))
    return planned


def _type(name: str, shape: Sequence[int], kind: str) -> str:
    """The type of a tensor's numbers, by the rules of llama.cpp's converter. It has no types of 4 and 5 bits; llama-quantize, which has,
    keeps what words go in and out by finer, as this does."""
    if len(shape) == 1 or name.endswith("_norm.weight") or not name.endswith(".weight"):
        return "F32"
    if kind in _COARSE and name in ("token_embd.weight", "output.weight"):
        kind = "q8_0"
    return TYPES[kind][0] if kind in ("f32", "f16", "bf16") or shape[-1] % _BLOCK == 0 else "F16"


def _name(run: str, folder: Path) -> str:
    """The name of the model. llama.cpp takes blanks behind special tokens away where it reads of Phi 3 in it, as that tokenizer does."""
    added = read_json(folder / "tokenizer.json").get("added_tokens") or ()
    swallows = any(entry.get("special") and entry.get("rstrip") for entry in added)
    plain = re.sub(r"(?i)phi-?3", "phi", run)
    return f"{plain} (Phi-3)" if swallows else plain


def _write_fact(writer: Any, key: str, value: layout.Fact) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, list(value))


def _write_vocabulary(writer: Any, vocabulary: Vocabulary, of: Served, prompts: Sequence[str]) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.space_prefix)
    ends = [number for number in of.stop_ids if vocabulary.tokens[number] not in KNOWN_ENDS]
    special = dict(vocabulary.special)
    if of.stop_ids:
        special["eos"] = of.stop_ids[0]
    # llama.cpp stops at these too, and at those whose text it knows.
    special |= dict(zip(("eot", "eom"), [number for number in ends if number != special.get("eos")], strict=False))
    for name, number in special.items():
        getattr(writer, f"add_{name}_token_id")(number)
    bos = of.base.tokens.get("bos_token")
    # What is put in front by itself must be what was trained, whatever the base's tokenizer does to plain text.
    writer.add_add_bos_token(of.base.adds_bos and bool(prompts) and all(prompt.startswith(bos or "\0") for prompt in prompts))


# --- the base's weights -----------------------------------------------------------------------------------------------------------


class _Weights:
    """The tensors in a base's folder, read one at a time.

    Attributes:
        shapes: by name.
        count: how many numbers there are.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in _files(folder):
            opened: Any = safe_open(file, "pt")
            for name in opened.keys():  # noqa: SIM118
                self._files[name] = opened
                self.shapes[name] = tuple(opened.get_slice(name).get_shape())
        self.count = sum(functools.reduce(lambda a, b: a * b, shape, 1) for shape in self.shapes.values())

    def read(self, name: str) -> Tensor:
        """The tensor in float32."""
        tensor: Tensor = self._files[name].get_tensor(name).float()
        return tensor


def _files(folder: Path) -> Iterator[Path]:
    """The files that transformers would read."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    names = {single.name} if single.is_file() else set((read_json(index).get("weight_map") or {}).values())
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing or not names:
        raise ExportError(
            say("base_model {folder} has no .safetensors weights: {found}.", folder=folder, found=", ".join(missing) or single.name)
        )
    yield from (folder / name for name in sorted(names))


def _whole_config(folder: Path) -> dict[str, Any]:
    """The configuration with everything that transformers adds to what config.json leaves open."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).to_dict()
    except Exception as error:  # a config that is damaged in one way or another raises nearly anything
        raise ExportError(say("base_model {folder} cannot be loaded: {error}", folder=folder, error=str(error).split("\n")[0])) from None
    return layout.language_part(config)
