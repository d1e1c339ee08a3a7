# SPDX-License-Identifier: Apache-2.0
"""The factors as a file stores them: in its precision, with both far from where its numbers lose digits, and what that loses."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from loraforge import ExportError, speaker

from ..lora_files.factors import balanced

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

_MOST = 0.05
# Convolutions of one pixel, in Stable Diffusion 1 around the attention too: some programs keep them as matrices.
_POINTWISE = {"sd15": r"(conv_shortcut|skip_connection|proj_in|proj_out)$", "sd2": r"(conv_shortcut|skip_connection)$"}
_POINTWISE["sdxl"] = _POINTWISE["sd2"]


class Rounding:
    """Rounds pairs of factors, and adds up what that takes away.

    Attributes:
        largest: the largest share of a factor that was lost (Frobenius norm).
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.largest = 0.0
        self._lost = self._whole = 0.0

    def stored(self, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """Both as they are stored, in ``kind``."""
        import torch

        exact = down.double(), up.double()
        if self.kind == torch.float16:
            exact = balanced(*exact)
        found = [one.to(self.kind).contiguous() for one in exact]
        for one, there in zip(exact, found, strict=True):
            norm = float(one.norm())
            self.largest = max(self.largest, float((there.double() - one).norm()) / norm if norm else 0.0)
        rows, columns = exact[1].flatten(1), exact[0].flatten(1)
        new_rows, new_columns = found[1].double().flatten(1), found[0].double().flatten(1)
        self._whole += _square(rows, columns)
        # new - old = (new up - up) new down + up (new down - down): each difference without cancellation.
        left = torch.cat([new_rows - rows, rows], 1)
        right = torch.cat([new_columns, new_columns - columns])
        self._lost += _square(left, right)
        return found[0], found[1]

    def share(self, precision: str) -> float:
        """The share of the whole change (Frobenius norm) that is lost.

        Raises:
            ExportError: if it is too much.
        """
        share = math.sqrt(self._lost / self._whole) if self._whole else 0.0
        if share > _MOST:
            raise ExportError(
                say(
                    "rounded to {precision} the file would lose {share} of its change. Use --precision fp32.",
                    precision=precision,
                    share=f"{share:.1%}",
                )
            )
        return share


def _square(up: Tensor, down: Tensor) -> float:
    """The squared Frobenius norm of ``up @ down``, without a matrix of the layer's size."""
    return max(0.0, float(((up.T @ up) * (down @ down.T)).sum()))


def shaped(name: str, down: Tensor, up: Tensor, family: str) -> tuple[Tensor, Tensor]:
    """Both with as many dimensions as the layer's weight has.

    Args:
        family: whose convolutions of one pixel are known by ``name``; empty where matrices stay matrices.
    """
    if down.ndim == 2 and not name.startswith("lora_te") and family in _POINTWISE and re.search(_POINTWISE[family], name):
        down = down[..., None, None]
    return down, up.reshape(*up.shape, *(1,) * (down.ndim - 2))
