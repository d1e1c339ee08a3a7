"""How alike texts, or other things with features, are: for telling near-identical rows. Light: numpy and scipy are imported when asked."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

# Two questions whose character pairs overlap by this much differ in a particle or a comma; other wordings of one point lie below 0.5.
NEAR = 0.8
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


def near_rows(features: Sequence[frozenset[Any]], least: float = NEAR) -> Iterator[tuple[int, Any, Any]]:
    """For every row in turn (row, its near-identical earlier rows, their overlaps) as arrays, the nearest first; in bounded memory."""
    import numpy as np
    from scipy import sparse

    numbers: dict[Any, int] = {}
    columns = [numbers.setdefault(feature, len(numbers)) for row in features for feature in row]
    counts = np.array([len(row) for row in features], dtype=np.int64)
    sizes = counts.astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    shape = (len(features), max(1, len(numbers)))
    matrix = sparse.csr_array((np.ones(len(columns), dtype=np.float32), np.array(columns, dtype=np.int64), starts), shape=shape)
    turned = matrix.T.tocsr()
    for start in range(0, len(features), _CHUNK):
        shared = (matrix[start : start + _CHUNK] @ turned).tocsr()
        for row in range(start, start + shared.shape[0]):
            here = slice(shared.indptr[row - start], shared.indptr[row - start + 1])
            others, common = shared.indices[here], shared.data[here]
            before = others < row
            others, common = others[before], common[before]
            overlap = common / (sizes[row] + sizes[others] - common)
            near = np.flatnonzero(overlap >= least - 1e-6)
            best = near[np.lexsort((others[near], -overlap[near]))]
            yield row, others[best], overlap[best]
