# SPDX-License-Identifier: Apache-2.0
"""Singular values of what a LoRA does, and pairs of another rank that do nearly the same. float64 throughout."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..lora_files.factors import Factors

if TYPE_CHECKING:
    from torch import Tensor

# A dense matrix whose shorter side is longer than this and many times the wanted rank is decomposed by random projection (Halko et al.
# 2011): minutes instead of hours for a whole base. Six iterations leave an error far below that of rounding to sixteen bits.
_DENSE = 512
_TIMES = 4
_ITERATIONS = 6


@dataclass(frozen=True)
class Spectrum:
    """The singular values of a change, largest first, with their directions: ``left * values @ right``.

    Attributes:
        left, values, right: (out, n), (n,), (n, in), float64.
        whole: the Frobenius norm of the change; more than that of the values where only the largest were computed.
        kernel: the layer's shape behind the outputs: (in,), or (in, height, width) of a convolution.
    """

    left: Tensor
    values: Tensor
    right: Tensor
    whole: float
    kernel: tuple[int, ...]

    def kept(self, rank: int) -> float:
        """The share of the Frobenius norm that the ``rank`` largest values hold, 0 to 1."""
        return math.sqrt(min(1.0, float(self.values[:rank].square().sum()) / self.whole**2)) if self.whole else 1.0

    def rank_for(self, share: float) -> int:
        """The smallest rank that keeps ``share`` of the Frobenius norm; 1 at least."""
        held = self.values.square().cumsum(0).sqrt() / self.whole if self.whole else self.values.new_ones(1)
        return min(len(self.values), int((held < share - 1e-12).sum()) + 1) or 1

    def factors(self, name: str, called: str, rank: int) -> Factors:
        """A pair of exactly ``rank`` with scale 1, the values halved between both. A rank beyond what there is to hold is filled with
        directions that do nothing yet, but can learn: rows of chance in ``down``, zeros in ``up``."""
        import torch

        used = min(rank, len(self.values))
        roots = self.values[:used].sqrt()
        down, up = roots[:, None] * self.right[:used], self.left[:, :used] * roots
        if used < rank:
            chance = torch.Generator().manual_seed(zlib.crc32(called.encode()))
            fresh = torch.randn(rank - used, down.shape[1], generator=chance, dtype=torch.float64) / math.sqrt(3 * down.shape[1])
            down, up = torch.cat([down, fresh]), torch.cat([up, up.new_zeros(up.shape[0], rank - used)], 1)
        return Factors(name, called, down.reshape(rank, *self.kernel).float().contiguous(), up.float().contiguous(), 1.0)


def of_pairs(pairs: Sequence[Factors]) -> Spectrum:
    """Of the sum of several changes of one layer; exact, without a matrix of the layer's size."""
    import torch

    down = torch.cat([one.down.double().flatten(1) for one in pairs])
    up = torch.cat([one.scale * one.up.double() for one in pairs], 1)
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return Spectrum(q_up @ left, values, right @ q_down.T, float(values.norm()), tuple(pairs[0].down.shape[1:]))


def of_dense(change: Tensor, rank: int) -> Spectrum:
    """Of a change of a layer's weight, (out, in) or (out, in, height, width); at least the ``rank`` largest values."""
    import torch

    flat = change.double().flatten(1)
    if min(flat.shape) <= max(_DENSE, _TIMES * rank):
        left, values, right = torch.linalg.svd(flat, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the projection is of chance, and the same file is to come out twice
            left, values, columns = torch.svd_lowrank(flat, q=2 * rank + 8, niter=_ITERATIONS)
            right = columns.T
    return Spectrum(left, values, right, float(flat.norm()), tuple(change.shape[1:]))


def joined(pairs: Sequence[Factors], name: str, called: str) -> Factors:
    """The sum of several changes of one layer as one pair whose rank is theirs together: nothing is lost."""
    import torch

    down = torch.cat([one.down for one in pairs])
    up = torch.cat([(one.scale * one.up.double()).float() for one in pairs], 1)
    return Factors(name, called, down.contiguous(), up.contiguous(), 1.0)
