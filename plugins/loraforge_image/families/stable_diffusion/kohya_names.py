# SPDX-License-Identifier: Apache-2.0
"""What the WebUIs call a module: kohya's names, made from the modules' roles. Without torch.

SD1 and SD2 files carry diffusers' names of the U-Net and ``lora_te_text_model_``; SDXL files carry the original (sgm) names and
``lora_te1_`` / ``lora_te2_``. Other namings exist, and each loses modules in some reader.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources

from ..webui_format import WebuiFormat
from .published import PUBLISHED

_TEXT = re.compile(r"(?:text_model\.)?encoder\.layers\.(\d+)\.(self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])$")
# Inside a residual block: diffusers' name -> the original one.
_RESNET = {
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}


def kohya_name(module: str, family: str) -> str:
    """``unet.down_blocks.0.attentions.0.proj_in`` -> ``lora_unet_down_blocks_0_attentions_0_proj_in``.

    Args:
        module: as in ``Adapter.modules``: part, then path.
        family: sd15, sd2 or sdxl.

    Raises:
        ValueError: if there is no such name.
    """
    part, _, path = module.partition(".")
    published = PUBLISHED[family]
    if part == "unet":
        flat = path.replace(".", "_")
        return "lora_unet_" + (original_name(flat) if published.original_names else flat)
    text = _TEXT.match(path)
    if part not in published.encoders or text is None:
        raise ValueError(module)
    number = str(published.encoders.index(part) + 1) if len(published.encoders) > 1 else ""
    prefix = f"lora_te{number}_"
    # transformers 5.6 took the level text_model away from one of CLIP's classes; no WebUI knows names without it.
    return f"{prefix}text_model_encoder_layers_{text[1]}_{text[2].replace('.', '_')}"


def original_name(path: str) -> str:
    """SDXL's own name of a U-Net module, for two layers a block: each level has three blocks, counted through.

    Args:
        path: diffusers' path with underscores.

    Raises:
        ValueError: if there is no such name.
    """
    rules: tuple[tuple[str, str], ...] = (
        (r"down_blocks_(\d)_(resnets|attentions)_(\d)_(.+)", "input_blocks"),
        (r"up_blocks_(\d)_(resnets|attentions)_(\d)_(.+)", "output_blocks"),
    )
    for pattern, name in rules:
        found = re.fullmatch(pattern, path)
        if found:
            level, kind, number, rest = int(found[1]), found[2], int(found[3]), found[4]
            block = 3 * level + number + (1 if name == "input_blocks" else 0)
            return f"{name}_{block}_{_inside(kind, rest)}"
    found = re.fullmatch(r"mid_block_(resnets|attentions)_(\d)_(.+)", path)
    if found:
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block_{place}_{_inside(found[1], found[3]).partition('_')[2]}"
    found = re.fullmatch(r"down_blocks_(\d)_downsamplers_0_conv", path)
    if found:
        return f"input_blocks_{3 * int(found[1]) + 3}_0_op"
    found = re.fullmatch(r"up_blocks_(\d)_upsamplers_0_conv", path)
    if found:
        return f"output_blocks_{3 * int(found[1]) + 2}_2_conv"
    raise ValueError(path)


def of_canonical(called: str, family: str) -> str:
    """kohya's name of a module by its canonical one (see ``lora_files.names``): ``denoiser_mid_block_attentions_0_proj_in``.

    Raises:
        ValueError: if there is none.
    """
    published = PUBLISHED[family]
    if called.startswith("denoiser_"):
        path = called.removeprefix("denoiser_")
        return "lora_unet_" + (original_name(path) if published.original_names else path)
    found = re.fullmatch(r"te([12])_(encoder_layers_.+)", called)
    if not found or int(found[1]) > len(published.encoders):
        raise ValueError(called)
    return f"lora_te{found[1] if len(published.encoders) > 1 else ''}_text_model_{found[2]}"


def _inside(kind: str, rest: str) -> str:
    if kind == "attentions":
        return "1_" + rest
    if rest not in _RESNET:
        raise ValueError(rest)
    return f"0_{_RESNET[rest]}"


def unmatched(modules: Iterable[str], family: str) -> list[str]:
    """Those of the modules that some reader would not match."""
    known, strange = known_modules(family), []
    for module in modules:
        try:
            matched = kohya_name(module, family) in known
        except ValueError:
            matched = False
        if not matched:
            strange.append(module)
    return strange


@functools.cache
def known_modules(family: str) -> frozenset[str]:
    """Every module name that A1111, Forge, SD.Next, ComfyUI, kohya and diffusers all match in a file of this family."""
    text = resources.files(__package__).joinpath("keys", f"{family}.json").read_text(encoding="utf-8")
    return frozenset(name for names in json.loads(text).values() for name in names)


class KohyaFormat(WebuiFormat):
    """The WebUI's file of sd15, sd2 or sdxl: names by the rules of this module."""

    rows: Mapping[str, int] = {}

    def __init__(self, family: str) -> None:
        self._family, self._published = family, PUBLISHED[family]
        self.card = self._published.card

    def layers(self, modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
        known = list(modules)
        wrong = unmatched(known, self._family)
        if wrong:
            raise ValueError(*wrong)
        return {kohya_name(module, self._family): (module,) for module in known}

    def header(self, prediction: str) -> Mapping[str, str]:
        velocity = prediction == "v_prediction"
        return {
            "ss_base_model_version": self._published.versions[velocity],
            "ss_v2": str(self._published.v2),
            "modelspec.architecture": self._published.architectures[velocity],
            "modelspec.implementation": self._published.implementation,
            "modelspec.prediction_type": "v" if velocity else "epsilon",
        }
