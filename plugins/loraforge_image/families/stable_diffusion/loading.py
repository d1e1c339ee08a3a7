# SPDX-License-Identifier: Apache-2.0
"""Loads a base of Stable Diffusion as diffusers' pipeline: from a folder, or from a checkpoint in the original layout."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loraforge import ConfigError, ModelError, speaker

from ..base_files import PICKLES, header, locate, part_config
from ..loading import load_part, quiet_diffusers, read_weights, wants_weights
from ..objectives import with_terminal_snr
from .identify import WEIGHTS, Base, check_family, config_folder, identify, lacking, of_tensors
from .published import PUBLISHED

if TYPE_CHECKING:
    import torch

say = speaker(__name__)


def load_base(
    base_model: str,
    revision: str | None,
    dtype: torch.dtype,
    family: str,
    *,
    prediction: str = "auto",
    allow_pickle: bool = False,
    base_config: str | None = None,
    zero_snr: bool | Literal["auto"] = "auto",
) -> Any:
    """A base as diffusers' pipeline, on the CPU; the autoencoder is float32 always: half precision overflows in SDXL's.

    Args:
        prediction: epsilon or v_prediction; auto takes what the files say.
        zero_snr: whether the schedule of noise ends in noise alone; auto takes what the files say.

    Raises:
        ModelError: if it cannot be loaded, or is of another family.
        ConfigError: if what it predicts is not known.
    """
    base = identify(base_model, revision)
    check_family(base_model, base, family)
    quiet_diffusers()
    place = locate(base_model, revision, WEIGHTS if wants_weights() else ())
    try:
        if not wants_weights() and place.is_file():
            pipe = _from_folder(config_folder(place, family, base_config), family, dtype, allow_pickle)
        elif place.is_dir():
            pipe = _from_folder(place, family, dtype, allow_pickle)
        else:
            pipe, base = _from_file(base_model, place, family, dtype, allow_pickle, base_config)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise many kinds for damaged or missing files
        line = str(error).strip().split("\n")[0][:300]
        raise ModelError(say("base_model {base} cannot be loaded: {error}", base=base_model, error=line)) from None
    _set_prediction_type(pipe.scheduler, family, base, prediction, base_model, bool(base_config))
    # With noise predicted, nothing of a picture can be told from noise alone: what a file says counts where velocity is predicted.
    ends = base.zero_snr if zero_snr == "auto" and pipe.scheduler.config.prediction_type == "v_prediction" else zero_snr
    if isinstance(ends, bool):
        pipe.scheduler = with_terminal_snr(pipe.scheduler, ends)
    return pipe


def _pipeline(family: str, unet: Any, vae: Any, encoders: Sequence[Any], tokenizers: Sequence[Any], scheduler: Any) -> Any:
    import diffusers

    published = PUBLISHED[family]
    parts = dict(zip((*published.encoders, *published.tokenizers), (*encoders, *tokenizers), strict=True))
    rest: dict[str, Any] = {}
    if len(published.encoders) == 1:
        rest = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what old configurations leave out; the pipeline sets it
        return getattr(diffusers, published.pipeline)(unet=unet, vae=vae, scheduler=scheduler, **parts, **rest)


def _set_prediction_type(scheduler: Any, family: str, base: Base, wanted: str, base_model: str, configured: bool) -> None:
    """What the user says counts first, then what the files say, then the folder that the user named as the file's configuration."""
    said = wanted if wanted != "auto" else base.prediction
    if not said and configured:
        said = scheduler.config.prediction_type
    said = said or PUBLISHED[family].predicts
    if not said:
        raise ConfigError(
            say(
                "base_model {base}: the file does not say what it predicts. Set prediction_type: v_prediction (768-v models) or epsilon.",
                base=base_model,
            )
        )
    scheduler.register_to_config(prediction_type=said)


