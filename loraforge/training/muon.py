# SPDX-License-Identifier: Apache-2.0
"""torch's Muon for matrices, with AdamW for what is none: the convolutions of LoCon, the magnitudes of DoRA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..messages import speaker

if TYPE_CHECKING:
    import torch

say = speaker(__name__)


def make_muon(parameters: Sequence[Any], lr: float, weight_decay: float, adjust_lr_fn: str | None, **given: Any) -> torch.optim.Optimizer:
    """Muon over parameters or groups of them; what is no matrix has AdamW at the same rate.

    One rate suits both where Muon's steps have the size of AdamW's (``adjust_lr_fn: match_rms_adamw``, Liu et al. 2025).

    Raises:
        ConfigError: if something is no matrix and the steps have another size, or this torch has no Muon.
    """
    import torch

    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise ImportError("torch.optim.Muon")
    groups = [dict(group) if isinstance(group, dict) else {"params": [group]} for group in parameters]
    matrices = [kept for group in groups if (kept := {**group, "params": [p for p in group["params"] if p.ndim == 2]})["params"]]
    others = [kept for group in groups if (kept := {**group, "params": [p for p in group["params"] if p.ndim != 2]})["params"]]
    made = [muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn=adjust_lr_fn, **given)] if matrices else []
    if not others:
        return made[0]  # type: ignore[no-any-return]
    if adjust_lr_fn != "match_rms_adamw":
        raise ConfigError(
            say(
                "optimizer_args: adjust_lr_fn={value} wants a far higher learning_rate than AdamW, which {n} parameters have that are no "
                "matrices (convolutions, DoRA's magnitudes). Leave it out.",
                value=adjust_lr_fn,
                n=sum(len(group["params"]) for group in others),
            )
        )
    return joined([*made, torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay)], lr)


def joined(parts: Sequence[torch.optim.Optimizer], lr: float) -> torch.optim.Optimizer:
    """Several optimizers as one, each over groups of its own."""
    import torch

    class Joined(torch.optim.Optimizer):
        def __init__(self) -> None:
            groups = [{**group, "part": number} for number, part in enumerate(parts) for group in part.param_groups]
            super().__init__(groups, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for number, part in enumerate(parts):
                # Whoever loads a state, or sets a rate, does so in the groups of the whole, and may have exchanged them.
                part.param_groups = [group for group in self.param_groups if group["part"] == number]
                part.state = self.state
                part.step()

    return Joined()
