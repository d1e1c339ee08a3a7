# SPDX-License-Identifier: Apache-2.0
"""The common judge of picture adapters: mean squared error of the predicted noise, on the same pictures with the same noise for all.

``python -m benchmarks.picturescoring SPEC RESULT``, where SPEC names base, pictures, resolution, alpha, rank and ``adapters`` (name ->
folder). The adapters come under the names of four programs (PEFT's, LoRAForge's, diffusers', kohya's). Each is added to the weights of one
U-Net, so that nobody's own code for mounting it plays a part. Nobody trained on this noise.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .measuring import environment

LEVELS = (100, 300, 500, 700, 900)  # of 1000 steps of the noise schedule
_ENDS = {
    "down": (".lora_A.weight", ".lora_A.default.weight", ".lora_down.weight", ".lora.down.weight", ".lora_linear_layer.down.weight"),
    "up": (".lora_B.weight", ".lora_B.default.weight", ".lora_up.weight", ".lora.up.weight", ".lora_linear_layer.up.weight"),
    "alpha": (".alpha",),
}


def parts_of(tensors: Mapping[str, Any], modules: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``down``, ``up`` and perhaps ``alpha`` by the U-Net's own name of the module.

    Raises:
        ValueError: if a tensor belongs nowhere.
    """
    flat = {name.replace(".", "_"): name for name in modules}
    found: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        what, end = next(((what, end) for what, ends in _ENDS.items() for end in ends if key.endswith(end)), ("", ""))
        if not what:
            raise ValueError(f"{key} is no part of a LoRA")
        name = key.removesuffix(end).removeprefix("base_model.model.").removeprefix("unet.")
        name = name if name in modules else flat.get(name.removeprefix("lora_unet_"), "")
        if not name:
            raise ValueError(f"{key} belongs to no module of the U-Net")
        found.setdefault(name, {})[what] = tensor
    return found


@contextmanager
def mounted(unet: Any, folder: Path, scale: float) -> Iterator[None]:
    """The adapter added to the U-Net's weights, for a while."""
    import torch
    from safetensors.torch import load_file

    modules = {name: module for name, module in unet.named_modules() if hasattr(module, "weight")}
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(f"{folder} holds {len(files)} adapters")
    kept = {}
    try:
        with torch.no_grad():
            for name, part in parts_of(load_file(str(files[0])), modules).items():
                weight, down, up = modules[name].weight, part["down"].float(), part["up"].float()
                factor = float(part["alpha"]) / down.shape[0] if "alpha" in part else scale
                added = (factor * up.flatten(1) @ down.flatten(1)).view_as(weight)
                kept[name] = weight.detach().clone()
                weight += added
        yield
    finally:
        with torch.no_grad():
            for name, before in kept.items():
                modules[name].weight.copy_(before)


def losses(spec: Mapping[str, Any]) -> dict[str, float]:
    """The loss of each adapter, and of the base itself as ``base``."""
    import torch
    from diffusers import DDPMScheduler

    from .contenders.plain_diffusers import Encoders, pixels

    folder, side = Path(spec["pictures"]), spec["resolution"]
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    encoders = Encoders(spec["base"], "cpu", torch.float32)
    unet, vae = encoders.pipe.unet.eval(), encoders.pipe.vae
    noises = DDPMScheduler.from_config(encoders.pipe.scheduler.config)
    generator = torch.Generator().manual_seed(20_240_601)
    times = torch.tensor(LEVELS)
    given = []
    with torch.inference_mode():
        for row in rows:
            mean = vae.encode(pixels(folder / row["file_name"], side)[None]).latent_dist.mean * vae.config.scaling_factor
            latents = mean.expand(len(LEVELS), -1, -1, -1)
            noise = torch.randn(latents.shape, generator=generator)
            listened = encoders.listened([row["text"]] * len(LEVELS), side)
            given.append((noises.add_noise(latents, noise, times), noise, listened))

    def loss() -> float:
        with torch.inference_mode():
            errors = [float(torch.nn.functional.mse_loss(unet(noisy, times, **more).sample, noise)) for noisy, noise, more in given]
        return sum(errors) / len(errors)

    found = {"base": loss()}
    for name, adapter in spec["adapters"].items():
        try:
            with mounted(unet, Path(adapter), spec["alpha"] / spec["rank"]):
                found[name] = loss()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            sys.stderr.write(f"{name}: its adapter cannot be judged: {error}\n")
    return found


def score(spec: Mapping[str, Any], adapters: Mapping[str, str], folder: Path) -> dict[str, float]:
    """``losses`` in a fresh process; empty if that fails."""
    given, wanted = folder / "scoring.json", folder / "losses.json"
    wanted.unlink(missing_ok=True)
    shared = {key: spec[key] for key in ("base", "pictures", "resolution", "alpha", "rank")}
    given.write_text(json.dumps({**shared, "adapters": dict(adapters)}), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.picturescoring", str(given), str(wanted)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    sys.stderr.writelines(f"{line}\n" for line in done.stderr.splitlines() if "cannot be judged" in line)
    if done.returncode:
        sys.stderr.write(f"scoring failed: {done.stderr[-2000:]}\n")
        return {}
    found: dict[str, float] = json.loads(wanted.read_text(encoding="utf-8"))
    return found


def main(given: str, wanted: str) -> None:
    """The process."""
    Path(wanted).write_text(json.dumps(losses(json.loads(Path(given).read_text(encoding="utf-8")))), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
