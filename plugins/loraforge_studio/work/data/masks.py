# SPDX-License-Identifier: Apache-2.0
"""Masks that somebody painted, and captions that a model wrote, on their way into the table."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

from loraforge import speaker

from ...problems import Refused
from ..folders import safe_name
from .tables import Change, Table

say = speaker(__name__)

_LARGEST = 8_000_000  # bytes of a mask
_SIDE = 4096  # pixels


def keep_mask(folder: Path, picture: str, png: str) -> str:
    """Writes a mask beside the table; its name from there. Another mask of the same picture gets another name, so none is ever overwritten.

    Args:
        png: in base64.

    Raises:
        Refused: if it is no picture, or cannot be written.
    """
    from PIL import Image

    try:
        data = base64.b64decode(png, validate=True)
        if len(data) > _LARGEST:
            raise ValueError
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if max(image.size) > _SIDE:
                raise ValueError
            mask = image.convert("L")
        out = io.BytesIO()
        mask.save(out, format="PNG")
    except (binascii.Error, ValueError, OSError):
        raise Refused(400, say("this is no mask.")) from None
    name = f"{safe_name(Path(picture).stem)[:60] or 'picture'}-{hashlib.sha256(out.getvalue()).hexdigest()[:8]}-mask.png"
    place = folder / "masks" / name
    aside = place.with_name(f".{name}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(out.getvalue())
        aside.replace(place)
    except OSError as error:
        raise Refused(507, say("{path} cannot be written: {error}.", path=place, error=error)) from None
    return f"masks/{name}"


def proposed(table: Table, made: Table) -> list[Change]:
    """The captions of another table of the same pictures, for rows that have none."""
    captions: Mapping[str, str] = {made.cell(row, "file_name"): made.cell(row, "text") for row in range(len(made.rows))}
    found = []
    for row in range(len(table.rows)):
        new = captions.get(table.cell(row, "file_name"), "").strip()
        if new and not table.cell(row, "text").strip():
            found.append(Change(row, {"text": table.cell(row, "text")}, {"text": new}))
    return found
