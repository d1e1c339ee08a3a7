# SPDX-License-Identifier: Apache-2.0
"""A finished run for the tests of commands, exporters and whatever else reads one: real, of the text task, in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..runs.opened import LoadedRun, load_run
from .environment import host_with, on_the_cpu

_ROWS = 12
# A few steps on a base that is embedded: nothing is fetched, and all that a run leaves behind is there.
_CONFIG: dict[str, Any] = {
    "base_model": "tiny-chat",
    "lora_rank": 4,
    "lora_dropout": 0.0,
    "learning_rate": 2e-3,
    "max_steps": 4,
    "save_steps": 2,
    "eval_answers": False,
    "export": ["peft"],
}


def finished_run(folder: Path, *, plugins: Iterable[object] = (), task: str = "text", **config: Any) -> LoadedRun:
    """Trains a small run in ``folder/run`` on the CPU and opens it: checkpoints, adapter, log, export, manifest and seal are real.

    Args:
        folder: where it is made; its data and its YAML lie beside it.
        plugins: modules to train with beside the installed ones.
        config: YAML keys that differ: ``lora_variant="dora"``, ``max_steps=1``, ``eval_answers=True``, ``train_data_dir=...`` with rows of
            your own (twelve questions and answers are there by default).
    """
    from ..device import quiet_libraries
    from ..pipeline.run import run_training
    from ..plan import make_plan

    quiet_libraries()
    data, file = folder / "data", folder / "config.yaml"
    data.mkdir(parents=True, exist_ok=True)
    rows = ["instruction,output", *(f"第{i}问：试用期最长多久？,最长{i}个月。根据《劳动合同法》第{i + 10}条。" for i in range(_ROWS))]
    (data / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    written = {"train_data_dir": str(data), "output_dir": str(folder / "run"), **_CONFIG, **config}
    file.write_text("".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in written.items()), encoding="utf-8")
    host = host_with(plugins)
    with on_the_cpu():
        outcome = run_training(make_plan(host, task, file), host)
    return load_run(host, outcome.run.path)
