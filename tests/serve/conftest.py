# SPDX-License-Identifier: Apache-2.0
"""A tiny base with adapters on it, served by torch."""

from __future__ import annotations

import pytest
from builders.serving import OTHER_CHATML, export_adapter


@pytest.fixture(scope="session")
def exports(tmp_path_factory, base):
    """Three exported adapters by name; ``other`` has a chat template of its own, ``dora`` cannot share a batch."""
    folder = tmp_path_factory.mktemp("exports")
    return {
        "legal": export_adapter(folder / "legal", base, 1),
        "medical": export_adapter(folder / "medical", base, 2),
        "other": export_adapter(folder / "other", base, 3, jinja=OTHER_CHATML),
        "dora": export_adapter(folder / "dora", base, 4, dora=True),
    }


@pytest.fixture(scope="session")
def served(exports):
    """A server of the four on the torch backend, and its source."""
    from loraforge_serve.admission import Admission
    from loraforge_serve.catalogue.source import Source
    from loraforge_serve.cli.choosing import make_backend
    from loraforge_serve.library import Library
    from loraforge_serve.metrics import Metrics
    from loraforge_serve.server import Limits, Server

    from loraforge.plugin_api.host import PluginHost

    source = Source(PluginHost(blocked=()))
    versions = [source.read(folder) for folder in exports.values()]
    backend = make_backend(source, {"backend": "torch", "gguf": None, "vllm_url": None, "batch": 32})
    library = Library(source.base_version(), backend)
    for version in versions:
        library.put(version)
    yield Server(library, Admission(64), Metrics(), Limits(tokens=64), source)
    backend.close()
