# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint in one file says of itself, in the words of those who write such files."""

from __future__ import annotations

import pytest
from loraforge_image.families.stable_diffusion.declared import Declared, declared

V, E = "v_prediction", "epsilon"


@pytest.mark.parametrize(
    ("names", "metadata", "found"),
    [
        ((), {}, Declared()),
        (("v_pred",), {}, Declared(V)),
        (("v_pred", "ztsnr"), {}, Declared(V, True)),
        (("ztsnr",), {}, Declared("", True)),
        ((), {"modelspec.prediction_type": "v"}, Declared(V)),
        ((), {"modelspec.prediction_type": "epsilon"}, Declared(E)),
        (("v_pred",), {"modelspec.prediction_type": "epsilon"}, Declared(V)),  # what the WebUIs go by
        ((), {"modelspec.architecture": "stable-diffusion-v2-768-v"}, Declared(V)),
        ((), {"modelspec.architecture": "stable-diffusion-v2-512"}, Declared(E)),
        ((), {"modelspec.architecture": "stable-diffusion-xl-v1-base"}, Declared()),
        ((), {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, Declared(V, True)),
        ((), {"ss_v_parameterization": "False", "ss_zero_terminal_snr": "False"}, Declared(E, False)),
        ((), {"ss_base_model_version": "sd_v2_v"}, Declared(V)),
        ((), {"ss_base_model_version": "sdxl_base_v1-0"}, Declared()),
        ((), {"modelspec.encoder_layer": "2"}, Declared(clip_skip=2)),
        ((), {"ss_clip_skip": "None", "modelspec.encoder_layer": "x"}, Declared()),
        ((), {"modelspec.encoder_layer": "9" * 5000, "modelspec.prediction_type": ["v"], "a": {}}, Declared()),
        (("edm_mean", "edm_std"), {}, Declared(other="EDM")),
        (("v_pred", "edm_vpred.sigma_max"), {}, Declared(V, other="EDM v-prediction")),
    ],
)
def test_what_is_said(names, metadata, found):
    assert declared(set(names), metadata) == found
