# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the pictures of a folder, picture by picture and among each other. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from loraforge import DataError, speaker

from ..data.near_copies import Look, look, near_copies
from ..data.pictures import content_hash, read_picture
from ..data.vision import BLURRED, sharpness

say = speaker(__name__)

THUMBNAIL = 160  # pixels of the longer side


@dataclass(frozen=True)
class Finding:
    """Something to know about one picture.

    Attributes:
        kind: a word for programs: damaged, outside, small, blurred, duplicate, near_duplicate, no_caption, caption_unreadable, left_out.
        message: the sentence for people.
        drops: whether it is proposed to leave the picture out.
    """

    kind: str
    message: str
    drops: bool = False


@dataclass
class InspectedPicture:
    """One picture file and all that was found out about it.

    Attributes:
        path: the file; ``name`` is the same relative to the folder, with forward slashes.
        width, height: in pixels, the right way up; 0 if it cannot be read.
        digest: SHA-256 of the pixels.
        look: by which its copies are told.
        thumbnail: at most 160 x 160 pixels.
        caption: as it was found; ``text`` is what the metadata will say.
        repeats: how often one pass shows it, where the folder's name or the metadata says so.
        review: what the metadata says of who looked at it, as it stands there, by our own column names.
    """

    path: Path
    name: str
    width: int = 0
    height: int = 0
    digest: str = ""
    look: Look | None = field(default=None, repr=False)
    thumbnail: Image.Image | None = field(default=None, repr=False)
    caption: str = ""
    text: str = ""
    repeats: int | None = None
    review: Mapping[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def keep(self) -> bool:
        """Whether it is proposed to train on it."""
        return not any(finding.drops for finding in self.findings)

    @property
    def why(self) -> str:
        """All findings, those first that leave it out."""
        return "; ".join(finding.message for finding in sorted(self.findings, key=lambda f: not f.drops))


def inspect_picture(path: Path, name: str, min_size: int) -> InspectedPicture:
    """Reads one picture and says what can be seen of it alone.

    Args:
        min_size: the shorter side, in pixels, below which it is small.
    """
    seen = InspectedPicture(path, name)
    try:
        image = read_picture(path)
    except DataError as error:
        seen.findings.append(Finding("damaged", str(error), drops=True))
        return seen
    seen.width, seen.height = image.size
    seen.digest = content_hash(image)
    seen.look = look(image, image.size)
    if min(image.size) < min_size:
        message = say("small: {width}x{height}, the shorter side is below {least} pixels", width=image.width, height=image.height,
                      least=min_size)  # fmt: skip
        seen.findings.append(Finding("small", message))
    value = sharpness(image)
    if value < BLURRED:
        message = say("maybe blurred: sharpness {value}, usual is {bound} or more", value=round(value), bound=round(BLURRED))
        seen.findings.append(Finding("blurred", message))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    seen.thumbnail = image
    return seen


def mark_copies(pictures: Sequence[InspectedPicture]) -> None:
    """Adds the findings ``duplicate`` (equal pixels; the first stays) and ``near_duplicate`` (the largest of a group stays)."""
    first: dict[str, InspectedPicture] = {}
    for seen in pictures:
        if seen.digest and seen.keep:
            same = first.setdefault(seen.digest, seen)
            if same is not seen:
                seen.findings.append(Finding("duplicate", say("the same picture as {other}", other=same.name), drops=True))
    # Each is compared with those that stay, not with those that go: a chain of small changes would join what has little in common.
    largest = sorted((s for s in first.values() if s.keep), key=lambda s: -s.width * s.height)
    for seen, nearest in zip(largest, list(near_copies([s.look for s in largest])), strict=True):
        near = next((largest[other] for other in sorted(nearest) if largest[other].keep), None)
        if near is not None:
            message = say("almost the same picture as {other}, which stays", other=near.name)
            seen.findings.append(Finding("near_duplicate", message, drops=True))
