# SPDX-License-Identifier: Apache-2.0
"""Exporters of the text task: a PEFT folder for PEFT, transformers and vLLM; a merged model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import Adapter, Exporter, ExportError, KeySet, ModelFamily, RunConfig, command, quoted, read_file, speaker

from ..templates.golden_prompts import NAME, questions_of_data
from .check import check_folder, check_weights
from .folder import answers_otherwise, file_name, named_base, on_one_line, served, without_base, write_beside, write_stop_in_config

say = speaker(__name__)

# What vLLM's --max-lora-rank accepts; its default is 16.
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class PeftExporter(Exporter):
    """A folder that PEFT, ``AutoModelForCausalLM.from_pretrained`` and vLLM load."""

    name = "peft"
    task = "text"
    kinds = ("lora", "lokr", "loha")
    help = "A folder for PEFT, transformers and vLLM: adapter, tokenizer and the chat template that was trained."
    at_saves = True

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        return without_base(self.name, family, config)

    def export(self, adapter: Adapter, destination: Path) -> Path:
        from loraforge.adapters import lora

        of = served(adapter)
        lora.write_peft(adapter, destination)
        write_beside(of, adapter, destination)
        check_folder(of, adapter, destination)
        return destination

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        run = quoted(path.parent.parent)
        if adapter.dora or adapter.kind != "lora":
            kind = "DoRA" if adapter.dora else adapter.kind
            vllm = say("# vLLM does not read {kind}; `loraforge export {run} --to merged` makes a model that it reads", kind=kind, run=run)
            return vllm, _colleagues(run)
        largest = max([adapter.rank, *adapter.ranks.values()])
        rank = next((r for r in _VLLM_RANKS if r >= largest), _VLLM_RANKS[-1])
        base = named_base(adapter)
        template = path / "chat_template.jinja"
        # vLLM takes tokenizer and stops of the base; --override-generation-config reaches only how it samples, not where it stops.
        stops = ["--generation-config", path] if (path / "generation_config.json").is_file() else []
        served_as = f"{adapter.facts.get('name', 'adapter')}={path}"
        line = ["vllm", "serve", base, "--enable-lora", "--max-lora-rank", rank, "--lora-modules", served_as]
        return (
            command(*line, *(["--chat-template", template] if template.is_file() else []), *stops),
            say(
                "# llama.cpp and Ollama: `loraforge export {run} --to gguf`. `transformers serve` takes no adapter folder: "
                "`loraforge export {run} --to merged` makes a model for it",
                run=run,
            ),
            _colleagues(run),
            *_note(path),
            *_questions(path),
        )


def _colleagues(run: str) -> str:
    return say("# for colleagues, with a page to ask it in a browser: `loraforge serve {run}`", run=run)


class MergedExporter(Exporter):
    """A full model with the adapter added to its weights, in the base's own precision."""

    name = "merged"
    task = "text"
    kinds = ("lora", "lokr", "loha")
    help = "A full model folder with the adapter merged into the weights, for everything that knows no adapters."

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        return without_base(self.name, family, config)

    def export(self, adapter: Adapter, destination: Path) -> Path:
        import torch

        from loraforge.adapters import lora

        from ..families.loading import load_model

        of = served(adapter)
        # Merged in float32 and rounded once: adding to bf16 weights would round away most of a small adapter.
        model = load_model(of.folder, "fp32", torch.device("cpu"))
        lora.merge(model, adapter)
        kind: Any = of.base.config.get("dtype") or of.base.config.get("torch_dtype") or "float32"
        dtype = getattr(torch, str(kind).removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype):
            raise ExportError(say("the base's config.json names an unknown dtype '{kind}'.", kind=kind))
        model.to(dtype).save_pretrained(destination, max_shard_size="5GB")
        del model
        write_beside(of, adapter, destination)
        write_stop_in_config(of, destination)
        check_folder(of, adapter, destination)
        check_weights(destination)
        return destination

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        of = served(adapter)
        stop = (say('# Ollama, in the Modelfile beside FROM: PARAMETER stop "{stop}"', stop=on_one_line(of.stop)),) if of.stop else ()
        return (
            command("vllm", "serve", path),
            command("transformers", "serve", path),
            command("python", "convert_hf_to_gguf.py", path, "--outfile", f"{file_name(adapter)}.gguf") + "   # llama.cpp",
            *stop,
            *_note(path),
        )


def _questions(path: Path) -> Sequence[str]:
    """That the export holds questions of the data, where it does."""
    file = path / NAME
    count = questions_of_data(read_file(file)) if file.is_file() else 0
    if not count:
        return ()
    return (
        say(
            "# ! {file} holds {n} questions of your data. Delete it before you hand the export on if they must not leave (golden: neutral "
            "or off)",
            file=NAME,
            n=count,
        ),
    )


def _note(path: Path) -> Sequence[str]:
    changed = answers_otherwise(path)
    if not changed:
        return ()
    return (
        say(
            "# ! The base's generation_config.json sets {changed}, which servers apply and `sample` and `eval` do not: "
            "set it back in the request for the answers that were measured",
            changed=on_one_line(", ".join(changed)),
        ),
    )
