# SPDX-License-Identifier: Apache-2.0
"""The noise of a picture: against sd-scripts' rule, written down once more."""

from __future__ import annotations

import pytest
from loraforge_image.families.training.noise import coloured, generator, multires
from loraforge_image.records import ImageKeys


@pytest.mark.parametrize("shape", [(4, 16, 24), (16, 3, 16, 24)])
@pytest.mark.parametrize(("iterations", "discount"), [(1, 0.3), (6, 0.4), (10, 0.1), (20, 1.0)])
def test_noise_of_several_resolutions(shape, iterations, discount):
    """pyramid_noise_like: of 1 / r^i of the size for r between 2 and 4, enlarged by straight lines, times discount^i, then divided by the
    deviation; nothing after a side of one pixel."""
    import torch

    white = torch.randn(shape, generator=generator("white"))
    found = multires(white, iterations, discount, generator("x"))
    chance, high, wide = generator("x"), shape[-2], shape[-1]
    total = white.reshape(1, -1, high, wide).clone()
    enlarge = torch.nn.Upsample(size=(high, wide), mode="bilinear")
    for i in range(iterations):
        r = torch.rand((), generator=chance, dtype=torch.float64).item() * 2 + 2
        small = (max(1, int(high / r**i)), max(1, int(wide / r**i)))
        total = total + enlarge(torch.randn((1, total.shape[1], *small), generator=chance)) * discount**i
        if 1 in small:
            break
    torch.testing.assert_close(found, (total / total.std()).reshape(shape))
    assert float(found.std()) == pytest.approx(1, abs=1e-5)


def test_coarse_noise_is_there_and_belongs_to_the_seed():
    import torch

    keys = ImageKeys(multires_noise_iterations=8, multires_noise_discount=0.8)
    made = [coloured(torch.randn((4, 32, 32), generator=generator("w")), keys, generator(seed)) for seed in ("a", "a", "b")]
    assert made[0].equal(made[1]) and not made[0].equal(made[2])

    def smooth(noise):
        """Neighbours are alike where noise is coarse."""
        return float((noise[..., 1:] * noise[..., :-1]).mean())

    assert smooth(made[0]) > 0.2 > abs(smooth(torch.randn((4, 32, 32), generator=generator("w")))) * 3


def test_plain_noise_stays_as_it_is():
    import torch

    white = torch.randn((4, 8, 8))
    assert coloured(white, ImageKeys(), generator("x")) is white
