# SPDX-License-Identifier: Apache-2.0
"""The WD taggers (SmilingWolf's wd-*-tagger): a folder with ``model.onnx`` and ``selected_tags.csv``. Needs onnxruntime."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import ModelError, read_text, require_files, speaker

from ..data.pictures import read_picture

say = speaker(__name__)

MODEL, TAGS = "model.onnx", "selected_tags.csv"
# The categories of selected_tags.csv; ratings (9) are no tags.
_GENERAL, _CHARACTER = 0, 4
_SHORT = 3  # letters: tags of no more are faces such as ^_^, which keep their underscore (as sd-scripts has it)


@dataclass(frozen=True)
class TagSettings:
    """Which tags are written.

    Attributes:
        general, character: from which confidence on (0 to 1), for things and for known characters.
        undesired: never, as they are written with blanks.
    """

    general: float = 0.35
    character: float = 0.35
    undesired: Sequence[str] = ()


def is_tagger(folder: Path) -> bool:
    """Whether a folder holds a WD tagger."""
    return (folder / MODEL).is_file() and (folder / TAGS).is_file()


class Tagger:
    """A tagger that is loaded.

    Args:
        folder: with both files.
        called: what the user wrote, for messages.

    Raises:
        ModelError: if onnxruntime is missing, or the files are no tagger.
    """

    def __init__(self, folder: Path, called: str, settings: TagSettings) -> None:
        self.name, self._settings = called, settings
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.32 on it tells its maker of every session
        try:
            import onnxruntime
        except ImportError:
            raise ModelError(
                say("--captioner {model}: a tagger needs onnxruntime: pip install 'loraforge[tagger]'", model=called)
            ) from None
        try:
            require_files(folder)
            self._tags = _read_tags(folder / TAGS)
            self._session: Any = onnxruntime.InferenceSession(str(folder / MODEL), providers=["CPUExecutionProvider"])
            self._input: Any = self._session.get_inputs()[0]
            _, high, wide, channels = self._input.shape
        except Exception as error:  # onnxruntime raises kinds of its own
            raise ModelError(
                say("--captioner {model}: it cannot be loaded as a tagger: {reason}.", model=called, reason=_reason(error))
            ) from None
        if channels != 3 or high != wide or not isinstance(high, int):
            raise ModelError(
                say(
                    "--captioner {model}: its input is {shape}, and that of a WD tagger is pictures x side x side x 3.",
                    model=called,
                    shape=list(self._input.shape),
                )
            )

    def caption(self, path: Path) -> str:
        """The tags of one picture, with commas, the surest first.

        Raises:
            DataError: if the picture cannot be read.
            ModelError: if the tagger fails.
        """
        pixels = as_seen(read_picture(path), self._input.shape[1])
        try:
            confidences = self._session.run(None, {self._input.name: pixels[None]})[0][0].tolist()
        except Exception as error:  # as above
            raise ModelError(
                say("--captioner {model}: it cannot describe {file}: {reason}.", model=self.name, file=path.name, reason=_reason(error))
            ) from None
        if len(confidences) != len(self._tags):
            raise ModelError(
                say(
                    "--captioner {model}: it gives {found} numbers, and selected_tags.csv has {n} tags: the files do not belong together.",
                    model=self.name,
                    found=len(confidences),
                    n=len(self._tags),
                )
            )
        least = {_GENERAL: self._settings.general, _CHARACTER: self._settings.character}
        undesired = {_plain(tag) for tag in self._settings.undesired}
        found = [
            (confidence, tag)
            for confidence, (tag, category) in zip(confidences, self._tags, strict=True)
            if category in least and confidence >= least[category] and _plain(tag) not in undesired
        ]
        return ", ".join(tag for _, tag in sorted(found, key=lambda one: -one[0]))


def as_seen(image: Image.Image, side: int) -> Any:
    """A picture as the WD taggers were trained to see it: (side, side, 3), blue first, float32 from 0 to 255, on a white square."""
    import numpy as np

    length = max(image.size)
    square = Image.new("RGB", (length, length), (255, 255, 255))
    square.paste(image, ((length - image.width) // 2, (length - image.height) // 2))
    square = square.resize((side, side), Image.Resampling.BOX if length > side else Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(square, dtype=np.float32)[:, :, ::-1])


def _read_tags(file: Path) -> list[tuple[str, int]]:
    rows = list(csv.DictReader(io.StringIO(read_text(file))))
    return [(_written(row["name"]), int(row["category"])) for row in rows]


def _written(name: str) -> str:
    return name.replace("_", " ") if len(name) > _SHORT else name


def _plain(tag: str) -> str:
    return tag.strip().lower().replace("_", " ")


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")[:300]
