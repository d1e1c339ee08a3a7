# SPDX-License-Identifier: Apache-2.0
"""What an image run reads and which keys it has: pictures with captions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from loraforge import Keys, Record, speaker

from .sample_prompts import parse_all
from .training_keys import CaptionKeys, LossKeys, MemoryKeys

say = speaker(__name__)

# Of a text encoder; 0 trains none.
_Rate = Annotated[float, Field(ge=0, le=1)]
# What a run writes unless its YAML says otherwise.
EXPORTERS = ("webui",)


@dataclass(frozen=True)
class Picture(Record):
    """One picture with its caption.

    Attributes:
        path: the absolute path of the file; empty for a bare prompt.
        caption: what it shows; lines of it are captions to choose from, of which the first is the one that is measured.
        sha256: of the file's bytes, so that the row changes with the picture, not with the folder's name.
        prior: whether it only reminds the model of its class (prior preservation).
        folder: the name of the folder it came from, for tag statistics.
        mirrored: whether it is learned mirrored too, so that its mirror image is nothing new.
        mask: the absolute path of a picture that is white where it is learned and black where it is not; empty: everywhere.
        mask_sha256: of that file's bytes.
        resolution: at which it is trained, where that is not the config's; the same picture may come once for each of several.
        trigger: the word in front of its caption, where that is not the config's; empty: none.
    """

    path: str
    caption: str = ""
    sha256: str = ""
    prior: bool = False
    folder: str = ""
    mirrored: bool = field(default=False, compare=False, kw_only=True)
    mask: str = field(default="", compare=False, kw_only=True)
    mask_sha256: str = field(default="", kw_only=True)
    resolution: int | None = field(default=None, kw_only=True)
    trigger: str | None = field(default=None, kw_only=True)

    @property
    def can_be_held_out(self) -> bool:
        return not self.prior

    def content(self) -> dict[str, object]:
        said: dict[str, object] = {"sha256": self.sha256, "caption": self.caption, "prior": self.prior}
        more = {"mask": self.mask_sha256, "resolution": self.resolution}
        own = {"trigger": self.trigger} if self.trigger is not None else {}
        return {**said, **{name: value for name, value in more.items() if value}, **own}

    @property
    def first_caption(self) -> str:
        """The caption that is measured, asked and compared: the first of several."""
        return self.caption.partition("\n")[0]


class _OwnKeys(Keys):
    """Pictures, captions, what is trained, what is drawn."""

    resolution: int = Field(
        512,
        ge=64,
        le=4096,
        description="Pictures are trained at about resolution x resolution pixels of area; of a list, [512, 768], at each of them.",
    )
    more_resolutions: list[Annotated[int, Field(ge=64, le=4096)]] = Field(
        default_factory=list, description="Further resolutions at which every picture is trained too; a list as resolution says the same."
    )
    bucket_step: int = Field(
        64,
        ge=8,
        le=256,
        description="The sides of the buckets are multiples of this; a multiple of 8.",
        json_schema_extra={"aliases": ["bucket_reso_steps"]},
    )
    bucket_max_ratio: float = Field(2.0, ge=1, le=4, description="The longest shape: width / height, or height / width.")
    bucket_no_upscale: bool = Field(
        False, description="Never enlarge a picture: a small one gets a bucket of its own size, rounded down to bucket_step."
    )
    crop: Literal["center", "random"] = Field(
        "center",
        description="Which part is kept where a picture's shape differs from its bucket's.",
        json_schema_extra={"aliases": {"random_crop": {"true": "random", "false": "center"}}},
    )
    flip: bool = Field(
        False,
        description="Show half of the pictures mirrored; not for lettering or faces that must stay as they are.",
        json_schema_extra={"aliases": ["flip_aug", "random_flip"]},
    )
    mask: Literal["auto", "folder", "alpha", "off"] = Field(
        "auto",
        description="What says where a picture is learned: folder, files of masks (a-masklabel.png, a_mask.png, masks/a.png); alpha, its "
        "own transparency; auto, files where there are some.",
        json_schema_extra={"aliases": {"masked_loss": {"true": "auto", "false": "off"}, "alpha_mask": {"true": "alpha", "false": None}}},
    )
    unmasked_weight: float = Field(0.1, ge=0, le=1, description="How much what lies outside of the mask counts.")
    trigger_word: str | None = Field(None, description="A word put in front of every caption that lacks it; it calls the style later.")
    caption_shuffle: bool = Field(
        False,
        description="Shuffle the comma-separated parts of captions at every step.",
        json_schema_extra={"aliases": ["shuffle_caption"]},
    )
    keep_tokens: int = Field(
        0,
        ge=0,
        description="So many parts at the front of a caption stay where they are when it is shuffled or parts are dropped.",
        json_schema_extra={"needs": ["caption_shuffle", "tag_dropout"]},
    )
    caption_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The share of steps that see a picture without its caption.",
        json_schema_extra={"aliases": ["caption_dropout_rate"]},
    )
    max_caption_tokens: Literal["auto", 75, 150, 225] = Field(
        "auto",
        description="The longest caption in tokens: one, two or three of CLIP's windows; auto takes as many as the longest caption needs.",
        json_schema_extra={"aliases": ["max_token_length"]},
    )
    clip_skip: int = Field(1, ge=1, le=4, description="Take the text encoder's output this many layers from its end; not for SDXL.")

    @model_validator(mode="before")
    @classmethod
    def _several_sides(cls, values: Any) -> Any:
        """The further entries of a list as ``resolution`` are ``more_resolutions``."""
        sides = values.get("resolution") if isinstance(values, dict) else None
        if not isinstance(sides, list | tuple) or not sides:
            return values
        more = values.get("more_resolutions")
        return {**values, "resolution": sides[0], "more_resolutions": [*sides[1:], *(more if isinstance(more, list) else [])]}

    @field_validator("resolution", mode="before")
    @classmethod
    def _one_side(cls, value: Any) -> Any:
        """``512,512`` and ``512x512``, as other trainers have it."""
        found = re.fullmatch(r"\s*(\d{1,5})\s*[,xX×，*]\s*(\d{1,5})\s*", value) if isinstance(value, str) else None
        if found is None:
            return value
        width, height = int(found[1]), int(found[2])
        if width != height:
            side = round((width * height) ** 0.5)
            raise ValueError(say("is the side of a square; every picture keeps its own shape. The same area is {side}", side=side))
        return width

    @field_validator("text_encoder_lr", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> Any:
        """``1e-5 5e-6``, as sd-scripts takes it."""
        words = re.split(r"[\s,，]+", value.strip(" []")) if isinstance(value, str) else []
        value = words if len(words) > 1 else value
        if value == []:
            raise ValueError(say("the list is empty"))
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    @model_validator(mode="after")
    def _rate_of_nothing(self) -> _OwnKeys:
        """A rate of 0 trains no text encoder, as in sd-scripts and its windows."""
        rates = self.text_encoder_lr if isinstance(self.text_encoder_lr, list) else [self.text_encoder_lr]
        if self.train_text_encoder and all(rate == 0 for rate in rates):
            object.__setattr__(self, "train_text_encoder", False)
        return self

    @field_validator("sample_prompts")
    @classmethod
    def _flags_are_known(cls, value: list[str] | None) -> list[str] | None:
        parse_all(value or ())
        return value

    train_unet: bool = Field(True, description="Put a LoRA on the U-Net, or the transformer.")
    train_text_encoder: bool = Field(
        False,
        description="Put a LoRA on the text encoders too.",
        json_schema_extra={"aliases": {name: {"true": False, "false": True} for name in ("network_train_unet_only", "train_unet_only")}},
    )
    text_encoder_lr: _Rate | list[_Rate] | None = Field(
        None,
        description="The text encoders' own learning rate, or a list with one for each; 0 does not train them. By default learning_rate.",
        json_schema_extra={"needs": "train_text_encoder", "rate": True},
    )
    conv_rank: int = Field(
        0,
        ge=0,
        le=512,
        description="The rank on 3x3 convolutions (LoCon); 0 leaves them alone.",
        json_schema_extra={"aliases": ["conv_dim"]},
    )
    prediction_type: Literal["auto", "epsilon", "v_prediction"] = Field(
        "auto",
        description="What the base predicts; auto reads it.",
        json_schema_extra={"aliases": {"v_parameterization": {"true": "v_prediction", "false": None}}},
    )
    noise_offset: float = Field(0.0, ge=0, le=1, description="Noise that is the same everywhere, for very dark and bright pictures: 0.05.")
    min_snr_gamma: float = Field(0.0, ge=0, le=100, description="Weigh noise levels by min-SNR with this gamma; 5 is usual, 0 is off.")
    prior_data_dir: str | None = Field(
        None,
        description="Pictures of the same class that must not change (prior preservation).",
        json_schema_extra={"aliases": ["reg_data_dir"], "path": "input"},
    )
    prior_loss_weight: float = Field(
        1.0, ge=0, le=10, description="How much these count against your own pictures.", json_schema_extra={"needs": "prior_data_dir"}
    )

    sample_prompts: list[str] | None = Field(
        None,
        description="What is drawn at every save; by default captions of the data. [] for nothing. Behind a prompt may stand what it has "
        "of its own: --n negative --w width --h height --d seed --l cfg --s steps.",
    )
    sample_negative: str = Field("", description="What these pictures should not show, where a prompt has no --n of its own.")
    sample_steps: int | None = Field(
        None, ge=1, le=200, description="Denoising steps of these pictures; by default as many as are usual for the base, such as 20."
    )
    sample_cfg: float | None = Field(
        None,
        ge=1,
        le=30,
        description="How closely they follow the prompt (classifier-free guidance); by default as is usual for the base: 7 for Stable "
        "Diffusion, 3.5 for FLUX.1 dev.",
    )
    sample_seed: int = Field(42, ge=0, lt=2**32, description="Their seed; the same at every save.")
    cache_dir: str | None = Field(None, description="Where encoded pictures and captions are kept; by default the user's cache folder.")
    allow_pickle: bool = Field(False, description="Read .ckpt and .bin weights (weights_only, so that they cannot run code).")
    base_config: str | None = Field(
        None,
        description="For a base in a single file: the folder or hub id whose configuration and tokenizer belong to it.",
        json_schema_extra={"path": "base"},
    )
    assistant_adapter: str | None = Field(
        None,
        description="For distilled bases such as Z-Image-Turbo: the training adapter (a LoRA file) that undoes the distillation while it "
        "is trained. It is no part of what is saved, and pictures are drawn without it.",
        json_schema_extra={"aliases": ["assistant_lora_path"], "path": "input"},
    )
    prompt_scorer: str | None = Field(
        None,
        description="A CLIP model (folder or hub id) that scores how well drawn pictures follow their prompts; nothing is scored "
        "without it.",
        json_schema_extra={"path": "base"},
    )


class ImageKeys(MemoryKeys, LossKeys, CaptionKeys, _OwnKeys):
    """The keys of every image run."""

    @property
    def varies_captions(self) -> bool:
        """Whether a caption differs from step to step."""
        return self.caption_shuffle or self.tag_dropout > 0

    def text_rate(self, encoder: str) -> float | None:
        """The learning rate of one text encoder, by the pipeline's name; None: ``learning_rate``. What lies beyond a list has its last."""
        rates = self.text_encoder_lr if isinstance(self.text_encoder_lr, list) else [self.text_encoder_lr]
        number = int(encoder.rpartition("_")[2]) - 1 if encoder[-1:].isdigit() else 0
        return rates[min(number, len(rates) - 1)]


class ImageSampling(Keys):
    """The settings of ``sample`` for pictures."""

    negative: str = Field("", description="What the picture should not show.")
    steps: int | None = Field(None, ge=1, le=200, description="Denoising steps; by default as many as are usual for the base.")
    cfg: float | None = Field(
        None, ge=1, le=30, description="How closely the picture follows the prompt; by default as is usual for the base."
    )
    size: str | None = Field(None, description="Width x height, like 512x768; by default the resolution that was trained.")
    sampler: Literal["auto", "ddim", "euler", "euler_a", "dpmpp_2m"] = Field(
        "auto", description="Which scheduler draws: ddim, euler, euler_a, dpmpp_2m; auto takes ddim, or euler for flow matching."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="What is drawn at random is drawn from here; equal seeds, equal answers.")
