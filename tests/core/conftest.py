# SPDX-License-Identifier: Apache-2.0
"""A finished run, and copies of it."""

from __future__ import annotations

import shutil

import pytest

from loraforge.plugin_api.host import PluginHost
from loraforge.runs.folder import RunFolder
from loraforge.runs.seal import seal_run


@pytest.fixture(scope="session")
def master(tmp_path_factory, base):
    """One finished run for all files, beside its data: trained once, copied for every test."""
    from builders.tiny_text import write_config, write_rows

    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan

    place = tmp_path_factory.mktemp("master")
    write_rows(place / "data" / "metadata.csv")
    settings = {"train_data_dir": str(place / "data"), "base_model": str(base), "output_dir": str(place / "out"), "save_steps": 3}
    settings |= {"lora_rank": 4, "epochs": 2, "learning_rate": 0.01, "eval_answers": False}
    host = PluginHost(blocked=())
    run_training(make_plan(host, "text", write_config(place / "config.yaml", **settings)), host)
    return place


@pytest.fixture
def data(master):
    """The data file of the run; it is put back after the test."""
    shutil.copytree(master / "data", master / "kept", dirs_exist_ok=True)
    yield master / "data" / "metadata.csv"
    shutil.rmtree(master / "data", ignore_errors=True)
    shutil.move(master / "kept", master / "data")


@pytest.fixture
def sealed(master, tmp_path):
    """A finished, sealed run: its folder and the seal."""
    run = RunFolder(shutil.copytree(master / "out", tmp_path / "out"))
    return run, seal_run(run, run.manifest())
