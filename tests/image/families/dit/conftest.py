# SPDX-License-Identifier: Apache-2.0
"""The tiny bases of all transformer families, each made once per process."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.dit import Case, cases


@pytest.fixture(scope="session", params=sorted(cases()))
def case(request) -> Case:
    """One family after the other."""
    return cases()[request.param]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """``tiny(case)``: the folder of its tiny base."""
    made: dict[int, Path] = {}

    def get(case: Case) -> Path:
        if id(case) not in made:
            made[id(case)] = case.make(tmp_path_factory.mktemp("dit") / "base")
        return made[id(case)]

    return get


@pytest.fixture
def base_of(tiny):
    """``base_of(case)``: its tiny base, loaded."""
    from loraforge import RunConfig

    def get(case: Case, **settings):
        config = RunConfig(train_data_dir="x", base_model=str(tiny(case)), precision="fp32")
        return case.family().load_base(config, settings)

    return get
