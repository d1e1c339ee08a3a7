"""How alike texts, or other things with features, are: for telling near-identical rows. Light: numpy and scipy are imported when asked."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
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
    import numpy as np
    from scipy import sparse

    numbers: dict[Any, int] = {}
    columns = [numbers.setdefault(feature, len(numbers)) for row in features for feature in row]
    if not columns:
        return []
    sizes = np.array([len(row) for row in features], dtype=np.float32)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    matrix = sparse.csr_array((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(features), len(numbers)))
    turned = matrix.T.tocsr()
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(features), _CHUNK):
        shared = (matrix[start : start + _CHUNK] @ turned).tocsr()
        for row in range(start, start + shared.shape[0]):
            here = slice(shared.indptr[row - start], shared.indptr[row - start + 1])
            others, common = shared.indices[here], shared.data[here]
            before = others < row
            others, common = others[before], common[before]
            overlap = common / (sizes[row] + sizes[others] - common)
            near = np.flatnonzero(overlap >= least - 1e-6)
            best = near[np.lexsort((others[near], -overlap[near]))[:most]]
            found += [(row, other, value) for other, value in zip(others[best].tolist(), overlap[best].tolist(), strict=True)]
    return found
