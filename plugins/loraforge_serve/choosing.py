"""Which backend computes, and what it needs to begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, speaker

from .backends import Backend

if TYPE_CHECKING:
    from .catalogue.source import Source

say = speaker(__name__)


def make_backend(source: Source, options: Mapping[str, Any]) -> Backend:
    """The backend that the options mean, with the base loaded.

    Raises:
        LoraForgeError: if it cannot be had.
    """
    wanted = str(options["backend"])
    if wanted == "auto":
        wanted = "gguf" if options["gguf"] is not None else "vllm" if options["vllm_url"] else "torch"
    odd = [flag for flag, of in (("gguf", "gguf"), ("vllm_url", "vllm")) if options[flag] and wanted != of]
    if odd:
        names = ", ".join("--" + flag.replace("_", "-") for flag in odd)
        raise ConfigError(say("{names} means nothing to the backend {backend}.", names=names, backend=wanted))
    return _torch(source, int(options["batch"]))


def _torch(source: Source, most: int) -> Backend:
    import torch

    from .backends.torch_backend import TorchBackend

    base = source.base
    assert base is not None
    device = torch.device(torch.accelerator.current_accelerator() or "cpu") if torch.accelerator.is_available() else torch.device("cpu")
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    precision = "4bit" if base.precision == "4bit" and device.type == "cuda" else "bf16" if half else "fp32"
    network = base.family.network(base.name, base.revision, precision, device)
    return TorchBackend(network, base.family.chat_format(base.name, base.revision, None), most)
