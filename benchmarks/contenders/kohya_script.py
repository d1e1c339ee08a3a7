# SPDX-License-Identifier: Apache-2.0
"""kohya's own ``train_network.py`` out of a checkout of sd-scripts: cached latents, SDPA, the U-Net only.

Its U-Net has the widths of Stable Diffusion as constants; these, and nothing else, are set to the base's before it starts.
"""

from __future__ import annotations

import csv
import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from . import peer_script


def _widths(checkout: Path, base: Path) -> None:
    config = json.loads((base / "unet" / "config.json").read_text(encoding="utf-8"))
    sys.path.insert(0, str(checkout))
    constants = importlib.import_module("library.original_unet")
    widths = tuple(config["block_out_channels"])
    known = {
        "BLOCK_OUT_CHANNELS": widths,
        "TIMESTEP_INPUT_DIM": widths[0],
        "TIME_EMBED_DIM": 4 * widths[0],
        "NORM_GROUPS": config["norm_num_groups"],
        "TRANSFORMER_NORM_NUM_GROUPS": config["norm_num_groups"],
    }
    for name, value in known.items():
        if not hasattr(constants, name):
            raise RuntimeError(f"library/original_unet.py of this checkout has no {name}")
        setattr(constants, name, value)


def _pictures(given: Path, folder: Path) -> Path:
    """The pictures as kohya wants them: a folder per number of repeats, a text file beside each."""
    inner = folder / "pictures" / "1_balls"
    inner.mkdir(parents=True)
    with (given / "metadata.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            shutil.copy(given / row["file_name"], inner)
            (inner / row["file_name"]).with_suffix(".txt").write_text(row["text"], encoding="utf-8")
    return inner.parent


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and saves the U-Net's adapter."""
    checkout, folder, base = Path(spec["checkout"]), Path(spec["folder"]), Path(spec["base"])
    script = checkout / "train_network.py"
    if not script.is_file():
        raise FileNotFoundError(f"there is no {script}")
    tokenizers = folder / "tokenizers"  # it would fetch the tokenizer from the hub otherwise
    shutil.copytree(base / "tokenizer", tokenizers / "openai_clip-vit-large-patch14")
    _widths(checkout, base)
    arguments = {
        "pretrained_model_name_or_path": base,
        "tokenizer_cache_dir": tokenizers,
        "train_data_dir": _pictures(Path(spec["pictures"]), folder),
        "caption_extension": ".txt",
        "output_dir": folder / "adapter",
        "output_name": "lora",
        "save_model_as": "safetensors",
        "save_precision": "float",
        "mixed_precision": "no",
        "resolution": f"{spec['resolution']},{spec['resolution']}",
        "train_batch_size": spec["batch_size"],
        "max_train_epochs": spec["epochs"],
        "learning_rate": spec["learning_rate"],
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "optimizer_type": "AdamW",
        "network_module": "networks.lora",
        "network_dim": spec["rank"],
        "network_alpha": spec["alpha"],
        "max_data_loader_n_workers": 0,
        "seed": spec["seed"],
    }
    line = [f"--{key}={value}" for key, value in arguments.items()]
    line += ["--optimizer_args", "weight_decay=0", "--cache_latents", "--sdpa", "--network_train_unet_only"]
    if spec.get("checkpointing"):
        line.append("--gradient_checkpointing")
    return {"steps": peer_script.run(script, line, spec["batch_size"], spec["units"]), "adapter": str(folder / "adapter")}
