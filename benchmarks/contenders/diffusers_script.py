# SPDX-License-Identifier: Apache-2.0
"""diffusers' own ``examples/text_to_image/train_text_to_image_lora.py`` out of a checkout. Its LoRA's alpha is its rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import peer_script


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and saves the U-Net's adapter."""
    adapter = Path(spec["folder"]) / "adapter"
    arguments = {
        "pretrained_model_name_or_path": spec["base"],
        "train_data_dir": spec["pictures"],
        "cache_dir": f"{spec['folder']}/datasets",
        "output_dir": str(adapter),
        "resolution": spec["resolution"],
        "train_batch_size": spec["batch_size"],
        "num_train_epochs": spec["epochs"],
        "learning_rate": spec["learning_rate"],
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "adam_weight_decay": 0,
        "rank": spec["rank"],
        "seed": spec["seed"],
        "mixed_precision": "no",
        "checkpointing_steps": 1_000_000,
    }
    line = [f"--{key}={value}" for key, value in arguments.items()]
    if spec.get("checkpointing"):
        line.append("--gradient_checkpointing")
    script = Path(spec["checkout"]) / "examples" / "text_to_image" / "train_text_to_image_lora.py"
    return {"steps": peer_script.run(script, line, spec["batch_size"], spec["units"]), "adapter": str(adapter)}
