# SPDX-License-Identifier: Apache-2.0
"""The keys of the picture loader."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loraforge import Keys

MOST_REPEATS = 1000


class PictureKeys(Keys):
    """The keys of the picture loader."""

    caption_extension: str | None = Field(
        None,
        description="The ending of caption files beside pictures; by default .txt, then .caption.",
        json_schema_extra={"aliases": ["caption_extention"]},  # sd-scripts' first spelling, which it still takes
    )
    caption_lines: Literal["first", "any", "join"] = Field(
        "first",
        description="What further lines of a caption are: first, left out; any, other captions, of which each step draws one; join, more "
        "tags, set behind a comma.",
        json_schema_extra={"aliases": {"enable_wildcard": {"true": "any", "false": None}}},
    )
    encoding: str = Field("auto", description="The encoding of captions and metadata: auto, or utf-8, gb18030, cp1252 and so on.")
    repeats: int = Field(1, ge=1, le=MOST_REPEATS, description="How often one pass shows a picture whose folder or row says nothing else.")
    mask_dir: str | None = Field(
        None,
        description="A folder of masks that are called like their pictures; by default they are looked for beside these, and in masks/.",
        json_schema_extra={"aliases": ["conditioning_data_dir"], "path": "input"},
    )
