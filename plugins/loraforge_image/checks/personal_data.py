# SPDX-License-Identifier: Apache-2.0
"""Personal data: a caption is learned, and what a camera writes into a file goes wherever the folder goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..data.perceptual_hash import picture_infos
from ..records import Picture
from .each_once import each_once

say = speaker(__name__)

# Captions are not documents: what could stand in one by mistake is an address, a mobile number or an identity card's number.
_PRIVATE = re.compile(
    r"(?P<email>(?<![\w.%+-])[A-Za-z0-9][\w.%+-]{0,63}@(?!example\.)(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,12}(?![\w-]))"
    r"|(?P<identity>(?<![0-9A-Za-z])[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[0-9Xx](?![0-9A-Za-z]))"
    r"|(?P<phone>(?<![0-9.-])(?:(?:\+|00)?86[ -]?)?1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4})(?![0-9]|\.[0-9]))",
    re.ASCII,
)


class PersonalData(Check[Picture]):
    """One finding for each caption with personal data, and one for each file that tells where it was taken or whose it is."""

    name = "personal_data"
    task = "image"
    help = "E-mail addresses, mobile and identity numbers in captions; the place and the owner's name inside picture files."
    severity = "warning"

    @each_once
    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterable[Finding]:
        for index, (row, seen) in enumerate(zip(rows, picture_infos([row.path for row in rows]), strict=True)):
            if _PRIVATE.search(row.caption):
                message = say("The caption holds an e-mail address, a mobile number or an identity number. Remove it.")
                yield Finding((index,), message, excerpt(row.caption))
            name = Path(row.path).name
            if seen.placed:
                message = say(
                    "The file says where it was taken (GPS in its EXIF data). It is not trained on, but whoever gets the folder can read "
                    "it: remove it before you hand the pictures on."
                )
                yield Finding((index,), message, name, "hint")
            if seen.owner:
                message = say(
                    "The file says whose it is or with which camera it was taken (EXIF: {fields}). It is not trained on, but whoever gets "
                    "the folder can read it.",
                    fields=", ".join(seen.owner),
                )
                yield Finding((index,), message, name, "hint")


def excerpt(caption: str, most: int = 60) -> str:
    """A caption on one line, cut, with personal data masked: reports are passed around."""
    text = " ".join(_PRIVATE.sub(lambda match: match[0][:2] + "*" * (len(match[0]) - 4) + match[0][-2:], caption).split())
    return text if len(text) <= most else text[:most].rstrip() + "…"
