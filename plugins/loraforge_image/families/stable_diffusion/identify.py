# SPDX-License-Identifier: Apache-2.0
"""Which Stable Diffusion a base is: an embedded one, a diffusers folder, a hub id, a single file. Reads headers and configs only."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import ModelError, fetch_base, speaker

from ..base_files import EMBEDDED, PICKLES, SMALL, header, impossible, is_hub_id, locate, part_config, read_config
from ..objectives import NO_DIFFUSION
from .declared import declared
from .published import PUBLISHED

say = speaker(__name__)

WEIGHTS = ("unet/*.safetensors*", "vae/*.safetensors*", "text_encoder*/*.safetensors*")


@dataclass(frozen=True)
class Base:
    """What a base model turned out to be.

    Attributes:
        place: the folder or file; for a hub id the folder in the hub's cache.
        family: sd15, sd2, sdxl, or nothing if it is none of them.
        what: what it is, for people.
        prediction: epsilon or v_prediction; nothing if the files do not say, as many single files do not.
        zero_snr: whether a single file says that its noise ends in noise alone; None if it does not say.
        clip_skip: the layer of the text encoder that a single file says it was trained with.
        read: whether that was seen in the files; a pickle is not opened before somebody allows it, and its family is a guess.
    """

    place: Path
    family: str
    what: str
    prediction: str = ""
    read: bool = True
    zero_snr: bool | None = None
    clip_skip: int | None = None

    @property
    def predicts(self) -> str:
        """What it predicts as far as is known without being told: nothing for a file of Stable Diffusion 2 that does not say."""
        return self.prediction or (PUBLISHED[self.family].predicts if self.family else "")


@functools.cache
def identify(base_model: str, revision: str | None = None) -> Base:
    """Looks at names and configs, never at weights.

    Raises:
        ModelError: if it cannot be found or read.
    """
    place = locate(base_model, revision)
    if place.is_dir():
        return _folder(place)
    if place.suffix.lower() in PICKLES:
        what = say("a pickled checkpoint ({name}); which family it is shows when it is read", name=place.name)
        return Base(place, "sd15", what, read=False)
    return _file(place)


def _check_widths(path: Path, unet: Mapping[str, Any]) -> None:
    """Raises:
    ModelError: if the widths of the blocks, which are asked for before the model is loaded, are none.
    """
    widths = unet.get("block_out_channels", [])
    if not isinstance(widths, list) or not all(isinstance(width, int) and width > 0 for width in widths):
        raise ModelError(impossible(path, "block_out_channels", widths))


def _folder(place: Path) -> Base:
    index = read_config(place / "model_index.json")
    unet = part_config(place / "unet" / "config.json")
    kind = str(index.get("_class_name", ""))
    if not unet:
        config = read_config(place / "config.json")
        listed = config.get("architectures")
        named = ", ".join(str(n) for n in listed) if isinstance(listed, list) else ""
        if named:
            return Base(place, "", say("{path} is a language model ({name}); `loraforge train text` trains it", path=place, name=named))
        if kind:
            return Base(place, "", say("{path} is a {name}, which has no U-Net of Stable Diffusion", path=place, name=kind))
        return Base(place, "", say("{path} is no diffusers folder: it has no model_index.json and no unet/config.json", path=place))
    # Those models read a mask or a depth map beside the picture they predict; an autoencoder with more channels widens both alike.
    if unet.get("in_channels", 4) != unet.get("out_channels", 4):
        return Base(place, "", say("{path} is an inpainting or depth model ({n} input channels)", path=place, n=unet["in_channels"]))
    _check_widths(place / "unet" / "config.json", unet)
    schedule = place / "scheduler" / "scheduler_config.json"
    settings = read_config(schedule)
    drawn = str(settings.get("_class_name") or "")
    if drawn.startswith(NO_DIFFUSION):
        return Base(place, "", say("{path} is trained on another kind of noise than Stable Diffusion ({name})", path=place, name=drawn))
    prediction = settings.get("prediction_type") or "epsilon"
    if prediction not in ("epsilon", "v_prediction"):
        raise ModelError(impossible(schedule, "prediction_type", prediction))
    if unet.get("addition_embed_type") == "text_time":
        if not (place / "text_encoder").is_dir():
            return Base(place, "", say("{path} is a refiner of Stable Diffusion XL, which is not trained", path=place))
        return Base(place, "sdxl", PUBLISHED["sdxl"].title, prediction)
    linear = bool(unet.get("use_linear_projection")) or unet.get("cross_attention_dim") == 1024
    family = "sd2" if linear else "sd15"
    return Base(place, family, PUBLISHED[family].title, prediction)


def _file(place: Path) -> Base:
    found = header(place)
    said = found.pop("__metadata__", None)
    return of_tensors(place, {name: _shape(entry) for name, entry in found.items()}, said if isinstance(said, dict) else {})


def _shape(entry: Any) -> Sequence[int]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    return shape if isinstance(shape, list) and all(isinstance(side, int) for side in shape) else ()


def of_tensors(place: Path, shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, Any] | None = None) -> Base:
    """What a single file holds, by the names and shapes of its tensors, and what its header says."""
    if any(".lora_" in name or name.startswith("lora_") for name in shapes):
        return Base(place, "", say("{path} is a LoRA, not a base model", path=place))
    if not any(name.startswith("model.diffusion_model.") for name in shapes):
        return Base(place, "", say("{path} holds no checkpoint of Stable Diffusion (no model.diffusion_model)", path=place))
    first = shapes.get("model.diffusion_model.input_blocks.0.0.weight", ())
    if len(first) == 4 and first[1] != 4:
        return Base(place, "", say("{path} is an inpainting or depth model ({n} input channels)", path=place, n=first[1]))
    said = declared(shapes, metadata or {})
    if said.other:
        return Base(
            place, "", say("{path} is trained on another kind of noise than Stable Diffusion ({name})", path=place, name=said.other)
        )
    for start, family in (
        ("conditioner.embedders.1.", "sdxl"),
        ("conditioner.embedders.0.", ""),
        ("cond_stage_model.model.", "sd2"),
        ("cond_stage_model.transformer.", "sd15"),
    ):
        if any(name.startswith(start) for name in shapes):
            if not family:
                return Base(place, "", say("{path} is a refiner of Stable Diffusion XL, which is not trained", path=place))
            return Base(place, family, PUBLISHED[family].title, said.prediction, zero_snr=said.zero_snr, clip_skip=said.clip_skip)
    return Base(place, "", say("{path} is a Stable Diffusion U-Net without its text encoder", path=place))


def check_family(base_model: str, base: Base, wanted: str) -> None:
    """Whether a base is of the family that is to train it; a pickle's family shows when it is read.

    Raises:
        ModelError: saying what was found.
    """
    if base.family == wanted or not base.read:
        return
    if not base.family:  # what was found is a sentence then
        raise ModelError(say("base_model {base}: model_family is {wanted}, but {found}.", base=base_model, wanted=wanted, found=base.what))
    lines = [say("base_model {base}: model_family is {wanted}, but this is {found}.", base=base_model, wanted=wanted, found=base.what)]
    raise ModelError([*lines, say("Set model_family: {family}.", family=base.family)])


def config_folder(file: Path, family: str, base_config: str | None) -> Path:
    """The diffusers folder whose configuration and tokenizers belong to a base in a single file.

    Raises:
        ModelError: if it is not on this computer and cannot be fetched, is incomplete, or is of another family.
    """
    source = base_config or PUBLISHED[family].config
    folder = EMBEDDED.get(source) or Path(source).expanduser()
    if not folder.is_dir():
        if base_config and not base_config.startswith("modelscope:") and not is_hub_id(base_config):
            raise ModelError(say("base_config: '{value}' is neither a folder nor a hub id of the form org/name.", value=base_config))
        try:
            folder = fetch_base(source, None, SMALL, (), "base_config" if base_config else "base_model")
        except ModelError as error:
            raise ModelError(
                [
                    say(
                        "base_model {file} is a single file of {title}; its configuration and tokenizer come from '{source}'.",
                        file=file,
                        title=PUBLISHED[family].title,
                        source=source,
                    ),
                    *error.problems,
                    say("base_config: FOLDER takes them from a diffusers folder of the same family on this computer."),
                ]
            ) from None
    found = identify(str(folder))
    if found.family != family:
        raise ModelError(
            say(
                "base_config: {file} is {title} and needs a folder of the same family, but this is {found}.",
                file=file,
                title=PUBLISHED[family].title,
                found=found.what,
            )
        )
    missing = lacking(folder, family)
    if missing:
        raise ModelError(say("base_config {folder} lacks {names}.", folder=folder, names=", ".join(missing)))
    return folder.absolute()


def lacking(folder: Path, family: str) -> list[str]:
    """The parts of a diffusers folder that are not there."""
    encoders = PUBLISHED[family].encoders
    files = {name: "config.json" for name in ("unet", "vae", *encoders)} | {"scheduler": "scheduler_config.json"}
    gone = [name for name, file in files.items() if not (folder / name / file).is_file()]
    tokenizers = [name.replace("text_encoder", "tokenizer") for name in encoders]
    return [*gone, *(name for name in tokenizers if not (folder / name).is_dir())]


def unet_config(base_model: str, revision: str | None, family: str, base_config: str | None) -> Mapping[str, Any]:
    """The U-Net's configuration, wherever it stands.

    Raises:
        ModelError: if it cannot be found.
    """
    place = locate(base_model, revision)
    return read_config((place if place.is_dir() else config_folder(place, family, base_config)) / "unet" / "config.json")
