# SPDX-License-Identifier: Apache-2.0
"""Base and adapter in one GGUF file: ``gguf-merged``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from loraforge import Adapter, Exporter, ExportError, Keys, KeySet, LoraForgeError, ModelFamily, RunConfig, command, speaker

from ..base_files import locate, read_base
from ..families.stored_weights import stored_as
from ..templates import golden_prompts
from . import gguf_layout as layout
from .folder import file_name, read_json, served, without_base
from .gguf_model import TYPES, GgufModel
from .gguf_proof import prove, require_llama_cpp
from .gguf_twin import prove_layers
from .gguf_vocabulary import read_vocabulary
from .llama_cpp import library
from .ollama import go_template, write_modelfile

say = speaker(__name__)

PROOF = "proof.json"


class GgufMergedKeys(Keys):
    """The keys of the exporter of whole models."""

    quantize: str = Field(
        "f16",
        description="How the weights of gguf-merged are stored: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0.",
        json_schema_extra={"option": True},
    )


class GgufMergedExporter(Exporter):
    """One GGUF file with everything in it."""

    name = "gguf-merged"
    task = "text"
    kinds = ("lora", "lokr", "loha")
    help = "One GGUF file with base, adapter, tokenizer and chat template, for llama.cpp, LM Studio and Ollama."
    keys = GgufMergedKeys

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        if problem := _wrong_type(keys[GgufMergedKeys].quantize):
            return problem
        try:
            base = read_base(locate(config.base_model, config.revision))
            if problem := _wrong_base(base.config):
                return problem
            require_llama_cpp()
            library()
            part = base.config.get("text_config") or base.config
            read_vocabulary(base, part.get("vocab_size"), ())
        except ExportError as error:
            return str(error)
        except (LoraForgeError, LookupError, TypeError, ValueError, AttributeError):
            return ""  # what is wrong with the base is said where it is read
        return ""

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        return without_base(self.name, family, config)

    def export(self, adapter: Adapter, destination: Path) -> Path:
        kind = str((adapter.facts.get("config") or {}).get("quantize") or "f16")
        if problem := _wrong_type(kind):
            raise ExportError(problem)
        require_llama_cpp()
        of = served(adapter)
        if problem := _wrong_base(of.base.config):
            raise ExportError(problem)
        prove_layers(of)
        file = destination / f"{file_name(adapter)}-{kind.lower()}.gguf"
        model = GgufModel.make(of, adapter, kind.lower())
        model.write(file)
        kept = model.verify(file)
        proved = {"file": file.name, "adapter_kept": round(kept, 4), "same_tokens": prove(of, adapter, file)}
        (destination / PROOF).write_text(json.dumps(proved, indent=1) + "\n", encoding="utf-8")
        try:
            template = go_template(of, adapter.files.get(golden_prompts.NAME))
        except ExportError:
            return file  # llama.cpp takes the chat template as it is; Ollama has no language for it
        write_modelfile(of, adapter, (f"FROM ./{file.name}",), template, destination)
        return file

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        rows = (read_json(path.with_name(PROOF)).get("same_tokens") or {}).get("rows")
        if rows:
            told = say("# llama.cpp itself made the tokens of training of all {n} rows of the data", n=rows)
        else:
            told = say(
                "# the data cannot be read where it was: llama.cpp itself was compared with training on prompts and made-up texts only"
            )
        lines = [command("llama-server", "-m", path, "--jinja"), told]
        modelfile, name = path.with_name("Modelfile"), file_name(adapter).lower()
        if not modelfile.is_file():
            return (*lines, say("# not for Ollama, in whose language the prompt that was trained cannot be said"))
        if path.stem.endswith(("-f16", "-f32", "-bf16")):
            return (*lines, say("# smaller, by Ollama:"), command("ollama", "create", name, "--quantize", "q4_K_M", "-f", modelfile))
        return (*lines, command("ollama", "create", name, "-f", modelfile))


def _wrong_type(kind: str) -> str:
    if kind.lower() in TYPES:
        return ""
    if re.fullmatch(r"(i?q\d_k.*|iq\d.*)", kind.lower()):
        return say(
            "quantize: {kind} is made by llama.cpp and Ollama only. Export with quantize: f16, then `ollama create --quantize q4_K_M` "
            "(q4_K_S, q4_K_M, q8_0) or `llama-quantize in.gguf out.gguf {kind}`",
            kind=kind.upper(),
        )
    return say("quantize: '{kind}' is not known. There are: {known}", kind=kind, known=", ".join(TYPES))


def _wrong_base(config: Mapping[str, Any]) -> str:
    kind = str(config.get("model_type"))
    stored = stored_as(config)
    if stored is not None:
        return say(
            "the base is stored as {stored}, which is not written into a GGUF file directly; use `export: [merged]` and llama.cpp's "
            "convert_hf_to_gguf.py",
            stored=stored,
        )
    if layout.is_known(kind):
        return ""
    return say(
        "the base is of the type {kind}, for which no GGUF of the whole model can be written; use `export: [merged]` and llama.cpp's "
        "convert_hf_to_gguf.py",
        kind=kind,
    )
