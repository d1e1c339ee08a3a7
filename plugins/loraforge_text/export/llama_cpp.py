# SPDX-License-Identifier: Apache-2.0
"""The adapter as one file for llama.cpp and Ollama: GGUF-LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Adapter, Exporter, ExportError, KeySet, LoraForgeError, ModelFamily, RunConfig, command, first_few, speaker

from ..base_files import locate, read_base
from ..templates.served import export_jinja
from .folder import Served, base_file, base_folder, file_name, on_one_line, served, without_base

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

say = speaker(__name__)

# What llama.cpp calls the architecture of each model type. Every row was compared, tensor by tensor, with what llama.cpp's own converter
# writes. Types whose layers it splits, stacks or reorders (BLOOM, GPT-NeoX, Qwen 3.5's linear attention) are not here.
ARCHITECTURES: Mapping[str, str] = {
    **{kind: kind for kind in ("apertus", "arcee", "afmoe", "cohere2", "dots1", "ernie4_5", "exaone4", "gemma", "gemma2", "glm4", "gpt2")},
    **{kind: kind for kind in ("granite", "granitemoe", "jais2", "jamba", "lfm2", "llama", "llama4", "minicpm3", "nemotron", "olmo")},
    **{kind: kind for kind in ("olmo2", "olmoe", "phi3", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm", "starcoder2")},
    **dict.fromkeys(("exaone", "internlm3", "iquestcoder", "mistral", "mixtral"), "llama"),
    **dict.fromkeys(("gemma3", "gemma3_text"), "gemma3"),
    **dict.fromkeys(("gemma4", "gemma4_text"), "gemma4"),
    **dict.fromkeys(("glm4_moe", "solar_open"), "glm4moe"),
    "cohere": "command-r",
    "ernie4_5_moe": "ernie4_5-moe",
    "exaone_moe": "exaone-moe",
    "glm": "chatglm",
    "gpt_bigcode": "starcoder",
    "gpt_oss": "gpt-oss",
    "granitemoehybrid": "granitehybrid",
    "granitemoeshared": "granitemoe",
    "hunyuan_v1_dense": "hunyuan-dense",
    "hunyuan_v1_moe": "hunyuan-moe",
    "lfm2_moe": "lfm2moe",
    "llama4_text": "llama4",
    "mimo_v2_flash": "mimo2",
    "minimax_m2": "minimax-m2",
    "olmo3": "olmo2",
    "phi": "phi2",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
}
# Those whose converter puts the rows of the queries and keys into the order of llama.cpp's rotation, pairs side by side.
INTERLEAVED = frozenset({"arcee", "granite", "granitemoe", "llama", "olmo", "smollm3"})
# Ends that llama.cpp recognises by their text whatever the base's file says (``special_eog_ids`` in its src/llama-vocab.cpp).
KNOWN_ENDS = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>",
    "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[",
})  # fmt: skip


@dataclass(frozen=True)
class _Shape:
    """What of the base's config.json decides about tensors.

    Attributes:
        kind: its model type.
        heads: (queries, keys and values).
        tied: the head of the vocabulary is the embedding.
    """

    kind: str
    layers: int
    heads: tuple[int, int]
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Shape:
        part = config.get("text_config") or config
        heads = int(part.get("num_attention_heads") or part.get("n_head") or 1)
        return cls(
            str(config.get("model_type")),
            int(part.get("num_hidden_layers") or part.get("n_layer") or part.get("num_layers") or 0),
            (heads, int(part.get("num_key_value_heads") or heads)),
            bool(part.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
        )


class GgufExporter(Exporter):
    """A GGUF file that llama.cpp and Ollama put onto the base, whatever its quantisation."""

    name = "gguf"
    task = "text"
    help = "One GGUF file for llama.cpp and Ollama: the adapter, to be put onto a GGUF of the base."
    at_saves = True

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        if config.lora_variant == "dora":
            return _no_dora()
        try:
            library()
        except ExportError as error:
            return str(error)
        try:
            shape = _Shape.of(read_base(locate(config.base_model, config.revision)).config)
        except LoraForgeError:
            return ""  # what is wrong with the base is said where it is read
        return _unknown(shape) if shape.kind not in ARCHITECTURES else ""

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        return without_base(self.name, family, config)

    def export(self, adapter: Adapter, destination: Path) -> Path:
        of = served(adapter)
        file = destination / f"{file_name(adapter)}.gguf"
        write_lora(adapter, of.base.config, file)
        jinja = export_jinja(adapter.facts.get("template") or {})
        if jinja is not None:
            (destination / "chat_template.jinja").write_text(jinja, encoding="utf-8", newline="\n")
        return file

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        of, own = served(adapter), base_file(adapter)
        base = own or Path("base.gguf")  # never in the run's folder, whose files are sealed
        make = (
            say("# once, unless you have a GGUF of the base already (any quantisation will do; name it in the next line):"),
            command("python", "convert_hf_to_gguf.py", base_folder(adapter), "--outfile", base),
        )
        template = path.with_name("chat_template.jinja")
        chat = ["--jinja", "--chat-template-file", template] if template.is_file() else []
        return (
            *(() if own else make),
            command("llama-server", "-m", base, "--lora", path, *chat),
            *_stop_note(of),
        )


def _stop_note(of: Served) -> Sequence[str]:
    named = (of.base.config.get("eos_token_id"), (of.base.config.get("text_config") or {}).get("eos_token_id"))
    ends = {token for value in named for token in (value if isinstance(value, list) else [value])}
    if not of.stop or of.stop in KNOWN_ENDS or of.base.added.get(of.stop) in ends:
        return ()
    stop = on_one_line(of.stop)
    return (say('# the answers end in {stop}, where llama.cpp would go on: say "stop": ["{stop}"] in each request', stop=stop),)


def _no_dora() -> str:
    return say("llama.cpp reads no DoRA; `export: [merged]` makes a model that its converter takes")


def _unknown(shape: _Shape) -> str:
    return say(
        "the base is of the type {kind}, for which no GGUF adapter can be written; use `export: [merged]` and llama.cpp's "
        "convert_hf_to_gguf.py",
        kind=shape.kind,
    )


def write_lora(adapter: Adapter, config: Mapping[str, Any], file: Path) -> None:
    """Writes the adapter under llama.cpp's names, reads it back and compares it with the probes.

    Args:
        config: the base's config.json.

    Raises:
        ExportError: naming what the format, or this writer, cannot hold.
    """
    if adapter.dora:
        raise ExportError(_no_dora())
    gguf = library()
    shape = _Shape.of(config)
    names = tensor_names(adapter, shape)
    writer = gguf.GGUFWriter(file, ARCHITECTURES[shape.kind])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(adapter.alpha))
    writer.add_name(str(adapter.facts.get("name", "adapter")))
    for module, name in names.items():
        a, b = (adapter.tensors[f"{module}.lora_{part}.weight"].numpy() for part in "AB")
        # llama.cpp multiplies by alpha / (this pair's rank), all pairs of an Adapter are meant with alpha / adapter.rank.
        b = b * (a.shape[0] / adapter.rank) if a.shape[0] != adapter.rank else b
        heads = _heads(shape, module)
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", _interleaved(b, heads) if heads else b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _verify(adapter, shape, names, file)


def tensor_names(adapter: Adapter, shape: _Shape) -> dict[str, str]:
    """llama.cpp's tensor for every adapted module.

    Raises:
        ExportError: if it does not know the base, or has no such tensor.
    """
    gguf = library()
    if shape.kind not in ARCHITECTURES:
        raise ExportError(_unknown(shape))
    known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    number = known.get(ARCHITECTURES[shape.kind])
    if number is None:
        raise ExportError(say("the installed gguf does not know the type {kind} yet: pip install -U gguf", kind=shape.kind))
    table = gguf.get_tensor_name_map(number, shape.layers)
    found = {module: table.get_name(f"{module}.weight", try_suffixes=(".weight",)) for module in adapter.modules}
    tied = {module for module, name in found.items() if name == "output.weight" and shape.tied}
    lost = [module for module, name in found.items() if name is None or module in tied or module in adapter.parameters or "exps" in name]
    if lost:
        raise ExportError(
            say(
                "llama.cpp has no tensor of its own for {n} of the adapted layers ({names}). Leave them out of lora_target, or use "
                "`export: [merged]`.",
                n=len(lost),
                names=first_few(lost),
            )
        )
    return {module: str(name) for module, name in found.items()}


def _heads(shape: _Shape, module: str) -> int:
    """Into how many heads the rows of a module are to be put in another order; 0: they stay."""
    if ARCHITECTURES[shape.kind] not in INTERLEAVED:
        return 0
    return {"q_proj": shape.heads[0], "k_proj": shape.heads[1]}.get(module.rpartition(".")[2], 0)


def _interleaved(b: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """(out, rank) with the two halves of each head's rows taken in turn."""
    return b.reshape(heads, 2, b.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(b.shape)


def _halves(b: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """What ``_interleaved`` made, undone."""
    return b.reshape(heads, b.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(b.shape)


def _verify(adapter: Adapter, shape: _Shape, names: Mapping[str, str], file: Path) -> None:
    """Compares alpha / rank * B @ A, as the file has them, with what the trained model did."""
    import torch

    from loraforge.adapters import lora

    reader = library().GGUFReader(file)
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    there = {tensor.name: tensor.data for tensor in reader.tensors}
    wrong = []
    for module, name in names.items():
        a, b = there[f"{name}.lora_a"], there[f"{name}.lora_b"]
        heads = _heads(shape, module)
        b = _halves(b, heads) if heads else b
        delta = alpha / a.shape[0] * torch.tensor(b) @ torch.tensor(a)
        if lora.differs(adapter, module, delta):
            wrong.append(module)
    lora.refuse(wrong)


def library() -> Any:
    """The package ``gguf``.

    Raises:
        ExportError: naming its extra, if it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise ExportError(
            say("GGUF files need a library that is not installed ({name}): pip install 'loraforge[gguf]'", name=error.name)
        ) from None
    return gguf
