# SPDX-License-Identifier: Apache-2.0
"""Fixtures for pytest. Ask for them in your top-level ``conftest.py``:

    pytest_plugins = ["loraforge.testing.fixtures"]

They are no entry point of pytest: whoever has installed LoRAForge would then load them in the tests of everything else.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from ..plugin_api.events import Event
from ..plugin_api.types import Adapter
from ..runs.folder import RunFolder
from ..runs.opened import LoadedRun
from .adapters import make_adapter
from .events import event_stream
from .runs import finished_run

__all__ = ["adapter", "events", "finished"]


@pytest.fixture
def adapter() -> Adapter:
    """A small random adapter, for exporters; see ``make_adapter`` for other kinds."""
    return make_adapter()


@pytest.fixture
def events(tmp_path: Path) -> list[Event]:
    """Every kind of event, in the order of real runs; their files lie in ``tmp_path / "run"``."""
    return event_stream(tmp_path / "run")


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    """The run that is trained once for the whole session."""
    return finished_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(name="finished_run")
def finished(_trained: LoadedRun, tmp_path: Path) -> LoadedRun:
    """A finished text run, opened. It is trained once, in seconds, and every test gets a copy of its own to read or change."""
    folder = tmp_path / "finished" / "run"
    shutil.copytree(_trained.path, folder)
    return dataclasses.replace(_trained, run=RunFolder(folder))
