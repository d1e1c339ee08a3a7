# SPDX-License-Identifier: Apache-2.0
"""``loraforge lora resize``: a LoRA file of another rank, by the singular values of every module's change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..lora_files.factors import Factors
from .svd import Spectrum, of_pairs


@dataclass(frozen=True)
class Resized:
    """What came out.

    Attributes:
        factors: of every module, with their new ranks.
        kept: the share of the whole change's Frobenius norm that is left, 0 to 1.
        worst: the name of the module that lost most, and the share that is left of it.
    """

    factors: Sequence[Factors]
    kept: float
    worst: tuple[str, float]

    @property
    def ranks(self) -> dict[int, int]:
        """How many modules have each rank."""
        return dict(Counter(one.rank for one in self.factors).most_common())


def is_wide(one: Factors) -> bool:
    """Whether it sits on a convolution of more than one pixel."""
    return one.down.ndim == 4 and tuple(one.down.shape[2:]) != (1, 1)


def resize(
    factors: Sequence[Sequence[Factors]],
    rank: int | None,
    conv_rank: int | None,
    share: float | None,
    tick: Callable[[], None] = lambda: None,
) -> Resized:
    """Every module at another rank: the best approximation of that rank there is (Eckart and Young 1936).

    Args:
        factors: for every module of the result the pairs whose sum it is.
        rank: of every module; with ``share`` the highest.
        conv_rank: the same for convolutions of more than one pixel; by default ``rank``.
        share: of a module's Frobenius norm that is to be kept, 0 to 1 (kohya's ``sv_fro``).
        tick: called after every module.
    """
    made, lost, whole = [], 0.0, 0.0
    worst = ("", 1.0)
    for pairs in factors:
        spectrum = of_pairs(pairs)
        wanted = conv_rank if conv_rank is not None and is_wide(pairs[0]) else rank
        chosen = _rank(spectrum, wanted, share, sum(one.rank for one in pairs))
        kept = spectrum.kept(chosen)
        whole += spectrum.whole**2
        lost += spectrum.whole**2 * (1 - kept**2)
        if kept < worst[1]:
            worst = (pairs[0].name, kept)
        made.append(spectrum.factors(pairs[0].name, pairs[0].called, chosen))
        tick()
    return Resized(made, math.sqrt(max(0.0, 1 - lost / whole)) if whole else 1.0, worst)


def _rank(spectrum: Spectrum, wanted: int | None, share: float | None, before: int) -> int:
    if share is None:
        return wanted if wanted is not None else before
    enough = spectrum.rank_for(share)
    return min(enough, wanted) if wanted is not None else enough
