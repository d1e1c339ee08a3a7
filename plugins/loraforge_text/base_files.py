# SPDX-License-Identifier: Apache-2.0
"""Where a base model's files are: embedded, a folder, a GGUF file, Hugging Face, ModelScope. Without torch; weights only if wanted."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraforge import ModelError, explain_base, fetch_base, panics_as_errors, read_text, refuse_machines_fault, require_files, speaker

from .gguf_bases import conversion
from .gguf_bases.gguf_file import means_gguf

say = speaker(__name__)

EMBEDDED: Mapping[str, Path] = {"tiny-chat": Path(__file__).parent / "tiny_chat" / "model"}
# Very small models learn at rates that would break a large one.
TYPICAL_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "tiny-chat": {"learning_rate": (5e-4, 5e-3)},
    "smollm2": {"learning_rate": (2e-4, 1e-3)},
}
ADDITIONAL = "additional_chat_templates"  # a folder of named chat templates, see transformers.utils.hub
TOOL_USE = "tool_use"  # the name of the one that transformers takes when there are tools
_SMALL = ("*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "vocab.txt", "merges.txt", "README.md")
_WEIGHTS = ("*.safetensors",)
# Copies of the weights in other formats that many repositories carry.
_IGNORED = ("original/*", "onnx/*", "openvino/*", "gguf/*", "*.gguf", "*.onnx")


def gguf_source(base_model: str) -> Path | None:
    """The GGUF file that ``base_model`` means; None if it means something else.

    Raises:
        ModelError: if it comes as a package that is not installed.
    """
    if base_model in conversion.PACKAGED:
        return conversion.packaged(base_model)
    path = Path(base_model).expanduser()
    return path.absolute() if means_gguf(path) else None


def is_trained_file(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a base's folder was made of the GGUF file that an adapter was trained on, by the adapter's facts; True for other bases."""
    training, sha = facts.get("training"), conversion.origin(folder).get("sha256")
    trained = training.get("gguf") if isinstance(training, Mapping) else None
    return not (isinstance(trained, str) and sha) or str(sha) in trained


def require_trained_file(base_model: str, folder: Path, facts: Mapping[str, Any]) -> None:
    """
    Raises:
        ModelError: if ``is_trained_file`` is False: the adapter would be put on weights that it does not know.
    """
    if not is_trained_file(folder, facts):
        raise ModelError(
            say(
                "{base} is another file than the one that the adapter was trained on: {trained}. Put that file back, or name it "
                "(base_model, --base).",
                base=base_model,
                trained=facts["training"]["gguf"],
            )
        )


@functools.cache
def locate(base_model: str, revision: str | None = None, *, weights: bool = False) -> Path:
    """The folder that holds the base model's files.

    Args:
        base_model: an embedded name, a folder, a GGUF file, ``org/name`` on Hugging Face, or ``modelscope:org/name``.
        weights: fetch the weights too, not only configuration and tokenizer.

    Raises:
        ModelError: saying what was looked for and what to do.
    """
    if base_model in EMBEDDED:
        return EMBEDDED[base_model]
    folder = Path(base_model).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if (file := gguf_source(base_model)) is not None:
        return conversion.base_of(file)
    patterns = [*_SMALL, *(_WEIGHTS if weights else ())]
    if base_model.startswith("modelscope:"):
        return fetch_base(base_model, revision, patterns, _IGNORED)
    if base_model.count("/") != 1 or folder.is_file():
        raise ModelError(
            explain_base(base_model)
            or say(
                "base_model '{base}' is neither a folder, nor a GGUF file, nor an embedded model ({embedded}), nor a hub "
                "id of the form org/name.",
                base=base_model,
                embedded=", ".join((*EMBEDDED, *conversion.PACKAGED)),
            )
        )
    return fetch_base(base_model, revision, patterns, _IGNORED)


@dataclass(frozen=True)
class BaseFiles:
    """What a base's small files say.

    Attributes:
        folder: where they are.
        config: ``config.json``.
        chat_template: the Jinja text of its own chat template, or None; of several the one that is meant when no other is named.
        named: its chat templates by name, where there are several.
        tokens: its named special tokens: ``bos_token``, ``eos_token`` ...
        added: every token that the tokenizer recognises inside text, by text, with its id.
        stops: the tokens that end an answer, the usual one first.
        adds_bos: whether its tokenizer puts the BOS token before plain text.
    """

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)
    special: frozenset[str] = frozenset()
    stops: tuple[str, ...] = ()
    adds_bos: bool = False
    named: Mapping[str, str] = field(default_factory=dict)

    def template_for(self, *, tools: bool) -> str | None:
        """Its own chat template as one text, in which conversations with tools get the one for them, as in transformers.

        Args:
            tools: whether there are such conversations.
        """
        other = self.named.get(TOOL_USE)
        if not tools or not other or not self.chat_template or other == self.chat_template:
            return self.chat_template
        # Jinja leaves out a line break at the very end.
        first, second = (text.removesuffix("\n") for text in (other, self.chat_template))
        return "{% if tools %}\n" + first + "{% else %}\n" + second + "{% endif %}"


