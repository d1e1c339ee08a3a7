# SPDX-License-Identifier: Apache-2.0
"""What the trainers built on transformers share: a clock on the steps, rows as they take them. Runs in peers' interpreters too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class StepClock(TrainerCallback):
    """Notes when each step ended and how many tokens without padding had been used by then.

    The tokens are counted where batches are made, in their order; batches that are fetched ahead count when their step comes.
    """

    def __init__(self, batches_per_step: int = 1) -> None:
        self.steps: list[tuple[float, int]] = []
        self._batches: list[int] = []
        self._per_step = batches_per_step

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **more: Any) -> None:
        """Puts the counter around the collator."""
        # It follows the collator's own cleaning: what the trainer removes from the rows is removed before.
        loader = getattr(train_dataloader, "base_dataloader", train_dataloader)  # accelerate's loader asks the one that it wraps
        loader.collate_fn = self._counting(loader.collate_fn)

    def _counting(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(rows: Any) -> Any:
            batch = collate(rows)
            mask = batch.get("attention_mask")
            # A mask in four dimensions says nothing of padding; flattened batches have no mask and no padding.
            self._batches.append(int(mask.sum()) if mask is not None and mask.dim() == 2 else int(batch["input_ids"].numel()))
            return batch

        return counted

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """One optimizer step is over."""
        self.steps.append((time.time(), sum(self._batches[: state.global_step * self._per_step])))

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """On a GPU the last step counts when it is done, not when it is queued."""
        synchronize()
        if self.steps:
            self.steps[-1] = (time.time(), self.steps[-1][1])


def lora_config(spec: dict[str, Any]) -> Any:
    """The same adapter for all."""
    from peft import LoraConfig

    return LoraConfig(
        r=spec["rank"],
        lora_alpha=spec["alpha"],
        lora_dropout=spec.get("dropout", 0.0),
        target_modules=list(spec["targets"]),
        bias="none",
        task_type="CAUSAL_LM",
    )


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """What all contenders train with, by the names of ``TrainingArguments``."""
    return {
        "output_dir": f"{spec['folder']}/trainer",
        "per_device_train_batch_size": spec["batch_size"],
        "num_train_epochs": spec["epochs"],
        "learning_rate": spec["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": spec["seed"],
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": spec.get("dtype") == "bfloat16",
        "fp16": False,
        "use_cpu": spec.get("device", "cpu") == "cpu",
        "gradient_checkpointing": bool(spec.get("checkpointing")),
        "disable_tqdm": True,
    }


def synchronize() -> None:
    """Waits for a GPU, if there is one: what was only queued is not done yet."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
