# SPDX-License-Identifier: Apache-2.0
"""The machine a run is on: its device and precision, its processes, and the manners of the libraries that we call."""

from __future__ import annotations

import importlib.metadata
import os
import re
from typing import TYPE_CHECKING

from .config.optimizers.profiles import missing
from .config.schema import RunConfig
from .errors import ConfigError
from .messages import speaker

if TYPE_CHECKING:
    from accelerate import Accelerator

say = speaker(__name__)

_EIGHT_BIT_ON_CPUS = (0, 48)  # bitsandbytes' first version with its optimizers for CPUs


def quiet_libraries() -> None:
    """No telemetry and no advertising of the libraries that we call; what they warn of, we say ourselves."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")  # the command line has done so already; a program that calls us has not
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import logging

    import transformers

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports kernels that it cannot download
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def is_main_process() -> bool:
    """Whether this process speaks and writes: the only one, or the first of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def make_accelerator(config: RunConfig) -> tuple[Accelerator, RunConfig]:
    """The accelerator, and the config with ``precision: auto`` decided for its device."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(True)  # a second run in one process may want another precision
    # Without this, accelerate starts several processes on the CPU as if each were alone.
    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or not torch.accelerator.is_available()
    device = PartialState(cpu=cpu).device
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16", "fp8": "bf16", "4bit": "bf16"}[precision]
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError(say("precision: fp16 needs a GPU; on the CPU use fp32 (or auto)."))
    return Accelerator(mixed_precision=mixed, cpu=cpu), config.model_copy(update={"precision": precision})


def require_optimizer(config: RunConfig, device: str) -> None:
    """The optimizer can train on this device.

    Args:
        device: its type, like ``cpu``.

    Raises:
        ConfigError: with what to install.
    """
    if problem := missing(config.optimizer):
        raise ConfigError(problem)
    if config.optimizer == "adamw_8bit" and device == "cpu":
        have = importlib.metadata.version("bitsandbytes")
        if tuple(int(part) for part in re.findall(r"\d+", have)[:2]) < _EIGHT_BIT_ON_CPUS:
            raise ConfigError(
                say(
                    "optimizer: adamw_8bit needs bitsandbytes 0.48 or newer on a CPU; this is {have}: pip install -U bitsandbytes",
                    have=have,
                )
            )


def device_name(accelerator: Accelerator) -> str:
    """The device as people call it, with the threads of a CPU: ``CPU, 2 threads``."""
    import torch

    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    several = f" x {accelerator.num_processes}" if accelerator.num_processes > 1 else ""
    return f"{name}{threads}{several}"
