# SPDX-License-Identifier: Apache-2.0
"""A stranger's model family: Stable Diffusion 3 and 3.5, a flow-matching transformer, behind the seam for image models."""

from __future__ import annotations

from loraforge_image.families import FlowMatching, ImageBase, ImageFamily, WebuiTable

from loraforge import hookimpl

_BLOCK, _ORIGINAL = "transformer_blocks.{i}", "joint_blocks.{i}"


class StableDiffusion3Base(ImageBase):
    """Latents of 16 channels; two CLIPs and T5 for captions."""

    layers = r"^transformer_blocks\.\d+\.(attn2?|ff|ff_context)\."

    def make_objective(self):
        # Trained without a shift, drawn with the one of the base's scheduler.
        return FlowMatching(self.pipe.scheduler, shift=1.0)

    def embed(self, caption):
        context, _, pooled, _ = self.pipe.encode_prompt(caption, caption, caption, device=self.device, do_classifier_free_guidance=False)
        return {"context": context[0].to(self.dtype), "pooled": pooled[0].to(self.dtype)}

    def predict(self, noisy, levels, conditioning, extras):
        return self.denoiser(
            noisy.to(self.dtype),
            encoder_hidden_states=conditioning["context"],
            pooled_projections=conditioning["pooled"],
            timestep=levels * 1000,
        ).sample


class StableDiffusion3(ImageFamily):
    name = "sd3"
    help = "Stable Diffusion 3 and 3.5: a diffusers folder or a hub id."
    pipeline = "StableDiffusion3Pipeline"
    base = StableDiffusion3Base
    webui = WebuiTable(
        architecture="stable-diffusion-v3-medium/lora",
        base_version="sd3",
        card="SD3",
        fused={
            f"{_ORIGINAL}.x_block.attn.qkv": [f"{_BLOCK}.attn.to_{one}" for one in "qkv"],
            f"{_ORIGINAL}.x_block.attn2.qkv": [f"{_BLOCK}.attn2.to_{one}" for one in "qkv"],
            f"{_ORIGINAL}.context_block.attn.qkv": [f"{_BLOCK}.attn.add_{one}_proj" for one in "qkv"],
        },
        plain={
            f"{_ORIGINAL}.x_block.attn.proj": f"{_BLOCK}.attn.to_out.0",
            f"{_ORIGINAL}.x_block.attn2.proj": f"{_BLOCK}.attn2.to_out.0",
            f"{_ORIGINAL}.context_block.attn.proj": f"{_BLOCK}.attn.to_add_out",
            f"{_ORIGINAL}.x_block.mlp.fc1": f"{_BLOCK}.ff.net.0.proj",
            f"{_ORIGINAL}.x_block.mlp.fc2": f"{_BLOCK}.ff.net.2",
            f"{_ORIGINAL}.context_block.mlp.fc1": f"{_BLOCK}.ff_context.net.0.proj",
            f"{_ORIGINAL}.context_block.mlp.fc2": f"{_BLOCK}.ff_context.net.2",
        },
    )


@hookimpl
def loraforge_model_families():
    return [StableDiffusion3()]
