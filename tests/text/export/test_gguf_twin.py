# SPDX-License-Identifier: Apache-2.0
"""Settings of a base with which llama.cpp computes something else than transformers are found out, by asking both."""

from __future__ import annotations

import pytest
from builders.gguf_bases import served_by, small_base
from loraforge_text.export import gguf_twin

from loraforge import ExportError

pytest.importorskip("xllamacpp")


@pytest.mark.parametrize("kind", ["llama", "olmo3"])
def test_settings_that_llama_cpp_knows(kind, tmp_path):
    gguf_twin.prove_layers(served_by(small_base(kind, tmp_path)))


@pytest.mark.parametrize(
    "kind,settings",
    [
        ("llama", {"hidden_act": "gelu"}),
        ("gemma2", {"query_pre_attn_scalar": 32}),
        ("smollm3", {"no_rope_layers": [0, 1]}),
    ],
    ids=["activation", "divisor", "layers without positions"],
)
def test_settings_that_llama_cpp_takes_otherwise(kind, settings, tmp_path):
    with pytest.raises(ExportError, match=r"log-probabilities that are \d+\.\d\d apart"):
        gguf_twin.prove_layers(served_by(small_base(kind, tmp_path, **settings)))
