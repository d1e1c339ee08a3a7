# SPDX-License-Identifier: Apache-2.0
"""How sharp a picture is."""

from __future__ import annotations

from PIL import Image

# Measured with ``sharpness``: sharp drawings in flat colours give 47 to 54, noise with the spectra of photographs (amplitude 1/f to
# 1/f^1.6) 40 to 100, at every size and contrast; blurred over 3 pixels of 512, all give 13 or less. The customary variance of the
# Laplacian (blurred below 100) gave 3 to 27 for sharp drawings of little contrast. Soft styles (watercolour, mist) may lie below the
# bound too, so it never leaves a picture out.
BLURRED = 12.0


def sharpness(image: Image.Image) -> float:
    """How sharp the edges of a picture are, whatever their number and contrast, after shrinking the longest side to 512 pixels at most.

    It is the mean square of the Laplacian over that of the gradient, of the luminance after a Gaussian of one pixel, times 100: about
    50 / (1 + s^2) for edges that are blurred over s pixels. The Gaussian keeps the grain of cameras and JPEG from looking like edges.
    """
    import numpy as np
    from scipy.ndimage import gaussian_gradient_magnitude, gaussian_laplace

    grey = image.convert("L")
    grey.thumbnail((512, 512))
    values = np.asarray(grey, dtype=np.float64)
    slopes = float(np.square(gaussian_gradient_magnitude(values, 1.0)).mean())
    return 100 * float(np.square(gaussian_laplace(values, 1.0)).mean()) / slopes if slopes > 1e-9 else 0.0
