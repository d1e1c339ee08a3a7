# SPDX-License-Identifier: Apache-2.0
"""Works of the studio whose training is done, by the real training, in seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path

from builders.tiny_images import draw_pictures, make_sd
from builders.tiny_text import make_base, write_config, write_rows


def train(folder: Path, task: str, **values: object) -> Path:
    """The work ``folder``, trained: six or so steps, two or more checkpoints, a comparison of twelve short rows with the base."""
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost

    folder.mkdir(parents=True, exist_ok=True)
    common = {"lora_rank": 4, "batch_size": 4, "output_dir": f"./output/{folder.name}", "export": [], "eval_ratio": 0.25}
    if task == "text":
        base = (
            make_base(folder.parent / "bases" / "text")
            if not (folder.parent / "bases" / "text").exists()
            else folder.parent / "bases" / "text"
        )
        write_rows(folder / "data" / "metadata.csv", 16)
        own = {"train_data_dir": "./data", "base_model": str(base), "epochs": 2, "save_steps": 3, "learning_rate": 0.05, "export": ["peft"]}
    else:
        base = folder.parent / "bases" / "image"
        if not base.exists():
            make_sd(base)
        draw_pictures(folder / "data", 8)
        own = {
            "train_data_dir": "./data", "base_model": str(base), "resolution": 64, "bucket_step": 16, "max_steps": 4, "save_steps": 2,
            "learning_rate": 0.01, "sample_steps": 2, "sample_prompts": ["a ball", "two balls"], "eval_answers": False, "save_precision": "fp32", "export": ["webui"],
        }  # fmt: skip
    config = write_config(folder / f"{folder.name}.yaml", **{**common, **own, **values})
    host, before = PluginHost(blocked=("echo",)), Path.cwd()
    os.chdir(folder)  # as the studio does
    try:
        run_training(make_plan(host, task, Path(config.name)), host)
    finally:
        os.chdir(before)
    (folder / ".studio").mkdir(exist_ok=True)
    (folder / ".studio" / "work.json").write_text(json.dumps({"task": task}), encoding="utf-8")
    return folder
