# SPDX-License-Identifier: Apache-2.0
"""Fetches the files of a base model from Hugging Face or ModelScope, or finds them in their caches on this computer."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .errors import ModelError, printable
from .messages import speaker
from .terminal import quoted

say = speaker(__name__)

_MODELSCOPE = "modelscope:"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx")
_CONFIGS = ("config.json", "model_index.json")


def fetch_base(
    base_model: str, revision: str | None, patterns: Sequence[str], ignored: Sequence[str] = (), called: str = "base_model"
) -> Path:
    """The folder on this computer that holds a repository's files.

    Args:
        base_model: ``org/name`` on Hugging Face, or ``modelscope:org/name``.
        patterns: which files are needed (``*.json``); ``ignored`` are left out of these.
        called: the key or the option that the user wrote it as.

    Raises:
        ModelError: saying what was looked for and what to do.
    """
    if base_model.startswith(_MODELSCOPE):
        return _from_modelscope(base_model.removeprefix(_MODELSCOPE), revision, patterns, ignored, called)
    if ":" in base_model:  # no hub id has one
        if called == "base_model":
            raise ModelError(f"base_model: {explain_base(base_model) or base_model}")
        raise ModelError(say("{called}: '{name}' is neither a folder nor a repository, org/name.", called=called, name=base_model))
    return _from_hub(base_model, revision, patterns, ignored, called)


def licence_of(folder: Path) -> str:
    """The licence that a base's own folder names, as its model card does (``apache-2.0``) or in the first line of its LICENSE; empty if it
    names none."""
    for name in ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt"):
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                text = file.read(20_000)
        except OSError:
            continue
        if name != "README.md":
            lines = [line.strip(" #*\t") for line in text.splitlines() if line.strip(" #*\t")]
            return printable(" ".join(lines[:2]))[:80] if lines else ""
        card = re.match(r"\ufeff?---\s*\n(.*?)\n---", text, re.DOTALL)
        stated = dict(re.findall(r"^(license|license_name):[ \t]*['\"]?([^\s'\"#\[]+)", card[1], re.MULTILINE)) if card else {}
        if stated:
            return printable(stated.get("license_name") or stated["license"])[:80]
    return ""


def explain_base(base_model: str) -> str:
    """What a ``base_model`` probably is that no model family takes, and what to write instead; empty if nothing can be said.

    Looks at the name and at what lies on this computer; nothing is asked over a connection.
    """
    path = Path(base_model).expanduser()
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        return say(
            "'{base}' is called like a GGUF file, and it is none, or it is not there. Language models take such a file as base_model: "
            "give its path.",
            base=base_model,
        )
    if "gguf" in base_model.lower().rpartition("/")[2].split("-"):
        return say(
            "'{base}' is a repository of GGUF files, one of which is enough: `hf download {base} FILE.gguf --local-dir .`, then "
            "base_model: ./FILE.gguf. Better still is the model that they were made from, org/name: it holds no rounded weights.",
            base=base_model,
        )
    if suffix in _WEIGHTS:
        return say(
            "'{base}' holds weights only; a base is the folder with config.json, the tokenizer and all the weights: {folder}",
            base=base_model,
            folder=path.parent if path.parent.name else say("give that folder, or org/name"),
        )
    if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?:[\w.-]+", base_model) and not base_model.startswith(_MODELSCOPE):
        return say(
            "'{base}' is a name of Ollama's. `ollama show {base} --modelfile` prints the path of its file behind FROM: write that path as "
            "base_model. Better still is the model that it was made from, org/name: it holds no rounded weights.",
            base=base_model,
        )
    if re.fullmatch(r"[\w.-]+", base_model):
        have = cached(base_model)
        told = say("In the hub's cache on this computer: {names}.", names=", ".join(have)) if have else ""
        return " ".join([
            say("'{base}' names no organisation. Write it as its page has it, org/name, or ./{base} for a folder.", base=base_model),
            *([told] if told else []),
        ])  # fmt: skip
    return ""


def cached(name: str) -> list[str]:
    """The hub ids in this computer's cache whose last part is ``name``, whatever the case."""
    return sorted(found for found in _cache() if found.rpartition("/")[2].casefold() == name.casefold())


def _cache() -> list[str]:
    """The hub ids of models that have a folder in this computer's cache."""
    from huggingface_hub import constants

    try:
        folders = [folder.name for folder in Path(constants.HF_HUB_CACHE).iterdir() if folder.name.startswith("models--")]
    except OSError:
        return []
    return [folder.removeprefix("models--").replace("--", "/", 1) for folder in folders]


def _folder(path: Path) -> str:
    """What a folder is that is no base: the cache's folder of one, or the folder above one or several."""
    named = re.fullmatch(r"models--([\w.-]+?)--([\w.-]+)", path.name)
    try:
        inside = sorted({
            file.parent for pattern in _CONFIGS for depth in ("*/", "*/*/") for file in path.glob(depth + pattern)
        })[:5]  # fmt: skip
    except OSError:
        return ""
    if any((path / file).is_file() for file in _CONFIGS):
        return ""
    if named and inside:
        return say(
            "{folder} is a folder of the hub's cache; write {name}, or {inside}.",
            folder=path,
            name=f"{named[1]}/{named[2]}",
            inside=inside[0],
        )
    if inside:
        return say(
            "{folder} has no config.json; the base may be one folder further down: {inside}.",
            folder=path,
            inside=", ".join(map(str, inside)),
        )
    if files := sorted(path.glob("*.gguf")):
        return say("{folder} is a folder with GGUF files; write the one that is meant: base_model: {file}", folder=path, file=files[0])
    return ""


def offline() -> bool:
    """Whether the user forbids any connection."""
    return any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _from_hub(repository: str, revision: str | None, patterns: Sequence[str], ignored: Sequence[str], called: str) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(
            huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(ignored))
        )
    except errors.GatedRepoError:
        problem = say("its owner grants access on request. Ask on its page, then run `hf auth login`.")
    except errors.RevisionNotFoundError:
        problem = say("it has no revision '{revision}'.", revision=revision)
    except errors.RepositoryNotFoundError:
        problem = say("there is no such repository, or it is private and you are not logged in (`hf auth login`).")
    except errors.LocalEntryNotFoundError as error:  # also what offline mode ends in
        why = say("HF_HUB_OFFLINE is set") if offline() else say("the hub cannot be reached")
        problem = say(
            "it is not on this computer and {why}. With a connection: `hf download {repository}`; without: copy its folder here "
            "and give the folder's path as {called}.",
            called=called,
            why=why,
            repository=quoted(repository),
        )
        if close := difflib.get_close_matches(repository, _cache(), n=1, cutoff=0.8):
            problem += say(" The cache on this computer has '{name}'.", name=close[0])
        del error
    except (OSError, ValueError) as error:
        problem = str(error).split("\n")[0]
    raise ModelError(say("{called} '{base}' from Hugging Face: {problem}", called=called, base=repository, problem=problem))


def _from_modelscope(repository: str, revision: str | None, patterns: Sequence[str], ignored: Sequence[str], called: str) -> Path:
    try:
        from modelscope import snapshot_download
    except ImportError:
        raise ModelError(
            say(
                "{called} 'modelscope:{base}' needs ModelScope's library: pip install 'loraforge[modelscope]'",
                called=called,
                base=repository,
            )
        ) from None
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored),
                local_files_only=offline(),  # its library does not know the other hub's variable
            )
        )
    except Exception as error:  # its library raises many kinds, requests' among them
        raise ModelError(
            say("{called} '{base}' from ModelScope: {problem}", called=called, base=repository, problem=str(error).split("\n")[0])
        ) from None
