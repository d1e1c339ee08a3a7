# SPDX-License-Identifier: Apache-2.0
"""Which backend computes, and what it needs to begin."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, command, speaker

from ..backends import Backend

if TYPE_CHECKING:
    from ..catalogue.source import Source
    from ..versions import Version

say = speaker(__name__)


def make_backend(source: Source, options: Mapping[str, Any], first: Sequence[Version] = ()) -> Backend:
    """The backend that the options mean, with the base loaded.

    Args:
        first: the versions that will be added first.

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
    if wanted == "gguf":
        return _gguf(source, options["gguf"], [version for version in first if version.chat is not None])
    if wanted == "vllm":
        return _vllm(source, options["vllm_url"], [version for version in first if version.chat is not None])
    return _torch(source, int(options["batch"]))


def _vllm(source: Source, url: str | None, first: Sequence[Version]) -> Backend:
    from ..backends.vllm import VllmBackend, start

    assert source.base is not None
    if url:
        return VllmBackend(url, os.environ.get("VLLM_API_KEY"))
    return start(source.base.name, [version.folder for version in first])


def _gguf(source: Source, file: Path | None, first: Sequence[Version]) -> Backend:
    from ..backends.gguf import GgufBackend

    base = source.base
    assert base is not None
    if file is None and Path(base.name).suffix.lower() == ".gguf":
        file = Path(base.name)  # what the adapters were trained on
    if file is None:
        raise ConfigError(
            say(
                "--backend gguf needs the base as a GGUF file: --gguf base.gguf. Make one with llama.cpp: {line}",
                line=command("python", "convert_hf_to_gguf.py", base.name, "--outfile", "base.gguf"),
            )
        )
    return GgufBackend(file, base.family.chat_format(base.name, base.revision, None).longest, source.converter("gguf"), first)


def _torch(source: Source, most: int) -> Backend:
    import torch

    from ..backends.torch_backend import TorchBackend

    base = source.base
    assert base is not None
    device = torch.device(torch.accelerator.current_accelerator() or "cpu") if torch.accelerator.is_available() else torch.device("cpu")
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    precision = "4bit" if base.precision == "4bit" and device.type == "cuda" else "bf16" if half else "fp32"
    network = base.family.network(base.name, base.revision, precision, device)
    return TorchBackend(network, base.family.chat_format(base.name, base.revision, None), most)
