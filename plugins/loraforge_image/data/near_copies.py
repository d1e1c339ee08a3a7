# SPDX-License-Identifier: Apache-2.0
"""Which pictures are nearly copies: saved again, resized, or slightly cropped. Other colours, poses and proportions are other pictures.

Two stages. Candidates are pairs in which the perceptual hash of one is near that of the other, whole or cropped; then the thumbnails are
laid upon each other, as a crop would lie, and have to show the same colours nearly everywhere. Without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

# Measured on drawings, line art, night scenes and noise in blocks. Bits of 64 by which the hash of a copy differs from that of the nearest
# window: 0 to 8 saved again and resized, to 10 cropped by 15 % or less; of other pictures of one style 8 and more.
_BITS = 10
# Difference of colours (root mean square of the channels, 0 to 255) on a 16 x 16 grid, which a few places may exceed: copies 1 to 12, made
# brighter 20; another hue in a tenth of the picture 40 and more. And on average: copies 0 to 4, brighter 13; other colours 15 and more.
_PLACES, _DIFFERENT, _ON_AVERAGE = 6, 22.0, 16.0
# Where there is little contrast all differences are small: what is left of the contrast after one is taken from the other.
_LEFT, _UNSEEN = 0.45, 2.0
# A crop keeps at least this share of either side; rounding of small pictures changes proportions by less than the second.
_KEPT, _ROUNDED = 0.84, 0.02
_SIDE, _GRID = 32, 16  # pixels of a thumbnail, and of what is compared
# On a 4 x 4 grid a crop moves colours by no more than this, and this share of the contrast that is there; measured: 14 and 0.06.
_MOVED, _OF_CONTRAST = 18.0, 0.5
_MOST = 30  # candidates of one picture that are looked at
_CHUNK = 16_000_000  # numbers compared at a time: bounds the memory


def _windows() -> tuple[tuple[float, float, float, float], ...]:
    """Where the hashes of crops are taken: (left, top, right, bottom) as shares; without the whole."""
    found = []
    for share, places in ((0.92, ((0.5, 0.5), (0, 0), (1, 0), (0, 1), (1, 1))),):
        found += [((1 - share) * x, (1 - share) * y, (1 - share) * x + share, (1 - share) * y + share) for x, y in places]
    for share in (0.93, 0.86):
        for place in (0.0, 1.0, 0.5):
            start = (1 - share) * place
            found += [(start, 0.0, start + share, 1.0), (0.0, start, 1.0, start + share)]
    return tuple(found)


_WINDOWS = _windows()


@dataclass(frozen=True)
class Look:
    """What a picture looks like, as far as copies are told by it.

    Attributes:
        width, height: in pixels, the right way up.
        phash: the perceptual hash, 64 bits (imagehash's phash).
        windows: those of crops.
        mirrored, mirrored_windows: those of the mirror image.
        small: RGB, 32 x 32.
    """

    width: int = 0
    height: int = 0
    phash: int = 0
    windows: tuple[int, ...] = ()
    mirrored: int = 0
    mirrored_windows: tuple[int, ...] = ()
    small: Image.Image | None = field(default=None, repr=False, compare=False)

    def distance(self, other: Look) -> int:
        """In how many of 64 bits the perceptual hashes differ."""
        return (self.phash ^ other.phash).bit_count()

    def mirror(self) -> Look:
        """What the mirror image looks like."""
        small = self.small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.small else None
        there, back = (self.mirrored, self.mirrored_windows), (self.phash, self.windows)
        return replace(self, phash=there[0], windows=there[1], mirrored=back[0], mirrored_windows=back[1], small=small)


def look(image: Image.Image, size: tuple[int, int]) -> Look:
    """Looks at an RGB picture.

    Args:
        size: that of the file, of which ``image`` may be a smaller copy.
    """
    import imagehash

    turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    whole, mirrored = (_number(imagehash.phash(one).hash) for one in (image, turned))
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return Look(*size, whole, _hashes(image), mirrored, _hashes(turned), small)


def near_copies(seen: Sequence[Look | None], there: Sequence[Look | None] | None = None) -> Iterator[list[int]]:
    """For every picture in turn, the earlier ones that it is nearly a copy of, the most alike first.

    Args:
        there: what the earlier ones are compared as, if not as themselves: their mirror images.
    """
    import numpy as np

    others = seen if there is None else there
    mine, theirs = _coarse(seen), _coarse(others)
    for row, candidates in enumerate(_candidates(seen, others)):
        one, found = seen[row], []
        apart = np.abs(theirs[candidates] - mine[row]).mean(axis=1)
        contrast = np.maximum(_contrast(theirs[candidates]), _contrast(mine[row : row + 1]))
        likely = np.flatnonzero(apart <= _MOVED + _OF_CONTRAST * contrast)
        for place in likely[np.argsort(apart[likely], kind="stable")][:_MOST]:
            earlier = others[candidates[place]]
            if one is not None and earlier is not None and (value := difference(one, earlier)) is not None:
                found.append((value, int(candidates[place])))
        yield [other for _, other in sorted(found)]


def difference(one: Look, other: Look) -> float | None:
    """How unlike two pictures are where one is laid upon the other (mean difference of colours, 0 to 255); None if neither is nearly a copy
    of the other, or of a crop of it."""
    values = [value for a, b in ((one, other), (other, one)) if (value := _laid_upon(a, b)) is not None]
    return min(values, default=None)


# --- hashes ---------------------------------------------------------------------------------------------------------------------


def _number(bits: Any) -> int:
    import numpy as np

    return int.from_bytes(np.packbits(np.asarray(bits, dtype=np.uint8).reshape(-1)).tobytes(), "big")


def _hashes(image: Image.Image) -> tuple[int, ...]:
    """The perceptual hashes of the windows, computed as imagehash does it: the lowest 8 x 8 of a cosine transform, above their median."""
    import numpy as np
    from scipy.fft import dctn

    side = 64
    grey = image.convert("L").resize((side, side), Image.Resampling.BOX)
    boxes = [(side * left, side * top, side * right, side * bottom) for left, top, right, bottom in _WINDOWS]
    crops = [grey.resize((32, 32), Image.Resampling.BILINEAR, box=box) for box in boxes]
    lowest = dctn(np.stack([np.asarray(crop, dtype=np.float64) for crop in crops]), axes=(1, 2))[:, :8, :8].reshape(len(crops), 64)
    return tuple(_number(row) for row in lowest > np.median(lowest, axis=1, keepdims=True))


def _candidates(seen: Sequence[Look | None], there: Sequence[Look | None]) -> Iterator[Any]:
    """For every picture the earlier ones whose hash is near, as a whole or cropped."""
    import numpy as np

    views = 1 + len(_WINDOWS)

    def signs(pictures: Sequence[Look | None]) -> Any:
        """(picture, view, 64) of 1 and -1; zeros, which are near nothing, for those that cannot be seen."""
        hashes = [(one.phash, *one.windows) if one is not None and one.small is not None else None for one in pictures]
        raw = b"".join(value.to_bytes(8, "big") for those in hashes for value in (those or (0,) * views))
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8)).reshape(len(hashes), views, 64).astype(np.float32) * 2 - 1
        bits[[those is None for those in hashes]] = 0
        return bits

    if not seen:
        return
    mine, theirs = signs(seen), signs(there)
    step = max(1, _CHUNK // max(1, len(there) * views))
    for start in range(0, len(seen), step):
        here = mine[start : start + step]
        # The product of two rows of signs is 64 less twice the number of places in which they differ.
        cropped = (here[:, 0] @ theirs.reshape(-1, 64).T).reshape(len(here), len(there), views).max(axis=2)
        crops = (here.reshape(-1, 64) @ theirs[:, 0].T).reshape(len(here), views, len(there)).max(axis=1)
        apart = (64 - np.maximum(cropped, crops)) / 2
        for row in range(len(here)):
            yield np.flatnonzero(apart[row, : start + row] <= _BITS)


# --- colours --------------------------------------------------------------------------------------------------------------------


def _coarse(pictures: Sequence[Look | None]) -> Any:
    """(picture, 48): the colours of each on a 4 x 4 grid."""
    import numpy as np

    nothing = Image.new("RGB", (4, 4))
    small = [one.small.resize((4, 4), Image.Resampling.BOX) if one is not None and one.small is not None else nothing for one in pictures]
    return np.stack([np.asarray(one, dtype=np.float32).reshape(-1) for one in small]) if small else np.zeros((0, 48), np.float32)


def _contrast(grids: Any) -> Any:
    """The mean distance of each grid's colours from its mean colour."""
    import numpy as np

    colours = grids.reshape(len(grids), 16, 3)
    return np.abs(colours - colours.mean(axis=1, keepdims=True)).mean(axis=(1, 2))


def _laid_upon(whole: Look, part: Look) -> float | None:
    """The mean difference where ``part`` lies best upon ``whole``, as a crop of it that keeps its proportions; None if that is no copy."""
    import numpy as np

    if whole.small is None or part.small is None:
        return None
    wider = (whole.width / whole.height) / (part.width / part.height)
    wider = 1.0 if abs(math.log(wider)) < _ROUNDED else wider
    target = np.asarray(part.small.resize((_GRID, _GRID), Image.Resampling.BILINEAR), dtype=np.float64)
    source = whole.small

    def lay(share: float, x: float, y: float) -> tuple[float, Any, tuple[float, float, float]]:
        """The robust mean difference, that of every place, and where: the share of the fitting side, the share of the rest before it."""
        width, height = (share / wider, share) if wider >= 1 else (share, share * wider)
        if min(width, height) < _KEPT - 0.005:
            return math.inf, None, (share, x, y)
        left, top = (1 - width) * x * _SIDE, (1 - height) * y * _SIDE
        box = (left, top, min(left + width * _SIDE, _SIDE), min(top + height * _SIDE, _SIDE))
        laid = np.asarray(source.resize((_GRID, _GRID), Image.Resampling.BILINEAR, box=box), dtype=np.float64)
        apart = laid - target
        return float(np.minimum(np.sqrt((apart**2).mean(axis=2)), 60).mean()), apart, (share, x, y)

    best = lay(1.0, 0.5, 0.5)
    contrast = float(np.abs(target - target.mean(axis=(0, 1))).mean())
    if best[1] is not None and best[0] > _ON_AVERAGE + 2 * contrast:
        return None  # too unlike for what lies where to matter
    if best[1] is None or not _same(best[1], target):
        steps = (0.0, 0.25, 0.5, 0.75, 1.0)
        best = min(
            [best, *(lay(share, x, y) for share in (1, 0.96, 0.92, 0.88, 0.84) for x in steps for y in steps)], key=lambda one: one[0]
        )
        for fine in (1, 2, 4):
            share, x, y = best[2]
            near = [
                lay(min(1, share + a * 0.02 / fine), min(1, max(0, x + b / 8 / fine)), min(1, max(0, y + c / 8 / fine)))
                for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)
            ]  # fmt: skip
            best = min([best, *near], key=lambda one: one[0])
    return best[0] if best[1] is not None and _same(best[1], target) else None


def _same(apart: Any, target: Any) -> bool:
    """Whether what is left of one picture without the other, (16, 16, 3), is what saving, resizing and cropping leave."""
    import numpy as np

    places = np.sort(np.sqrt((apart**2).mean(axis=2)).ravel())
    if places[-_PLACES] > _DIFFERENT or places.mean() > _ON_AVERAGE:
        return False
    kept = np.abs(apart - apart.mean(axis=(0, 1))).mean()
    return bool(kept <= _UNSEEN + _LEFT * np.abs(target - target.mean(axis=(0, 1))).mean())
