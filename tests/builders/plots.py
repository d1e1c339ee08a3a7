# SPDX-License-Identifier: Apache-2.0
"""Plots that are drawn up to the last step and saved as a blank: a tiny training spends half of its time on them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def blank_plots(real: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Inside, what matplotlib saves is 8 pixels of black.

    Args:
        real: asked each time; True lets a plot be saved as it is.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    save, blank = Figure.savefig, io.BytesIO()
    Image.new("RGB", (8, 8)).save(blank, "PNG")

    def savefig(self, path, **options):
        return save(self, path, **options) if real() else Path(path).write_bytes(blank.getvalue())

    Figure.savefig = savefig
    try:
        yield
    finally:
        Figure.savefig = save
