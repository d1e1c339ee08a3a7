# SPDX-License-Identifier: Apache-2.0
"""The plain loop that the goals were set by: length bands, the head on learned positions only, fused AdamW. Not a product."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def batches(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Rows of like length together, the batches in random order."""
    rows = sorted(range(len(lengths)), key=lambda i: (lengths[i], rng.random()))
    made = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    rng.shuffle(made)
    return made


def loss_of(decoder: Any, head: Any, rows: Sequence[dict[str, list[int]]]) -> Any:
    """Mean cross entropy of the learned tokens. Padding stands on the right, where a causal model's real tokens cannot see it."""
    import torch

    longest = max(len(row["ids"]) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    learned = torch.zeros((len(rows), longest), dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row["ids"])] = torch.tensor(row["ids"])
        learned[number, : len(row["ids"])] = torch.tensor(row["learned"], dtype=torch.bool)
    learned[:, 0] = False
    hidden = decoder(input_ids=ids, use_cache=False).last_hidden_state
    return torch.nn.functional.cross_entropy(head(hidden[:, :-1][learned[:, 1:]]), ids[:, 1:][learned[:, 1:]])


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and saves the adapter."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from benchmarks.workload import read_rows

    from .hf import lora_config

    rows = read_rows(spec["rows"])["train"]
    base = AutoModelForCausalLM.from_pretrained(spec["base"], dtype=torch.float32)
    if spec.get("checkpointing"):
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(spec["seed"])
    model = get_peft_model(base, lora_config(spec))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=spec["learning_rate"], weight_decay=0.0, fused=True)
    rng = random.Random(spec["seed"])
    steps: list[tuple[float, int]] = []
    tokens = 0
    for _ in range(spec["epochs"]):
        for batch in batches([len(row["ids"]) for row in rows], spec["batch_size"], rng):
            chosen = [rows[i] for i in batch]
            loss_of(base.model, base.lm_head, chosen).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += sum(len(row["ids"]) for row in chosen)
            steps.append((time.time(), tokens))
    adapter = Path(spec["folder"]) / "adapter"
    model.save_pretrained(adapter)
    return {"steps": steps, "adapter": str(adapter)}
