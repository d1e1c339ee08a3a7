"""Fetches the files of a base model from Hugging Face or ModelScope, or finds them in their caches on this computer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import ModelError
from .messages import speaker

say = speaker(__name__)

_MODELSCOPE = "modelscope:"


def fetch_base(base_model: str, revision: str | None, patterns: Sequence[str], ignored: Sequence[str] = ()) -> Path:
    """The folder on this computer that holds a repository's files.

    Args:
        base_model: ``org/name`` on Hugging Face, or ``modelscope:org/name``.
        patterns: which files are needed (``*.json``); ``ignored`` are left out of these.

    Raises:
        ModelError: saying what was looked for and what to do.
    """
    if base_model.startswith(_MODELSCOPE):
        return _from_modelscope(base_model.removeprefix(_MODELSCOPE), revision, patterns, ignored)
    return _from_hub(base_model, revision, patterns, ignored)


def offline() -> bool:
    """Whether the user forbids any connection."""
    return any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _from_hub(repository: str, revision: str | None, patterns: Sequence[str], ignored: Sequence[str]) -> Path:
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
            "and give the folder's path as base_model.",
            why=why,
            repository=repository,
        )
        del error
    except (OSError, ValueError) as error:
        problem = str(error).split("\n")[0]
    raise ModelError(say("base_model '{base}' from Hugging Face: {problem}", base=repository, problem=problem))


def _from_modelscope(repository: str, revision: str | None, patterns: Sequence[str], ignored: Sequence[str]) -> Path:
    try:
        from modelscope import snapshot_download
    except ImportError:
        raise ModelError(
            say("base_model 'modelscope:{base}' needs ModelScope's library: pip install 'loraforge[modelscope]'", base=repository)
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
            say("base_model '{base}' from ModelScope: {problem}", base=repository, problem=str(error).split("\n")[0])
        ) from None
