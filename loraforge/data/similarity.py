# SPDX-License-Identifier: Apache-2.0
"""How alike texts, or other things with features, are: for telling near-identical rows. Light: numpy and scipy are imported when asked."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

# Two questions whose character pairs overlap by this much differ in a particle or a comma; other wordings of one point lie below 0.5.
NEAR = 0.8
# Of a short question that stands within a longer one so much is there.
CONTAINED = 0.9
_LONGER = 8  # times as long, at most: in a very long text the pairs of a short one stand by chance
_CHUNK = 512  # rows compared with all others at a time: bounds the memory


def fold(text: str) -> str:
    """Text without what two writings of it differ in: width, case, punctuation, spaces (NFKC, lower case, letters and digits alone)."""
    # Lower case can undo NFKC (İ) and NFKC lower case (ᴬ), so it is done until nothing changes; two rounds are enough.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in text if unicodedata.category(c)[0] in "LN")


def character_pairs(text: str, mark: str = "") -> frozenset[Hashable]:
    """The pairs of neighbouring characters; one that comes again is another feature, so that 哈哈哈哈 is not 哈哈. The text itself if it
    has no pairs.

    Args:
        mark: texts with another mark have no feature in common.
    """
    seen: Counter[str] = Counter()
    found: set[Hashable] = set()
    for pair in (text[i : i + 2] for i in range(len(text) - 1)):
        found.add((pair, seen[pair], mark))
        seen[pair] += 1
    return frozenset(found or {(text, 0, mark)})


def near_pairs(features: Sequence[frozenset[Any]], least: float = NEAR, most: int | None = None) -> list[tuple[int, int, float]]:
    """(row, earlier row, overlap) of all near-identical pairs: by row, the nearest earlier rows first, of equal ones the earliest.

    Args:
        least: the smallest overlap that counts: shared features over all features (Jaccard).
        most: for each row at most so many earlier ones. A template that is filled in thousands of times makes millions of pairs.
    """
    return [
        (row, other, value)
        for row, others, overlaps in near_rows(features, least)
        for other, value in zip(others[:most].tolist(), overlaps[:most].tolist(), strict=True)
    ]


def near_rows(features: Sequence[frozenset[Any]], least: float = NEAR, floors: Sequence[int] = ()) -> Iterator[tuple[int, Any, Any]]:
    """For every row in turn (row, its near-identical earlier rows, their overlaps) as arrays, the nearest first; in bounded memory.

    Args:
        floors: for every row the number of features from which on it is near to what contains ``CONTAINED`` of it, 0 for never.

    Exact, and quick where texts are long (prefix filter: Bayardo, Ma, Srikant, "Scaling Up All Pairs Similarity Search", WWW 2007): of two
    near rows the smaller shares at least ``least`` of its features with the other, so any few more than the rest of them hit it, and the
    rarest ones hit hardly any others.
    """
    import numpy as np
    from scipy import sparse

    numbers: dict[Any, int] = {}
    columns = np.array([numbers.setdefault(feature, len(numbers)) for row in features for feature in row], dtype=np.int64)
    sizes = np.array([len(row) for row in features], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    width = max(1, len(numbers))
    matrix = sparse.csr_array((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(features), width))
    owners = np.repeat(np.arange(len(features)), sizes)
    order = np.lexsort((np.bincount(columns, minlength=width)[columns], owners))  # by row, its rarest features first
    rarest = np.arange(len(columns)) - starts[owners] <= sizes[owners] - np.ceil(min(least, CONTAINED) * sizes[owners] - 1e-6)
    prefixes = sparse.csr_array(
        (np.ones(int(rarest.sum()), dtype=np.float32), (owners[rarest], columns[order][rarest])), shape=matrix.shape
    )
    turned, turned_prefixes = matrix.T.tocsr(), prefixes.T.tocsr()
    from_size = np.array(list(floors) or [0] * len(features), dtype=np.int64)
    may = (from_size > 0) & (sizes >= from_size)
    mine = np.zeros(width, dtype=np.float32)
    for start in range(0, len(features), _CHUNK):
        here = slice(start, start + _CHUNK)
        hit = (prefixes[here] @ turned + matrix[here] @ turned_prefixes).tocsr()
        for row in range(start, start + hit.shape[0]):
            others = hit.indices[hit.indptr[row - start] : hit.indptr[row - start + 1]]
            others = others[others < row]
            own = columns[starts[row] : starts[row + 1]]
            mine[own] = 1
            common = matrix[others] @ mine if len(others) else np.zeros(0, dtype=np.float32)
            mine[own] = 0
            overlap = common / (sizes[row] + sizes[others] - common)
            smaller = np.where(sizes[others] < sizes[row], may[others], may[row])
            least_size, most_size = np.minimum(sizes[row], sizes[others]), np.maximum(sizes[row], sizes[others])
            inside = smaller & (common >= CONTAINED * least_size - 1e-6) & (most_size <= _LONGER * least_size)
            near = np.flatnonzero((overlap >= least - 1e-6) | inside)
            best = near[np.lexsort((others[near], -overlap[near]))]
            yield row, others[best], overlap[best]


def near_records(
    views: Sequence[Sequence[frozenset[Any]]], floors: Sequence[int] = (), least: float = NEAR
) -> Iterator[tuple[int, Any, Any]]:
    """As ``near_rows``, of records that have several sets of features each: two are near where a set of one is near a set of the other."""
    import numpy as np

    owners = np.array([record for record, those in enumerate(views) for _ in those], dtype=np.int64)
    found = near_rows([one for those in views for one in those], least, [floors[record] for record in owners] if floors else ())
    for record, those in enumerate(views):
        best: dict[int, float] = {}
        for _ in those:
            _, others, overlaps = next(found)
            for other, overlap in zip(owners[others].tolist(), overlaps.tolist(), strict=True):
                if other != record and overlap > best.get(other, -1.0):
                    best[other] = overlap
        nearest = sorted(best, key=lambda other: (-best[other], other))
        yield record, np.array(nearest, dtype=np.int64), np.array([best[other] for other in nearest], dtype=np.float32)
