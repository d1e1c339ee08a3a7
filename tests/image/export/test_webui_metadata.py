# SPDX-License-Identifier: Apache-2.0
"""What the WebUIs' file says of a training."""

from __future__ import annotations

import pytest
from loraforge_image.export.webui_metadata import _optimizer


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"optimizer": "adamw", "optimizer_args": []}, "adamw"),
        ({"optimizer": "prodigy", "optimizer_args": ["decouple=True", "betas=0.9,0.99"]}, "prodigy(decouple=True,betas=0.9,0.99)"),
        ({"optimizer": "adamw"}, "adamw"),  # of an earlier version
        ({}, ""),
    ],
)
def test_the_optimizer_stands_there_with_its_settings_as_sd_scripts_writes_them(config, said):
    assert _optimizer(config) == said
