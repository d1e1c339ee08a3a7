# SPDX-License-Identifier: Apache-2.0
"""Loads a transformer from one file, in the original model's layout or in diffusers', by diffusers' own converters."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ModelError, first_few, speaker

from ..base_files import part_config
from ..loading import quiet_diffusers, read_weights
from .single_file import stripped

if TYPE_CHECKING:
    import torch

    from .family import TransformerFamily

say = speaker(__name__)


def load_transformer(file: Path, folder: Path, family: TransformerFamily, dtype: torch.dtype, *, allow_pickle: bool = False) -> Any:
    """The transformer that ``file`` holds, whole or not at all.

    Args:
        folder: a diffusers folder whose ``transformer/config.json`` is its configuration.
        family: whose transformer it is to be.

    Raises:
        ModelError: if it cannot be read, or its tensors are not those of the configuration.
    """
    import diffusers
    import torch
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    quiet_diffusers()
    kind = family.transformer
    made = getattr(diffusers, kind)
    config = part_config(folder / "transformer" / "config.json")
    try:
        tensors = stripped(read_weights(file, allow_pickle))
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old configurations
            shapes = {
                name: tuple(one.shape)
                for name, one in made.from_config(made.load_config(folder, subfolder="transformer")).state_dict().items()
            }
        layout = next((one for one in family.layouts if one.fits(tensors)), None)
        if layout is None:
            raise ModelError(strange(file, family))
        if layout.original:  # a converter may rename once more what has diffusers' names already
            tensors = SINGLE_FILE_LOADABLE_CLASSES[kind]["checkpoint_mapping_fn"](tensors, config=config)
        _compare(file, folder, {name: tuple(one.shape) for name, one in tensors.items()}, shapes)
        return made.from_single_file(tensors, config=str(folder), subfolder="transformer", torch_dtype=dtype, local_files_only=True)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise many kinds for damaged or strange files
        line = str(error).strip().split("\n")[0][:300]
        raise ModelError(
            [
                say("base_model {base} cannot be loaded: {error}", base=file, error=f"{type(error).__name__}: {line}"),
                say("Its configuration is that of {folder}; base_config names another folder of the same model.", folder=folder),
            ]
        ) from None


def strange(file: Path, family: TransformerFamily) -> str:
    """The sentence about a file that holds another model."""
    return say(
        "base_model {file}: model_family is {family}, but its tensors are not those of a {title}'s transformer.",
        file=file,
        family=family.name,
        title=family.title,
    )


def _compare(file: Path, folder: Path, found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    """Raises:
    ModelError: if tensors are missing, are too many, or have other shapes than the configuration says.
    """
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [f"{name} ({_size(found[name])}, {_size(wanted[name])})" for name in wanted if name in found and found[name] != wanted[name]]
    problems = []
    if missing:
        problems.append(
            say(
                "base_model {file}: {n} tensors of its {part} are missing: {names}.",
                file=file,
                n=len(missing),
                part="transformer",
                names=first_few(missing, 3),
            )
        )
    if extra:
        problems.append(
            say(
                "base_model {file}: {n} of its tensors are none of this model's: {names}.",
                file=file,
                n=len(extra),
                names=first_few(extra, 3),
            )
        )
    if other:
        problems.append(
            say(
                "base_model {file}: {n} of its tensors have other sizes than the configuration says (the file's, the configuration's): "
                "{names}.",
                file=file,
                n=len(other),
                names=first_few(other, 3),
            )
        )
    if problems:
        raise ModelError(
            [
                *problems,
                say(
                    "The file is incomplete or changed, or base_config ({folder}) belongs to another model: take the folder of the model "
                    "that the file was made from.",
                    folder=folder,
                ),
            ]
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"
