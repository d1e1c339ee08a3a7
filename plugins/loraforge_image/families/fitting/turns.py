# SPDX-License-Identifier: Apache-2.0
"""Text encoders and denoiser take turns on a card that has no room for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_RESERVE = 2e9  # bytes for what is computed


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a card; None where weights and results lie in the same memory."""
    import torch

    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def held(modules: Iterable[Any]) -> int:
    """Bytes that modules take on a card: not what stays in main memory."""
    total = 0
    for module in modules:
        total += sum(value.nbytes for value in (*module.parameters(), *module.buffers()))
        total += sum(layer.stored.nbytes for layer in module.modules() if hasattr(layer, "stored") and not layer.stored.at_home)
    return total


def bring(wanted: Iterable[Any], others: Iterable[Any], device: torch.device) -> bool:
    """Brings modules to a device; ``others`` leave it if there is no room for both.

    Returns:
        whether they had to leave.
    """
    wanted, others = list(wanted), list(others)
    missing = [module for module in wanted if any(value.device != device for value in module.parameters())]
    free = free_memory(device)
    leave = bool(missing) and free is not None and held(missing) + _RESERVE > free
    for module in others if leave else ():
        module.to("cpu")
    for module in wanted:
        module.to(device)
    return leave