# End-of-turn tokens of well-known chat formats; one counts only where the tokenizer has it.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|return|>", "<|endoftext|>", "</s>")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    except RecursionError:
        raise _damaged(path, say("nested too deeply")) from None
    if not isinstance(value, dict):
        raise _damaged(path, say("it is no JSON object"))
    return value


def _damaged(path: Path, error: object) -> ModelError:
    return ModelError(say("{path} of the base model cannot be read: {error}.", path=path, error=error))


@functools.cache
def read_base(folder: Path) -> BaseFiles:
    """What a base's small files say, read once; see ``read_files``."""
    return read_files(folder)


def read_files(folder: Path) -> BaseFiles:
    """Reads configuration, template and special tokens of a base, or of an export, which has no configuration.

    Raises:
        ModelError: if a file is damaged.
    """
    try:
        require_files(folder)  # the libraries are given the folder later, and would wait for a pipe
    except OSError as error:
        raise _damaged(Path(error.filename), error) from None
    config, tokenizer_config = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    if not isinstance(config.get("architectures"), list | None):
        raise _damaged(folder / "config.json", say("'{key}' is no list", key="architectures"))
    named = {**_json(folder / "special_tokens_map.json"), **{k: v for k, v in tokenizer_config.items() if k.endswith("_token")}}
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in named.items()}
    tokens = {key: value for key, value in texts.items() if isinstance(value, str)}
    listed = _added(folder, tokenizer_config)
    added = {entry["content"]: entry["id"] for entry in listed}
    special = frozenset(entry["content"] for entry in listed if entry.get("special"))
    ends = _json(folder / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))
    by_id = {number: text for text, number in added.items()}
    stops = [by_id[i] for i in (ends if isinstance(ends, list) else [ends]) if isinstance(i, int) and i in by_id]
    stops = [*([tokens["eos_token"]] if tokens.get("eos_token") else []), *stops, *(t for t in _TURN_ENDS if t in added)]
    templates = _chat_templates(folder, tokenizer_config)
    return BaseFiles(
        folder,
        config,
        _usual(templates),
        tokens,
        added,
        special | set(stops),
        tuple(dict.fromkeys(stops)),
        _adds_bos(folder, tokens),
        templates if len(templates) > 1 else {},
    )


def _added(folder: Path, tokenizer_config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every token that the tokenizer recognises inside text, as its files list them.

    Raises:
        ModelError: if they do it in another way than all others.
    """
    try:
        listed = _json(folder / "tokenizer.json").get("added_tokens") or [
            {"content": entry.get("content"), "id": int(key), "special": entry.get("special")}
            for key, entry in tokenizer_config.get("added_tokens_decoder", {}).items()
        ]
        return [{**entry, "content": str(entry["content"]), "id": int(entry["id"])} for entry in listed]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(folder / "tokenizer.json", say("its added tokens are not as they should be ({error!r})", error=error)) from None


def _chat_templates(folder: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """By name: from ``chat_template.jinja`` and the folder beside it, otherwise from the tokenizer's config or ``chat_template.json``."""
    files = {"default": folder / "chat_template.jinja"} | {file.stem: file for file in sorted((folder / ADDITIONAL).glob("*.jinja"))}
    found: Any = {name: _text(file) for name, file in files.items() if file.is_file()}
    found = found or tokenizer_config.get("chat_template") or _json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        found = {str(entry.get("name")): entry.get("template") for entry in found if isinstance(entry, dict)}
    found = found if isinstance(found, dict) else {"default": found}
    return {name: text for name, text in found.items() if isinstance(text, str) and text.strip()}


def _usual(named: Mapping[str, str]) -> str | None:
    """The template of these that is meant when none is named; the one for tools only where there is no other."""
    return next((named[name] for name in ("default", *sorted(named, key=lambda name: name == TOOL_USE)) if name in named), None)


def _text(file: Path) -> str:
    try:
        return read_text(file)
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from None


def _adds_bos(folder: Path, tokens: Mapping[str, str]) -> bool:
    if not tokens.get("bos_token") or not (folder / "tokenizer.json").is_file():
        return False
    from tokenizers import Tokenizer

    try:
        with panics_as_errors():
            encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a")
    except Exception as error:  # the tokenizers library raises bare Exception
        refuse_machines_fault(error)
        raise _damaged(folder / "tokenizer.json", error) from None
    return bool(encoded.tokens) and encoded.tokens[0] == tokens["bos_token"]
