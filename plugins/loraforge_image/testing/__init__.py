# SPDX-License-Identifier: Apache-2.0
"""For the tests of image families: that a family draws, batches and learns what plain diffusers does, and keeps what runs rely on.

Each check raises ``AssertionError`` with what is wrong. A tiny random base will do, if no layer of it is all zeros.
"""

from .drawing import check_drawing
from .families import check_image_family, check_walk
from .steps import check_batch, check_gradients

__all__ = ["check_batch", "check_drawing", "check_gradients", "check_image_family", "check_walk"]
