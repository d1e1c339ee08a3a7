# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory through ``run_exp``, which is what ``llamafactory-cli train file.yaml`` calls; its defaults, checkpointing among them.

The rows come as its own ``tokenized_path``, so that it trains on the very same ids; in fp32, as its default bf16 is far slower on a CPU.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any


def hide_broken() -> None:
    """Takes packages away that are there and cannot be imported: transformers imports whatever it finds, and text needs neither.

    The wheels of torchvision and torchaudio on the package index are for CUDA and fail beside a torch for the CPU.
    """
    for package in ("torchvision", "torchaudio"):
        try:
            importlib.import_module(package)
        except ImportError:
            continue
        except (RuntimeError, OSError):
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                del sys.modules[name]
            empty = types.ModuleType(package)
            empty.__spec__ = importlib.machinery.ModuleSpec(package, None)
            # LLaMA-Factory imports torchaudio itself, for sounds; an empty module is enough for that.
            sys.modules[package] = None if package == "torchvision" else empty  # type: ignore[assignment]


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and saves the adapter."""
    hide_broken()
    from datasets import Dataset, DatasetDict
    from llamafactory.train.tuner import run_exp

    from benchmarks.workload import labelled, read_rows

    from .hf import StepClock, arguments

    folder = Path(spec["folder"])
    DatasetDict({"train": Dataset.from_list(labelled(read_rows(spec["rows"])["train"]))}).save_to_disk(str(folder / "tokenized"))
    shared = arguments(spec)
    settings = {key: value for key, value in shared.items() if key not in ("gradient_checkpointing", "disable_tqdm", "output_dir")}
    settings |= {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": spec["base"],
        "finetuning_type": "lora",
        "lora_rank": spec["rank"],
        "lora_alpha": spec["alpha"],
        "lora_dropout": spec.get("dropout", 0.0),
        "lora_target": ",".join(spec["targets"]),
        "template": "empty",
        "dataset": "rows",  # must be named; what is read is the next line
        "tokenized_path": str(folder / "tokenized"),
        "output_dir": str(folder / "adapter"),
        "overwrite_output_dir": True,
        "disable_gradient_checkpointing": not spec.get("checkpointing", True),
    }
    clock = StepClock()
    run_exp(settings, [clock])
    return {"steps": clock.steps, "adapter": str(folder / "adapter")}
