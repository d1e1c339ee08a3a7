# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the image tests: tiny bases, small pictures, a cache folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sd_bases(tmp_path_factory):
    """``sd_bases("sdxl", full=True)``: each made once per process."""
    from builders.tiny_images import make_sd, make_sd3

    made: dict[tuple, Path] = {}

    def get(family: str = "sd15", **options) -> Path:
        key = (family, *sorted(options.items()))
        if key not in made:
            place = tmp_path_factory.mktemp("sd") / family
            made[key] = make_sd3(place, **options) if family == "sd3" else make_sd(place, family, **options)
        return made[key]

    return get


@pytest.fixture
def gallery(tmp_path, sd_bases, monkeypatch):
    """A folder with six pictures and a config: ``gallery(key=value)`` writes it and returns its path."""
    from builders.tiny_images import draw_pictures
    from builders.tiny_text import write_config

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    draw_pictures(tmp_path / "pictures")

    def make(name: str = "config.yaml", family: str = "sd15", **values) -> Path:
        settings = {
            "train_data_dir": str(tmp_path / "pictures"),
            "base_model": str(sd_bases(family)),
            # A built-in family takes the same bases as the stranger's.
            **({"model_family": "sd3"} if family == "sd3" else {}),
            "output_dir": str(tmp_path / "out"),
            "resolution": 64,
            "bucket_step": 16,
            "lora_rank": 4,
            "lora_dropout": 0.0,
            "batch_size": 2,
            "epochs": 1,
            "learning_rate": 0.01,
            "save_steps": 0,
            "eval_answers": False,
            "sample_steps": 2,
            "sample_prompts": ["a ball"],
            "export": [],
            **values,
        }
        return write_config(tmp_path / name, **{k: v for k, v in settings.items() if v is not ...})

    return make


@pytest.fixture
def paint(host):
    """Trains an image config and returns the outcome."""
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan

    def go(config: Path, *overrides: str, **options):
        return run_training(make_plan(host, "image", config, overrides), host, **options)

    return go
