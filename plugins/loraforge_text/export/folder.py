# SPDX-License-Identifier: Apache-2.0
"""What stands beside the weights in an exported folder: tokenizer, chat template, and the stop that was trained."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import Adapter, ExportError, LoraForgeError, ModelFamily, RunConfig, printable, read_text, speaker

from ..base_files import ADDITIONAL, EMBEDDED, TOOL_USE, BaseFiles, gguf_source, is_trained_file, locate, read_base
from ..gguf_bases.conversion import PACKAGED, origin
from ..templates.builtin import AutoTemplate
from ..templates.prompting import Prompting
from ..templates.served import export_jinja
from ..templates.stops import stop_ids, trained_stop

say = speaker(__name__)

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
_PLAIN = "PreTrainedTokenizerFast"
# Keys of generation_config.json that change even the answer that always takes the likeliest token, with the value that changes nothing.
_CHANGES_GREEDY = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "num_beams": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "bad_words_ids": [],
    "sequence_bias": {},
    "guidance_scale": 1.0,
    "stop_strings": [],
}


@dataclass(frozen=True)
class Served:
    """How a run asks and how its answers end.

    Attributes:
        folder: the base's.
        prompting: what was trained.
        stop: the token that ends a learned answer; empty if none does.
        stop_ids: what ends an answer, the trained stop first; empty if nothing does.
    """

    folder: Path
    base: BaseFiles
    prompting: Prompting
    stop: str
    stop_ids: tuple[int, ...]


def base_folder(adapter: Adapter) -> Path:
    """Where the adapter's base lies, with its weights."""
    base = adapter.base_model
    if base in EMBEDDED or base in PACKAGED or not adapter.base_folder or not Path(adapter.base_folder).is_dir():
        return locate(base, adapter.facts.get("revision"), weights=True)
    return Path(adapter.base_folder)


def base_file(adapter: Adapter) -> Path | None:
    """The GGUF file that the adapter was trained on, if it was, and that very file is still there."""
    try:
        file = gguf_source(adapter.base_model)
        there = file is not None and is_trained_file(locate(adapter.base_model), adapter.facts)
    except LoraForgeError:
        return None
    return file if there else None


def named_base(adapter: Adapter) -> Path | str:
    """What other programs load the base by: its folder, where the name says nothing to them."""
    if adapter.base_model in EMBEDDED or origin(base_folder(adapter)):
        return base_folder(adapter)
    return adapter.base_model


def file_name(adapter: Adapter) -> str:
    """The run's name as the name of a file, without its ending."""
    return re.sub(r"[^\w.-]+", "-", str(adapter.facts.get("name", "adapter"))).strip(".-") or "adapter"


def on_one_line(text: str) -> str:
    """For a comment, which ends where the line does."""
    return printable(text).replace("\n", "\\n")


def served(adapter: Adapter) -> Served:
    """What an adapter's facts and its base say about prompts and stops.

    Raises:
        ExportError: if answers end in a text that is no single token: no program can stop at it.
    """
    folder = base_folder(adapter)
    base = read_base(folder)
    prompting = AutoTemplate().recall(adapter.facts.get("template") or {}).prompting
    stop = trained_stop(prompting) if prompting.jinja or prompting.inline else ""
    if stop and stop not in base.added:
        raise ExportError(
            say("answers were trained to end in {stop!r}, which is no token of the base: nothing could stop there.", stop=stop)
        )
    return Served(folder, base, prompting, stop, stop_ids(base, stop))


def without_base(exporter: str, family: ModelFamily, config: RunConfig) -> str:
    """Why nothing could be written for a base of another plugin's family: what is written holds the base's tokenizer and configuration."""
    from ..families.causal_lm import CausalLM

    if isinstance(family, CausalLM):
        return ""
    try:
        read_base(locate(config.base_model, config.revision))
    except LoraForgeError as error:
        return say(
            "export: {exporter} needs the base's tokenizer and config.json, and a base of the family '{family}' has none ({error}). Use an "
            "exporter of its plugin, or export: [].",
            exporter=exporter,
            family=family.name,
            error=str(error).split("\n")[0].rstrip("."),
        )
    return ""


def write_beside(of: Served, adapter: Adapter, destination: Path) -> None:
    """The base's tokenizer with the template and the stop that were trained, and generation_config.json with that stop."""
    for name in _TOKENIZER_FILES:
        if (of.folder / name).is_file():
            shutil.copyfile(of.folder / name, destination / name)
    jinja = export_jinja(adapter.facts.get("template") or {})
    if jinja is not None:
        (destination / "chat_template.jinja").write_text(jinja, encoding="utf-8", newline="\n")
        _write_others(of, jinja, destination / ADDITIONAL)
    settings = read_json(destination / "tokenizer_config.json")
    settings.pop("chat_template", None)
    if of.stop:
        settings["eos_token"] = of.stop
    _write_json(destination / "tokenizer_config.json", settings)
    if "auto_map" in settings or not settings.get("tokenizer_class"):
        # Its code lies elsewhere, or a reader would look for it in the model's config.json, which an adapter has not.
        use_tokenizer_json(destination)
    named = read_json(destination / "special_tokens_map.json")
    if named and of.stop:
        _write_json(destination / "special_tokens_map.json", {**named, "eos_token": of.stop})
    generation = read_json(of.folder / "generation_config.json")
    if of.stop_ids:
        generation["eos_token_id"] = list(of.stop_ids)
    if generation:
        _write_json(destination / "generation_config.json", generation)


def _write_others(of: Served, jinja: str, folder: Path) -> None:
    """The base's other named templates beside the one that was trained; where that one knows tools, it is the one for them too."""
    if of.prompting.jinja is None or not of.base.named:
        return
    both = of.base.template_for(tools=True)
    trained = both != of.base.chat_template and of.prompting.jinja.startswith(both or " ")
    for name, text in of.base.named.items():
        if text != of.base.chat_template:
            folder.mkdir(exist_ok=True)
            written = jinja if trained and name == TOOL_USE else text
            (folder / f"{name}.jinja").write_text(written, encoding="utf-8", newline="\n")


def write_stop_in_config(of: Served, destination: Path) -> None:
    """``eos_token_id`` in a model's config.json, in that of its language part too."""
    config = read_json(destination / "config.json")
    if of.stop_ids:
        for part in (config, config.get("text_config")):
            if isinstance(part, dict):
                part["eos_token_id"] = list(of.stop_ids)
        _write_json(destination / "config.json", config)


def use_tokenizer_json(folder: Path) -> bool:
    """Makes transformers take tokenizer.json as it stands, which is what training did, and not rebuild it in a class of its own.

    Returns:
        Whether anything changed.
    """
    settings = read_json(folder / "tokenizer_config.json")
    if not (folder / "tokenizer.json").is_file() or settings.get("tokenizer_class") == _PLAIN:
        return False
    settings.pop("auto_map", None)
    _write_json(folder / "tokenizer_config.json", {**settings, "tokenizer_class": _PLAIN})
    return True


def answers_otherwise(folder: Path) -> Sequence[str]:
    """What an exported generation_config.json has that changes answers even at temperature 0, as ``key value``."""
    generation = read_json(folder / "generation_config.json")
    changed = {key: generation.get(key) for key, nothing in _CHANGES_GREEDY.items() if generation.get(key) not in (None, nothing)}
    return [f"{key} {json.dumps(value)}" for key, value in changed.items()]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    return dict(json.loads(read_text(path))) if path.is_file() else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
