# SPDX-License-Identifier: Apache-2.0
"""The keys of image runs: values as other trainers write them."""

from __future__ import annotations

import pytest
from loraforge_image.records import ImageKeys


@pytest.mark.parametrize(
    ("written", "rates", "trained"),
    [(None, [None, None], True), (1e-5, [1e-5, 1e-5], True), (0, [0, 0], False), ("1e-5 5e-6", [1e-5, 5e-6], True), ("[1e-5, 0]", [1e-5, 0], True),
     ([1e-5], [1e-5, 1e-5], True), ([0, 0], [0, 0], False), ([0.0], [0, 0], False), ([0, 1e-5], [0, 1e-5], True), ("0", [0, 0], False)],
)  # fmt: skip
def test_rates_of_text_encoders_as_sd_scripts_takes_them(written, rates, trained):
    keys = ImageKeys(train_text_encoder=True, text_encoder_lr=written)
    assert [keys.text_rate(name) for name in ("text_encoder", "text_encoder_2")] == rates and keys.train_text_encoder is trained


@pytest.mark.parametrize("written", [-1, 2, "abc", [1e-5, -1], {"a": 1}, []])
def test_a_rate_that_is_none_is_refused(written):
    with pytest.raises(ValueError, match="text_encoder_lr"):
        ImageKeys(text_encoder_lr=written)