def _check_configs(folder: Path, encoders: Sequence[str]) -> None:
    """Raises:
    ModelError: if a configuration asks for more than any model has.
    """
    for name in ("unet", "vae", *encoders):
        part_config(folder / name / "config.json")
    part_config(folder / "scheduler" / "scheduler_config.json")


def _from_folder(folder: Path, family: str, dtype: torch.dtype, allow_pickle: bool) -> Any:
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    published = PUBLISHED[family]
    missing = lacking(folder, family)
    if missing:
        raise ModelError(say("base_model {folder} lacks {names}.", folder=folder, names=", ".join(missing)))
    _check_configs(folder, published.encoders)
    unet = load_part(UNet2DConditionModel, folder, "unet", dtype, allow_pickle=allow_pickle)
    vae = load_part(AutoencoderKL, folder, "vae", torch.float32, allow_pickle=allow_pickle)
    kinds = [CLIPTextModel, CLIPTextModelWithProjection]
    encoders = [load_part(kinds[i], folder, name, dtype, allow_pickle=allow_pickle) for i, name in enumerate(published.encoders)]
    tokenizers = [CLIPTokenizer.from_pretrained(folder / name) for name in published.tokenizers]
    return _pipeline(family, unet, vae, encoders, tokenizers, DDPMScheduler.from_pretrained(folder, subfolder="scheduler"))


def _from_file(
    base_model: str, file: Path, family: str, dtype: torch.dtype, allow_pickle: bool, base_config: str | None
) -> tuple[Any, Base]:
    """The pipeline of a checkpoint in the original layout, and what it turned out to be."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    weights = read_weights(file, allow_pickle)
    said = {} if file.suffix.lower() in PICKLES else header(file).get("__metadata__")
    base = of_tensors(file, {name: tuple(tensor.shape) for name, tensor in weights.items()}, said if isinstance(said, dict) else {})
    check_family(base_model, base, family)
    config = config_folder(file, family, base_config)
    names = PUBLISHED[family].encoders
    _check_configs(config, names)
    common = {"config": str(config), "local_files_only": True}
    # Not StableDiffusionPipeline.from_single_file: it would round the autoencoder to half precision too.
    load: dict[str, Callable[..., Any]] = {
        "unet": partial(UNet2DConditionModel.from_single_file, torch_dtype=dtype),
        "vae": partial(AutoencoderKL.from_single_file, torch_dtype=torch.float32),
        "text_encoder": partial(create_diffusers_clip_model_from_ldm, CLIPTextModel, torch_dtype=dtype),
        "text_encoder_2": partial(create_diffusers_clip_model_from_ldm, CLIPTextModelWithProjection, torch_dtype=dtype),
    }
    loaded: dict[str, Any] = {}
    for name in ("unet", "vae", *names):
        try:
            loaded[name] = load[name](weights, subfolder=name, **common)
            whole = not any(value.is_meta for value in loaded[name].parameters())
        except NotImplementedError:  # torch cannot move what was never filled
            whole = False
        except Exception as error:  # the libraries raise many kinds
            line = str(error).strip().split("\n")[0][:300]
            raise ModelError(
                [
                    say("base_model {base} cannot be loaded: {error}", base=base_model, error=f"{name}: {line}"),
                    say("Its configuration is that of {folder}; base_config names another folder of the same model.", folder=config),
                ]
            ) from None
        if not whole:
            raise ModelError(
                say(
                    "base_model {file}: tensors of its {part} are missing. The file is incomplete, or base_config ({folder}) belongs to "
                    "another model.",
                    file=file,
                    part=name,
                    folder=config,
                )
            )
    tokenizers = [CLIPTokenizer.from_pretrained(config / name) for name in PUBLISHED[family].tokenizers]
    scheduler = DDPMScheduler.from_pretrained(config, subfolder="scheduler")
    encoders = [loaded[name] for name in names]
    return _pipeline(family, loaded["unet"], loaded["vae"], encoders, tokenizers, scheduler), base
