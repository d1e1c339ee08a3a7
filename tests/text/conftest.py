# SPDX-License-Identifier: Apache-2.0
"""A finished run of the text task."""

from __future__ import annotations

import pytest

from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan


@pytest.fixture(scope="session")
def run(tmp_path_factory, base):
    """One trained run that several tests look at."""
    from builders.tiny_text import write_config, write_rows

    from loraforge.plugin_api.host import PluginHost

    folder = tmp_path_factory.mktemp("run")
    write_rows(folder / "data" / "metadata.csv", 16)
    config = write_config(
        folder / "c.yaml",
        train_data_dir=str(folder / "data"),
        base_model=str(base),
        output_dir=str(folder / "out"),
        lora_rank=4,
        epochs=4,
        learning_rate=0.05,
        save_steps=5,
        export=["peft", "merged"],
    )
    host = PluginHost(blocked=())
    return run_training(make_plan(host, "text", config), host)
