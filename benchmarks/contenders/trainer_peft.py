# SPDX-License-Identifier: Apache-2.0
"""transformers' Trainer with PEFT, written as PEFT's documentation writes it: pad to the longest of the batch, -100 on prompt and pads."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and saves the adapter."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    from benchmarks.workload import labelled, read_rows

    from .hf import StepClock, arguments, lora_config

    tokenizer = AutoTokenizer.from_pretrained(spec["base"])
    model = AutoModelForCausalLM.from_pretrained(spec["base"], dtype=getattr(torch, spec.get("dtype", "float32")))
    torch.manual_seed(spec["seed"])
    if spec.get("checkpointing"):
        model.enable_input_require_grads()
    model = get_peft_model(model, lora_config(spec))
    clock = StepClock()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments(spec)),
        train_dataset=labelled(read_rows(spec["rows"])["train"]),
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
        callbacks=[clock],
    )
    trainer.train()
    adapter = Path(spec["folder"]) / "adapter"
    model.save_pretrained(adapter)
    return {"steps": clock.steps, "adapter": str(adapter)}
