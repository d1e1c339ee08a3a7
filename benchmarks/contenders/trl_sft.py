# SPDX-License-Identifier: Apache-2.0
"""TRL's SFTTrainer in fp32, without its checkpointing unless asked; ``padding_free`` and ``packing`` as options of the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and saves the adapter."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from benchmarks.workload import read_rows

    from .hf import StepClock, arguments, lora_config

    rows = read_rows(spec["rows"])["train"]
    longest = max(len(row["ids"]) for row in rows)
    settings = {**arguments(spec), "completion_only_loss": True, "max_length": longest, "dataset_num_proc": None}
    if spec.get("padding_free"):
        settings |= {"padding_free": True, "max_length": None}
    if spec.get("packing"):
        # One pack holds about as many tokens as a batch, so that an epoch has about as many steps.
        tokens = sum(len(row["ids"]) for row in rows) / len(rows) * spec["batch_size"]
        settings |= {"packing": True, "max_length": max(longest, round(tokens * 1.08)), "per_device_train_batch_size": 1}
    if spec.get("liger"):
        settings["use_liger_kernel"] = True
    more = {"attn_implementation": spec["attention"]} if spec.get("attention") else {}
    torch.manual_seed(spec["seed"])
    clock = StepClock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(spec["base"], dtype=getattr(torch, spec.get("dtype", "float32")), **more),
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_list([{"input_ids": row["ids"], "completion_mask": row["learned"]} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(spec["base"]),
        peft_config=lora_config(spec),
        callbacks=[clock],
    )
    trainer.train()
    adapter = Path(spec["folder"]) / "adapter"
    trainer.model.save_pretrained(adapter)
    return {"steps": clock.steps, "adapter": str(adapter)}
