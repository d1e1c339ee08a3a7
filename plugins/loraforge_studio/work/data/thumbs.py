# SPDX-License-Identifier: Apache-2.0
"""Small pictures of large ones, made once and kept in ``.studio/thumbs`` within bounds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import warnings
from pathlib import Path

from loraforge import printable, speaker

from ...problems import Refused
from ..folders import Work

say = speaker(__name__)

SIDES = (256, 1024)
"""The longer sides that are made, in pixels."""
_PIXELS = 120_000_000  # of a picture that is opened: half a gigabyte
_KEPT = 400_000_000  # bytes of small pictures of one work
_EVERY = 200  # new ones, after which the bound is looked at
_room = threading.Semaphore(2)


def thumbnail(work: Work, picture: Path, side: int) -> Path:
    """The small picture; its name changes when the picture does.

    Raises:
        Refused: if none can be made.
    """
    side = next((one for one in SIDES if one >= side), SIDES[-1])
    try:
        found = picture.stat()
    except OSError:
        raise Refused(404, say("there is no file {path}.", path=printable(picture.name))) from None
    name = hashlib.sha256(f"{picture}\0{found.st_mtime_ns}\0{found.st_size}\0{side}".encode(errors="surrogatepass")).hexdigest()[:32]
    folder = work.hidden / "thumbs"
    place = folder / f"{name}.webp"
    if not place.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with _room:
            _make(picture, place, side)
        if int(name[:8], 16) % _EVERY == 0:
            _bound(folder)
    return place


def _make(picture: Path, place: Path, side: int) -> None:
    from PIL import Image, ImageOps

    aside = place.with_name(f".{secrets.token_hex(8)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(picture) as image:
                if image.width * image.height > _PIXELS:
                    text = say("{file} has {n} megapixels, too many for a small picture of it.", file=printable(picture.name),
                               n=image.width * image.height // 1_000_000)  # fmt: skip
                    raise Refused(413, text)
                image.draft("RGB", (side, side))
                image.thumbnail((side, side))
                turned = ImageOps.exif_transpose(image)
                clear = turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info
                turned.convert("RGBA" if clear else "RGB").save(aside, format="WEBP", quality=82, method=2)
        os.replace(aside, place)
    except Refused:
        raise
    except Exception:  # Pillow raises many kinds for damaged files
        raise Refused(422, say("no small picture can be made of {file}: it is damaged, or of a kind that is not shown here.",
                               file=printable(picture.name))) from None  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _bound(folder: Path) -> None:
    """Deletes the oldest until the rest fit."""
    with os.scandir(folder) as inside:
        files = sorted(((one.stat().st_mtime, one.stat().st_size, one.path) for one in inside if one.is_file()), reverse=True)
    total = 0
    for _, size, path in files:
        total += size
        if total > _KEPT:
            with contextlib.suppress(OSError):
                os.unlink(path)
