# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests: offline, in English, on the CPU, and without what the surroundings say of terminals."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import hypothesis
import pytest
from builders import ROOT
from builders.plots import blank_plots
from builders.quiz import short_quiz

os.environ.update({"LORAFORGE_LANG": "en", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "TOKENIZERS_PARALLELISM": "false"})
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # diffusers imports onnxruntime where it is, which writes to the cache and to its maker


# What a terminal is to a test, it says itself: a build's own says "dumb" or CI, and then nothing is drawn.
os.environ["TERM"] = "xterm-256color"
for _name in ("CI", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "LANGUAGE"):
    os.environ.pop(_name, None)


# An example that takes a second on a busy machine is no fault of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Tests that share what is made once for their module are run by one process: two would make it twice."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("xdist_group") is None:
            used = item._fixtureinfo.name2fixturedefs.values()
            if any(found and found[-1].scope == "module" for found in used):
                item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).as_posix()))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Two test processes share two cores; more threads than cores are slower by far."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        import accelerate
        import diffusers
        import peft
        import torch
        import transformers

        torch.set_num_threads(1)
        assert accelerate and diffusers and peft and transformers
        # Every training collects garbage twice, and would look through the million objects of these libraries each time: a third of it.
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_keys_of_whoever_runs_the_tests(tmp_path_factory):
    """Runs are signed where there is a key: here there is none until a test makes one."""
    folder = str(tmp_path_factory.mktemp("settings"))
    os.environ.update({"XDG_CONFIG_HOME": folder, "APPDATA": folder})


@pytest.fixture(scope="session", autouse=True)
def _blank_plots():
    """A training draws three plots, which takes half as long as the whole rest of a tiny one. They are drawn up to the last step; what
    is saved is a blank. Tests that look at plots ask for ``real_plots``."""
    with blank_plots(real=lambda: bool(_real_plots)):
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_quiz():
    with short_quiz():
        yield


_real_plots: list[bool] = []


@pytest.fixture
def real_plots():
    """Plots are saved as they are."""
    _real_plots.append(True)
    yield
    _real_plots.clear()


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A tiny random Llama with a ChatML template."""
    from builders.tiny_text import make_base

    return make_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def host():
    from loraforge.plugin_api.host import PluginHost

    return PluginHost(blocked=())


@pytest.fixture
def project(tmp_path, base):
    """A folder with 12 rows and a config: ``project(key=value)`` writes it and returns its path."""
    from builders.tiny_text import write_config, write_rows

    write_rows(tmp_path / "data" / "metadata.csv")

    def make(name: str = "config.yaml", **values) -> Path:
        settings = {
            "train_data_dir": str(tmp_path / "data"),
            "base_model": str(base),
            "output_dir": str(tmp_path / "out"),
            "lora_rank": 4,
            "epochs": 2,
            "learning_rate": 0.01,
            "save_steps": 0,
            "eval_answers": False,  # seconds for each run; the tests of the comparison turn it on
            **values,
        }
        return write_config(tmp_path / name, **{k: v for k, v in settings.items() if v is not ...})

    return make


@pytest.fixture
def train(host):
    """Trains a config and returns the outcome."""
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan

    def go(config: Path, *overrides: str, **options):
        return run_training(make_plan(host, "text", config, overrides), host, **options)

    return go


@pytest.fixture
def command(capsys):
    """Runs the command line in this process: (exit code, standard output, standard error)."""
    from loraforge.cli.main import main

    def run(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run
