# SPDX-License-Identifier: Apache-2.0
"""Takes writing habits away from text."""

from __future__ import annotations

# Full-width forms as ASCII and the ideographic space as a space: one character for one, so that positions stay what they were.
_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20}


def narrow(text: str) -> str:
    """``text`` with full-width letters, digits and marks as ASCII; as long as before."""
    return text.translate(_WIDTH)
