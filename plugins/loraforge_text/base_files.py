"""Where a base model's files are: embedded, a folder, Hugging Face, ModelScope. Without torch; weights only if wanted."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraforge import ModelError, explain_base, fetch_base, read_text, refuse_machines_fault, require_files, speaker

say = speaker(__name__)

EMBEDDED: Mapping[str, Path] = {"tiny-chat": Path(__file__).parent / "tiny_chat" / "model"}
# Very small models learn at rates that would break a large one.
TYPICAL_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {"tiny-chat": {"learning_rate": (5e-4, 5e-3)}}
_SMALL = ("*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "vocab.txt", "merges.txt")
_WEIGHTS = ("*.safetensors",)
# Copies of the weights in other formats that many repositories carry.
_IGNORED = ("original/*", "onnx/*", "openvino/*", "gguf/*", "*.gguf", "*.onnx")


@functools.cache
def locate(base_model: str, revision: str | None = None, *, weights: bool = False) -> Path:
    """The folder that holds the base model's files.

    Args:
        base_model: an embedded name, a folder, ``org/name`` on Hugging Face, or ``modelscope:org/name``.
        weights: fetch the weights too, not only configuration and tokenizer.

    Raises:
        ModelError: saying what was looked for and what to do.
    """
    if base_model in EMBEDDED:
        return EMBEDDED[base_model]
    folder = Path(base_model).expanduser()
    if folder.is_dir():
        return folder.absolute()
    patterns = [*_SMALL, *(_WEIGHTS if weights else ())]
    if base_model.startswith("modelscope:"):
        return fetch_base(base_model, revision, patterns, _IGNORED)
    if base_model.count("/") != 1 or folder.is_file():
        raise ModelError(
            explain_base(base_model)
            or say(
                "base_model '{base}' is neither a folder, nor an embedded model ({embedded}), nor a hub id of the form org/name.",
                base=base_model,
                embedded=", ".join(EMBEDDED),
            )
        )
    return fetch_base(base_model, revision, patterns, _IGNORED)


@dataclass(frozen=True)
class BaseFiles:
    """What a base's small files say.

    Attributes:
        folder: where they are.
        config: ``config.json``.
        chat_template: the Jinja text of its own chat template, or None.
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
    reason = (isinstance(error, OSError) and error.strerror) or error
    return ModelError(say("{path} of the base model cannot be read: {error}.", path=path, error=reason))


@functools.cache
def read_base(folder: Path) -> BaseFiles:
    """Reads configuration, template and special tokens.

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
    return BaseFiles(
        folder,
        config,
        _chat_template(folder, tokenizer_config),
        tokens,
        added,
        special | set(stops),
        tuple(dict.fromkeys(stops)),
        _adds_bos(folder, tokens),
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


def _chat_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    """From ``chat_template.jinja``, ``chat_template.json`` or the tokenizer's config; of several named ones the default."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return read_text(file)
        except (OSError, ValueError) as error:
            raise _damaged(file, error) from None
    found = tokenizer_config.get("chat_template") or _json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) and found.strip() else None


def _adds_bos(folder: Path, tokens: Mapping[str, str]) -> bool:
    if not tokens.get("bos_token") or not (folder / "tokenizer.json").is_file():
        return False
    from tokenizers import Tokenizer

    try:
        encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a")
    except Exception as error:  # the tokenizers library raises bare Exception
        refuse_machines_fault(error)
        raise _damaged(folder / "tokenizer.json", error) from None
    return bool(encoded.tokens) and encoded.tokens[0] == tokens["bos_token"]
