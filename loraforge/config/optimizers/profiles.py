# SPDX-License-Identifier: Apache-2.0
"""The optimizers that a config may name, each with what a config has to know of it. Neither torch nor a package is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...messages import speaker

say = speaker(__name__)

ADAMW_RATE = 2e-4  # where a language model of some billion parameters begins; the factors below are of this


@dataclass(frozen=True)
class Profile:
    """One optimizer.

    Attributes:
        package: the module that must be importable.
        file: where in it the class is written.
        kind: the class.
        install: what pip is asked for.
        rates: its usual learning rates, as factors of AdamW's lowest and highest.
        start: the rate to begin with, as a factor of AdamW's; None where the optimizer finds the rate itself and is given 1.
        bytes: what it keeps of one trained number.
        bytes_by_rank: what it keeps of a matrix's rows and columns, for one number, times the rank.
        averages: whether what is measured and saved is another point than the one that is trained at.
        defaults: values of keys that suit it, where nothing is said of them.
        fixed: arguments that it is given here, unless others are asked for.
    """

    package: str
    file: str
    kind: str
    install: str = "'loraforge[optimizers]'"
    rates: tuple[float, float] = (1.0, 1.0)
    start: float | None = 1.0
    bytes: float = 8.0
    bytes_by_rank: float = 0.0
    averages: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finds_rate(self) -> bool:
        """Whether the optimizer finds the rate itself: ``learning_rate`` is a factor of what it finds, and 1."""
        return self.start is None

    def folder(self) -> Path | None:
        """Where the package lies; None if it is not installed. The package itself is not imported."""
        try:
            found = importlib.util.find_spec(self.package)
        except (ImportError, ValueError):
            return None
        places = list(found.submodule_search_locations or ()) if found is not None else []
        return Path(places[0]) if places else None

    def state_bytes(self, rank: int) -> float:
        """Bytes that are kept of one trained number of a LoRA of this rank."""
        return self.bytes + self.bytes_by_rank / rank


PROFILES: Mapping[str, Profile] = {
    "adamw": Profile("torch", "optim/adamw.py", "AdamW"),
    "adamw_8bit": Profile("bitsandbytes", "optim/adamw.py", "AdamW8bit", install="'loraforge[quantization]'", bytes=2),
    "adafactor": Profile(
        "transformers",
        "optimization.py",
        "Adafactor",
        bytes=0,
        bytes_by_rank=4,
        fixed={"scale_parameter": False, "relative_step": False, "warmup_init": False},
    ),
    # The start of Prodigy's every number, its two averages, and the sum that the rate is found by.
    "prodigy": Profile("prodigyopt", "prodigy.py", "Prodigy", start=None, bytes=16, defaults={"learning_rate": 1.0, "warmup": 0.0}),
    "schedule_free": Profile(
        "schedulefree", "adamw_schedulefree.py", "AdamWScheduleFree", rates=(1.0, 3.0), averages=True, defaults={"lr_scheduler": "constant"}
    ),
    "lion": Profile("lion_pytorch", "lion_pytorch.py", "Lion", rates=(0.1, 1 / 3), start=0.25, bytes=4),
    "came": Profile("came_pytorch", "CAME.py", "CAME", rates=(0.03, 0.5), start=0.5, bytes=4, bytes_by_rank=8),
    # Orthogonal steps scaled to the size of AdamW's: one rate suits matrices and what is none, and what is known of rates holds.
    "muon": Profile("torch", "optim/_muon.py", "Muon", install="-U torch", bytes=4, fixed={"adjust_lr_fn": "match_rms_adamw"}),
}


def defaults(optimizer: object) -> dict[str, Any]:
    """The values of other keys that suit an optimizer, for those of which a config says nothing."""
    profile = PROFILES.get(optimizer) if isinstance(optimizer, str) else None
    if profile is None:
        return {}
    rate = {} if profile.start in (None, 1.0) else {"learning_rate": ADAMW_RATE * (profile.start or 1.0)}
    return {**rate, **profile.defaults}


def usual_rates(optimizer: str, adamw: tuple[float, float]) -> tuple[float, float]:
    """The range of learning rates that usually works.

    Args:
        adamw: the range for AdamW on the same base.
    """
    profile = PROFILES[optimizer]
    if profile.finds_rate:
        return 1.0, 1.0
    low, high = (float(f"{rate * factor:.2g}") for rate, factor in zip(adamw, profile.rates, strict=True))
    return (low, high) if profile.rates != (1.0, 1.0) else adamw


def missing(optimizer: str) -> str:
    """What to install for an optimizer whose package, or whose class in it, is not there; empty if all is."""
    profile = PROFILES[optimizer]
    folder = profile.folder()
    if folder is None:
        return say(
            "optimizer: {optimizer} needs the package {package}: pip install {install}",
            optimizer=optimizer,
            package=profile.package,
            install=profile.install,
        )
    if optimizer == "muon" and not (folder / profile.file).is_file():
        return say("optimizer: muon needs torch 2.9 or newer: pip install {install}", install=profile.install)
    return ""
