# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint in one file says of itself: marker tensors and the header's metadata. Without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# Tensors without content by which ComfyUI and Forge know what a checkpoint predicts (NoobAI-XL has them, and its merges).
_VELOCITY, _ENDS = "v_pred", "ztsnr"
# Bases whose noise follows no schedule of alphas, by the tensors that ComfyUI goes by.
_EDM = {"edm_vpred.sigma_max": "EDM v-prediction", "edm_mean": "EDM"}
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True)
class Declared:
    """What was said.

    Attributes:
        prediction: epsilon or v_prediction; nothing if it is not said.
        zero_snr: whether its noise ends in noise alone; None if it is not said.
        clip_skip: the layer of the text encoder, counted from its end; None if it is not said.
        other: the name of another kind of noise that it was trained on.
    """

    prediction: str = ""
    zero_snr: bool | None = None
    clip_skip: int | None = None
    other: str = ""


def declared(names: Collection[str], metadata: Mapping[str, Any]) -> Declared:
    """Reads the names of the tensors first, which are what the WebUIs go by, then Stability's model spec and sd-scripts' own words.

    Args:
        metadata: the header's ``__metadata__``, text by name; a stranger's.
    """
    said = {str(key).casefold(): str(value).strip().casefold() for key, value in metadata.items() if isinstance(value, str | int | bool)}
    prediction = "v_prediction" if _VELOCITY in names else _prediction(said)
    ends = True if _ENDS in names else _switch(said, "ss_zero_terminal_snr", "zero_terminal_snr", "modelspec.zero_terminal_snr")
    layer = said.get("modelspec.encoder_layer", "") or said.get("ss_clip_skip", "")
    skip = int(layer) if layer.isdecimal() and 1 <= int(layer[:3]) <= 12 else None
    return Declared(prediction, ends, skip, next((kind for name, kind in _EDM.items() if name in names), ""))


def _prediction(said: Mapping[str, str]) -> str:
    word = said.get("modelspec.prediction_type") or said.get("prediction_type", "")
    if word in ("v", "v_prediction", "v-prediction", "vpred", "velocity"):
        return "v_prediction"
    if word in ("epsilon", "eps", "noise"):
        return "epsilon"
    velocity = _switch(said, "ss_v_parameterization", "v_parameterization")
    if velocity is not None:
        return "v_prediction" if velocity else "epsilon"
    architecture, version = said.get("modelspec.architecture", "").partition("/")[0], said.get("ss_base_model_version", "")
    if architecture.startswith("stable-diffusion-v2") and architecture.endswith(("-v", "-512")):
        return "v_prediction" if architecture.endswith("-v") else "epsilon"
    if version.startswith("sd_v") or version.startswith("sdxl"):
        return "v_prediction" if version.endswith("_v") else "epsilon" if version == "sd_v2" else ""
    return ""


def _switch(said: Mapping[str, str], *names: str) -> bool | None:
    for name in names:
        if said.get(name) in (*_YES, *_NO):
            return said[name] in _YES
    return None
