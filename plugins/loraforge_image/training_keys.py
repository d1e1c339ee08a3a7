# SPDX-License-Identifier: Apache-2.0
"""Keys of image runs that say how captions are varied and what is minimised, with the names that sd-scripts has for them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loraforge import Keys


class CaptionKeys(Keys):
    """How a caption is put together anew at every step."""

    keep_tokens_separator: str | None = Field(
        None,
        min_length=1,
        description="A mark in captions, such as |||: what stands before it stays in front, what stands behind a second one stays at the "
        "end, and only what is between is shuffled and dropped. The mark itself is never learned.",
    )
    tag_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The share of a caption's comma-separated parts that is left out, drawn anew at every step; what keep_tokens or "
        "keep_tokens_separator keeps stays.",
        json_schema_extra={"aliases": ["caption_tag_dropout_rate"]},
    )


class LossKeys(Keys):
    """The noise that pictures are given, its levels, and what is minimised."""

    zero_terminal_snr: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the schedule of noise ends in noise alone (Lin et al. 2024), for bases that predict velocity; auto reads what "
        "the base says of itself.",
        json_schema_extra={"aliases": ["rescale_noise_scheduler_to_zero_terminal_snr"]},
    )
    min_timestep: int = Field(0, ge=0, le=999, description="The least noisy level that is trained, of 1000.")
    max_timestep: int = Field(1000, ge=1, le=1000, description="Levels from this one on are not trained; of 1000.")
    loss_type: Literal["l2", "huber", "smooth_l1"] = Field(
        "l2", description="How errors count: l2, their square; huber and smooth_l1, large ones less, as sd-scripts has them."
    )
    huber_c: float = Field(
        0.1,
        gt=0,
        le=1,
        description="From about which error on they count less; of the schedules snr and exponential, at the noisiest level.",
        json_schema_extra={"needs": "loss_type"},
    )
    huber_schedule: Literal["snr", "exponential", "constant"] | None = Field(
        None,
        description="How huber_c follows the level of noise; by default snr, and constant for bases that learn a flow.",
        json_schema_extra={"needs": "loss_type"},
    )
    debiased_estimation: bool = Field(
        False,
        description="Weigh noise levels by 1 / sqrt(SNR), or 1 / (SNR + 1) where velocity is predicted.",
        json_schema_extra={"aliases": ["debiased_estimation_loss"]},
    )
    multires_noise_iterations: int = Field(
        0, ge=0, le=20, description="Add noise of so many coarser resolutions; 6 to 10 is usual, 0 is off."
    )
    multires_noise_discount: float = Field(
        0.3,
        ge=0,
        le=1,
        description="How much less each coarser resolution counts than the one before it.",
        json_schema_extra={"needs": "multires_noise_iterations"},
    )
    ip_noise_gamma: float = Field(
        0.0, ge=0, le=1, description="Disturb what the denoiser reads, and not what it learns, with noise of this strength; 0.1 is usual."
    )


class MemoryKeys(Keys):
    """What lies in main memory while it is not needed."""

    offload: Literal["none", "encoders", "blocks"] = Field(
        "none",
        description="What waits in main memory and comes to the card layer by layer, which takes longer and changes no number: encoders, "
        "the text encoders while they read captions; blocks, the denoiser's weights as well.",
    )
    offload_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="offload: blocks: the share of the denoiser's weights that waits.",
    )
    vae_tiling: bool = Field(
        False,
        description="Decode large drawn pictures in overlapping tiles: less memory, and slightly other colours in each. What is learned is "
        "never cut.",
    )
