# SPDX-License-Identifier: Apache-2.0
"""What other trainers call the optimizers and schedules that there are here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# sd-scripts and lora-scripts, transformers, axolotl, OneTrainer, ai-toolkit; and the paths of the classes, which several of them take.
_OPTIMIZERS: Mapping[str, str] = {
    "adamw": "AdamW adamw_torch adamw_torch_fused adamw_hf adamw_apex_fused torch.optim.AdamW",
    "adamw_8bit": "AdamW8bit adamw_bnb_8bit bnb_adamw_8bit bitsandbytes.optim.AdamW8bit",
    "adafactor": "AdaFactor transformers.optimization.Adafactor transformers.Adafactor",
    "prodigy": "Prodigy prodigyopt.Prodigy prodigyopt.prodigy.Prodigy",
    "schedule_free": "AdamWScheduleFree schedule_free_adamw adamw_schedule_free schedulefree.AdamWScheduleFree",
    "lion": "Lion lion_32bit lion_pytorch.Lion",
    "came": "CAME came_pytorch came_pytorch.CAME",
    "muon": "Muon torch.optim.Muon",
}
OPTIMIZER_NAMES: dict[str, Any] = {theirs: ours for ours, names in _OPTIMIZERS.items() for theirs in names.split()}

SCHEDULES: dict[str, Any] = {
    "cosine_with_hard_restarts": "cosine_with_restarts",
    "wsd": "warmup_stable_decay",
}
