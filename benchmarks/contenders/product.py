# SPDX-License-Identifier: Apache-2.0
"""LoRAForge as people run it: ``loraforge train TASK config.yaml``; what it did is read from its log."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def config_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The config of a text run: no evaluation, no export beyond the adapter, the last step's weights; the rest as the others have it."""
    return {
        "train_data_dir": spec["data"],
        "base_model": spec["base"],
        "output_dir": f"{spec['folder']}/run",
        "lora_rank": spec["rank"],
        "lora_alpha": spec["alpha"],
        "lora_dropout": spec.get("dropout", 0.0),
        "lora_target": list(spec["targets"]),
        "batch_size": spec["batch_size"],
        "epochs": spec["epochs"],
        "learning_rate": spec["learning_rate"],
        "lr_scheduler": "constant",
        "warmup": 0,
        "gradient_checkpointing": bool(spec.get("checkpointing")),
        "max_seq_length": spec["max_length"],
        "eval_ratio": 0,
        "eval_answers": False,
        "save_steps": 0,
        "adapter_from": "last",
        "stop_on": "never",
        "export": [],
        "seed": spec["seed"],
        **spec.get("config", {}),
    }


def image_config_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The same of an image run. What is encoded is kept in the run's own folder, so that no run finds what another left."""
    return {
        "train_data_dir": spec["pictures"],
        "base_model": spec["base"],
        "output_dir": f"{spec['folder']}/run",
        "cache_dir": spec.get("cache") or f"{spec['folder']}/cache",
        "resolution": spec["resolution"],
        "lora_rank": spec["rank"],
        "lora_alpha": spec["alpha"],
        "lora_dropout": 0.0,
        "lora_target": spec.get("lora_target", "all-linear"),
        "batch_size": spec["batch_size"],
        "epochs": spec["epochs"],
        "learning_rate": spec["learning_rate"],
        "lr_scheduler": "constant",
        "warmup": 0,
        "gradient_checkpointing": bool(spec.get("checkpointing")),
        "sample_prompts": [],
        "eval_ratio": 0,
        "eval_answers": False,
        "save_steps": 0,
        "adapter_from": "last",
        "stop_on": "never",
        "export": [],
        "seed": spec["seed"],
        **spec.get("config", {}),
    }


def steps_of(log: Path) -> tuple[list[tuple[float, float]], list[dict[str, Any]]]:
    """(time, units so far) of every step, and all events."""
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps: list[tuple[float, float]] = []
    units = 0.0
    for event in events:
        if event["event"] == "StepFinished":
            units += event["units"]
            steps.append((event["time"], units))
    return steps, events


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Runs the command and reads its log."""
    import yaml

    task = spec.get("task", "text")
    config = config_of(spec) if task == "text" else image_config_of(spec)
    file = Path(spec["folder"]) / "config.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    measured: dict[str, float] = {}
    if spec.get("device", "cpu") != "cpu":  # what torch has taken of a GPU is known in its own process only
        from loraforge.cli.main import main

        with contextlib.suppress(SystemExit):  # also on success
            main(["train", task, str(file)])
    else:
        # A process of its own, as from a shell: the command starts itself anew with its own settings of the memory.
        subprocess.run([sys.executable, "-m", "loraforge", "train", task, str(file)], check=False)
        measured["finished"] = time.time()
        measured["peak"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    folder = Path(config["output_dir"])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8")) if (folder / "manifest.json").is_file() else {}
    if manifest.get("status") != "finished":
        raise RuntimeError(f"loraforge train did not finish: {manifest.get('error', 'its output says why')}")
    steps, events = steps_of(folder / "log.jsonl")
    began = next(event["time"] for event in events if event["event"] == "RunStarted")
    if spec.get("tokens") and abs(steps[-1][1] - spec["tokens"] * spec["epochs"]) > 0.5:
        raise RuntimeError(f"loraforge trained on {steps[-1][1]:.0f} tokens, the others on {spec['tokens'] * spec['epochs']}")
    if task == "image" and spec.get("units") and steps[-1][1] != spec["units"]:
        raise RuntimeError(f"loraforge trained on {steps[-1][1]:.0f} pictures, the others on {spec['units']}")
    return {"steps": steps, "adapter": str(folder / "adapter"), "began": began, **measured}
