# SPDX-License-Identifier: Apache-2.0
"""A plain diffusers + PEFT loop, which encodes every picture and caption in every step, as diffusers' own script does. SD1.5 and SDXL."""

from __future__ import annotations

import csv
import random
import time
from pathlib import Path
from typing import Any


def pixels(path: Path, side: int) -> Any:
    """(3, side, side) from -1 to 1."""
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB").resize((side, side)), dtype="float32") / 127.5 - 1.0
    return torch.from_numpy(values).permute(2, 0, 1)


class Encoders:
    """The frozen parts: pictures to latents, captions to what the U-Net listens to."""

    def __init__(self, base: str, device: str, dtype: Any) -> None:
        from diffusers import DiffusionPipeline

        self.pipe = DiffusionPipeline.from_pretrained(base, torch_dtype=dtype).to(device)
        self.xl = hasattr(self.pipe, "text_encoder_2")
        self.device, self.dtype = device, dtype
        for part in self.pipe.components.values():
            if hasattr(part, "requires_grad_"):
                part.requires_grad_(False)

    def latents(self, pixels: Any) -> Any:
        """Sampled latents of pictures."""
        vae = self.pipe.vae
        return vae.encode(pixels.to(self.device, self.dtype)).latent_dist.sample() * vae.config.scaling_factor

    def listened(self, captions: list[str], side: int) -> dict[str, Any]:
        """What the U-Net gets of the captions."""
        import torch

        if not self.xl:
            return {"encoder_hidden_states": self.pipe.encode_prompt(captions, self.device, 1, False)[0]}
        hidden, _, pooled, _ = self.pipe.encode_prompt(captions, device=self.device, do_classifier_free_guidance=False)
        times = torch.tensor([[side, side, 0, 0, side, side]] * len(captions), device=self.device, dtype=self.dtype)
        return {"encoder_hidden_states": hidden, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": times}}


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and saves the U-Net's adapter."""
    import torch
    from diffusers import DDPMScheduler
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    from .hf import synchronize

    device, side, dtype = spec.get("device", "cpu"), spec["resolution"], getattr(torch, spec.get("dtype", "float32"))
    data = Path(spec["pictures"])
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = [(data / row["file_name"], row["text"]) for row in csv.DictReader(file)]
    torch.manual_seed(spec["seed"])
    encoders = Encoders(spec["base"], device, dtype)
    unet = encoders.pipe.unet
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    init = (
        True if spec.get("init") == "peft" else "gaussian"
    )  # the script's; its A is some three times as large, and so are the first steps
    unet.add_adapter(LoraConfig(r=spec["rank"], lora_alpha=spec["alpha"], init_lora_weights=init, target_modules=targets))
    if spec.get("checkpointing"):
        unet.enable_gradient_checkpointing()
    unet.train()
    trained = [p for p in unet.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trained, lr=spec["learning_rate"], weight_decay=0.0)
    noises = DDPMScheduler.from_config(encoders.pipe.scheduler.config)
    rng = random.Random(spec["seed"])
    steps: list[tuple[float, int]] = []
    for _ in range(spec["epochs"]):
        order = rng.sample(rows, len(rows))
        for batch in (order[i : i + spec["batch_size"]] for i in range(0, len(order), spec["batch_size"])):
            with torch.no_grad():
                latents = encoders.latents(torch.stack([pixels(path, side) for path, _ in batch]))
                listened = encoders.listened([text for _, text in batch], side)
            noise = torch.randn_like(latents)
            moments = torch.randint(0, noises.config.num_train_timesteps, (len(batch),), device=device)
            with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
                said = unet(noises.add_noise(latents, noise, moments), moments, **listened).sample
            torch.nn.functional.mse_loss(said.float(), noise.float()).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            synchronize()
            steps.append((time.time(), (steps[-1][1] if steps else 0) + len(batch)))
    adapter = Path(spec["folder"]) / "adapter"
    adapter.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in get_peft_model_state_dict(unet).items()}, str(adapter / "adapter_model.safetensors"))
    return {"steps": steps, "adapter": str(adapter)}
