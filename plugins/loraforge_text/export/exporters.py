"""Exporters of the text task: a PEFT folder for PEFT, transformers and vLLM; a merged model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import Adapter, Exporter, ExportError, speaker

from ..base_files import EMBEDDED, locate
from ..templates.served import export_jinja

say = speaker(__name__)

# What vLLM's --max-lora-rank accepts; its default is 16.
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)


def _copy_tokenizer(base: Path, destination: Path, adapter: Adapter) -> None:
    """The base's tokenizer, with the template that was trained as its chat template, and no other one."""
    for name in _TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, destination / name)
    settings = destination / "tokenizer_config.json"
    if settings.is_file():
        values = json.loads(settings.read_text(encoding="utf-8"))
        values.pop("chat_template", None)
        settings.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    jinja = export_jinja(adapter.facts.get("template", {}))
    if jinja is not None:
        (destination / "chat_template.jinja").write_text(jinja, encoding="utf-8", newline="\n")


def _base_folder(adapter: Adapter) -> Path:
    base = adapter.base_model
    if base in EMBEDDED or not adapter.base_folder or not Path(adapter.base_folder).is_dir():
        return locate(base, adapter.facts.get("revision"), weights=True)
    return Path(adapter.base_folder)


class PeftExporter(Exporter):
    """A folder that PEFT, ``AutoModelForCausalLM.from_pretrained`` and vLLM load."""

    name = "peft"
    task = "text"
    help = "A folder for PEFT, transformers and vLLM: adapter, tokenizer and the chat template that was trained."

    def export(self, adapter: Adapter, destination: Path) -> Path:
        from loraforge.adapters import lora

        lora.write_peft(adapter, destination)
        _copy_tokenizer(_base_folder(adapter), destination, adapter)
        return destination

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        name = str(adapter.facts.get("name", "adapter"))
        if adapter.dora:
            return (
                say("# vLLM does not read DoRA; `loraforge export {run} --to merged` makes a model that it reads", run=path.parent.parent),
            )
        rank = next((r for r in _VLLM_RANKS if r >= adapter.rank), _VLLM_RANKS[-1])
        base = adapter.base_model if adapter.base_model not in EMBEDDED else str(_base_folder(adapter))
        template = f" --chat-template {path / 'chat_template.jinja'}" if (path / "chat_template.jinja").is_file() else ""
        return (f"vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules {name}={path}{template}",)


class MergedExporter(Exporter):
    """A full model with the adapter added to its weights, in the base's own precision."""

    name = "merged"
    task = "text"
    help = "A full model folder with the adapter merged into the weights, for everything that knows no adapters."

    def export(self, adapter: Adapter, destination: Path) -> Path:
        import torch

        from loraforge.adapters import lora

        from ..base_files import read_base
        from ..families.causal_lm import load_model

        folder = _base_folder(adapter)
        # Merged in float32 and rounded once: adding to bf16 weights would round away most of a small adapter.
        model = load_model(folder, "fp32", torch.device("cpu"))
        lora.merge(model, adapter)
        kind: Any = read_base(folder).config.get("dtype") or read_base(folder).config.get("torch_dtype") or "float32"
        dtype = getattr(torch, str(kind).removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype):
            raise ExportError(say("the base's config.json names an unknown dtype '{kind}'.", kind=kind))
        model.to(dtype).save_pretrained(destination, max_shard_size="5GB")
        if (folder / "generation_config.json").is_file():
            shutil.copyfile(folder / "generation_config.json", destination / "generation_config.json")
        _copy_tokenizer(folder, destination, adapter)
        return destination

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        return (f"vllm serve {path}", f"python convert_hf_to_gguf.py {path}   # llama.cpp")
