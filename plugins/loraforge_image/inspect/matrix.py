# SPDX-License-Identifier: Apache-2.0
"""What each program does with each layout of a transformer's LoRA: measured by giving files of tiny models to the programs' own code.

diffusers 0.42.1: whole loaders, and the weights that changed. ComfyUI of February 2026 and Forge of June 2025: their key maps, and what
they add to the weights. The tests ask diffusers again.
"""

from __future__ import annotations

from collections.abc import Mapping

# What becomes of the modules of a layout:
#   all     every one is read
#   blocks  those in the blocks; of the others only ``KEPT``
#   strict  those in the blocks; one of the others raises an error
#   halves  every one, but those whose halves are exchanged are read the wrong way round
#   same    those that both models call alike
#   out     those, and the layer after attention
#   scale   every one, as if alpha were the rank
#   strict scale  those in the blocks, as if alpha were the rank; one of the others raises an error
#   none    none is, and no error says so
#   error   an error ends the loading
Outcome = str
Row = tuple[Outcome, Outcome, Outcome, Outcome]

_ERROR_BY_ALPHA: Row = ("none", "error", "none", "error")
_ERROR_BY_FACTOR: Row = ("error", "error", "none", "none")
_ALWAYS: Row = ("all", "all", "all", "all")
_FLUX: dict[tuple[str, bool], Row] = {
    ("kohya", True): ("none", "none", "blocks", "blocks"),
    ("kohya", False): ("none", "none", "error", "error"),
    ("diffusers", False): ("all", "all", "all", "scale"),
    ("diffusers", True): ("error", "error", "error", "error"),
    ("comfyui", True): ("none", "none", "blocks", "blocks"),
    ("comfyui", False): ("none", "none", "error", "error"),
    ("onetrainer", False): ("none", "none", "error", "error"),
    ("onetrainer", True): ("none", "none", "error", "error"),
    ("peft", False): _ERROR_BY_FACTOR,
    ("peft", True): _ERROR_BY_FACTOR,
    ("peft pipeline", False): _ERROR_BY_FACTOR,
    ("peft pipeline", True): _ERROR_BY_FACTOR,
}

# diffusers, by family, then by naming and whether the names are the original model's. The four outcomes are of files with
# lora_A/lora_B, those with alpha, lora_down/lora_up, those with alpha. A row that is not there is read in silence: none.
DIFFUSERS: Mapping[str, Mapping[tuple[str, bool], Row]] = {
    "z-image": {
        ("kohya", False): ("error", "error", "all", "all"),
        ("kohya", True): ("error", "error", "blocks", "blocks"),
        ("diffusers", False): ("all", "error", "error", "error"),
        ("diffusers", True): ("same", "error", "error", "error"),
        ("comfyui", False): _ALWAYS,
        ("comfyui", True): ("same", "error", "out", "out"),
        ("onetrainer", False): _ERROR_BY_ALPHA,
        ("onetrainer", True): _ERROR_BY_ALPHA,
        ("lycoris", False): _ERROR_BY_ALPHA,
        ("lycoris", True): _ERROR_BY_ALPHA,
        ("bare", False): ("none", "all", "none", "all"),
        ("bare", True): ("none", "error", "none", "out"),
        ("peft", False): _ERROR_BY_ALPHA,
        ("peft pipeline", False): _ERROR_BY_ALPHA,
        ("peft", True): _ERROR_BY_ALPHA,
        ("peft pipeline", True): _ERROR_BY_ALPHA,
    },
    "flux2": {
        ("kohya", True): ("none", "none", "blocks", "blocks"),
        ("diffusers", False): ("all", "scale", "none", "none"),
        ("diffusers", True): ("error", "error", "none", "none"),
        ("comfyui", False): ("strict", "strict scale", "none", "none"),
        ("comfyui", True): ("halves", "error", "none", "none"),
        ("peft", False): ("strict", "strict scale", "none", "none"),
        ("peft", True): ("halves", "error", "none", "none"),
        ("peft pipeline", False): _ERROR_BY_FACTOR,
        ("peft pipeline", True): _ERROR_BY_FACTOR,
    },
    "flux1": _FLUX,
    "chroma": {
        **_FLUX,
        ("kohya", True): ("none", "none", "strict", "strict"),
        ("comfyui", True): ("none", "none", "strict", "strict"),
    },
    "qwen-image": {
        ("kohya", False): _ALWAYS,
        ("diffusers", False): ("all", "error", "error", "error"),
        ("comfyui", False): _ALWAYS,
        ("onetrainer", False): _ERROR_BY_ALPHA,
        ("lycoris", False): _ERROR_BY_ALPHA,
        ("bare", False): ("none", "all", "none", "all"),
        ("peft", False): _ERROR_BY_ALPHA,
        ("peft pipeline", False): _ERROR_BY_ALPHA,
    },
    "sd3": {
        ("diffusers", False): ("all", "scale", "error", "error"),
        ("diffusers", True): ("error", "error", "error", "error"),
    },
}
# diffusers, for files with lora_A.default and lora_B.default, which PEFT's own state has: DiffSynth's files. Of the others nothing is read.
DEFAULT: Mapping[str, Mapping[tuple[str, bool], Outcome]] = {
    "z-image": {
        **{("comfyui", False): "all", ("bare", False): "all", ("comfyui", True): "same", ("bare", True): "same"},
        **{(naming, original): "error" for naming in ("diffusers", "peft", "peft pipeline") for original in (False, True)},
    },
    "flux2": {("comfyui", True): "error"},
    **{family: {(naming, one): "error" for naming in ("peft", "peft pipeline") for one in (False, True)} for family in ("flux1", "chroma")},
    "qwen-image": {
        **{("comfyui", False): "all", ("bare", False): "all"},
        **{(naming, False): "error" for naming in ("diffusers", "peft", "peft pipeline")},
    },
}
# Layers outside of the blocks that diffusers reads where it reads "blocks".
KEPT: Mapping[str, frozenset[str]] = {
    "z-image": frozenset({"cap_embedder.1", "t_embedder.mlp.0", "t_embedder.mlp.2"}),
    "flux2": frozenset({"img_in", "txt_in", "time_in.in_layer", "time_in.out_layer", "final_layer.linear"}),
}

# ComfyUI reads the original names under ``lora_unet_`` and ``diffusion_model.``, and diffusers' names of these families:
COMFYUI: Mapping[str, frozenset[str]] = {
    "diffusers": frozenset({"z-image", "flux2", "flux1", "chroma", "qwen-image", "sd3"}),
    "lycoris": frozenset({"z-image", "flux2", "flux1", "chroma", "qwen-image", "sd3"}),
    "onetrainer": frozenset({"flux2", "flux1", "chroma", "sd3"}),
    "comfyui": frozenset({"z-image"}),
    "bare": frozenset({"z-image", "flux2", "flux1", "chroma", "qwen-image"}),
    "peft": frozenset({"sd3"}),
}
# Layers that its table of diffusers' names lacks, by how their original names begin.
UNMAPPED: Mapping[str, tuple[str, ...]] = {
    "chroma": ("distilled_guidance_layer.",),
    "flux2": ("time_in.", "guidance_in.", "double_stream_", "single_stream_"),
}

# Forge, the same way; other families it does not know.
FORGE: Mapping[str, frozenset[str]] = {
    "flux1": frozenset({"diffusers", "onetrainer", "lycoris"}),
    "chroma": frozenset(),
    "sd3": frozenset(),
}
