# SPDX-License-Identifier: Apache-2.0
"""Qwen-Image (20 B) and Qwen-Image-2512: picture and caption in a stream of their own each, a caption read by Qwen2.5-VL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...lora_files.tables import QWEN_IMAGE
from ..image_base import Conditioning, ImageBase
from ..objectives import FlowMatching
from .family import TransformerFamily
from .memory import Walk
from .single_file import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SHIFT = 2.2  # of the training, for a scheduler whose shift does not follow the size
_TIME = 256  # numbers that describe the level of noise
_FEW, _MANY, _LOW, _HIGH = 256, 8192, 0.5, 0.9  # tokens and the logarithms of their shifts, where the scheduler does not say


def _sigmas(steps: int) -> list[float]:
    """The levels that QwenImagePipeline draws through, before the scheduler shifts them: evenly from 1 to 1 / steps."""
    return [1 - number * (1 - 1 / steps) / max(1, steps - 1) for number in range(steps)]


class QwenImageBase(ImageBase):
    """Latents of 16 channels by an autoencoder of videos, here of one frame; captions of up to 1024 tokens, padded with a mask."""

    usual_steps, usual_cfg = 50, 4.0
    layers = r"^transformer_blocks\.\d+\.(attn|img_mlp|txt_mlp)\."

    def make_objective(self) -> FlowMatching:
        if self.pipe.scheduler.config.get("use_dynamic_shifting"):
            return FlowMatching(self.pipe.scheduler, mu=self._mu, sigmas=_sigmas)
        return FlowMatching(self.pipe.scheduler, shift=_SHIFT, sigmas=_sigmas)

    def _mu(self, tokens: int) -> float:
        config = self.pipe.scheduler.config
        few, many = config.get("base_image_seq_len", _FEW), config.get("max_image_seq_len", _MANY)
        low, high = config.get("base_shift", _LOW), config.get("max_shift", _HIGH)
        return float(low + (high - low) * (tokens - few) / (many - few))

    # --- latents -----------------------------------------------------------------------------------------------------------------

    def _scale(self, device: Any) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents' channels, (1, channels, 1, 1)."""
        import torch

        config = self.pipe.vae.config
        mean, deviation = (torch.tensor(list(one)).view(1, -1, 1, 1).to(device) for one in (config.latents_mean, config.latents_std))
        return mean, deviation

    def encode(self, pixels: Tensor) -> Tensor:
        import torch

        vae = self.pipe.vae
        posterior = vae.encode(pixels.to(vae.device).unsqueeze(2)).latent_dist
        mean, deviation = self._scale(vae.device)
        found = torch.cat([(posterior.mean.squeeze(2) - mean) / deviation, posterior.std.squeeze(2) / deviation])
        return found.float().cpu()

    def decode(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        mean, deviation = self._scale(vae.device)
        scaled = latents.to(vae.device) * deviation + mean
        pixels: Tensor = vae.decode(scaled.unsqueeze(2)).sample[:, :, 0]
        return pixels

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        return (int(self.pipe.vae.config.z_dim), height // self.vae_scale, width // self.vae_scale)

    def forget_encoders(self) -> None:
        import torch

        super().forget_encoders()
        self.pipe.vae.encoder = torch.nn.Identity()  # it counts the layers of both sides whenever it decodes

    # --- conditioning ------------------------------------------------------------------------------------------------------------

    def embed(self, caption: str) -> Conditioning:
        rows, _ = self.pipe.encode_prompt(caption, device=self.device)
        return {"context": rows[0].to(self.dtype)}

    def join(self, rows: Sequence[Conditioning]) -> Conditioning:
        """Padded with zeros at the end, which ``mask`` hides."""
        import torch

        contexts = [row["context"] for row in rows]
        longest = max(len(one) for one in contexts)
        padded = [torch.cat([one, one.new_zeros(longest - len(one), *one.shape[1:])]) for one in contexts]
        mask = [torch.arange(longest, device=one.device) < len(one) for one in contexts]
        return {"context": torch.stack(padded), "mask": torch.stack(mask)}

    # --- denoiser ----------------------------------------------------------------------------------------------------------------

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        rows, _, height, width = noisy.shape
        network: Any = self.denoiser
        mask = conditioning["mask"]
        guess = network(
            hidden_states=packed(noisy.to(self.dtype)),
            timestep=levels,
            encoder_hidden_states=conditioning["context"].to(self.dtype),
            encoder_hidden_states_mask=None if bool(mask.all()) else mask,
            img_shapes=[[(1, height // 2, width // 2)]] * rows,
        ).sample
        return unpacked(guess, height, width)

    def guide(self, without: Tensor, guess: Tensor, cfg: float) -> Tensor:
        """Guidance that leaves every token as long as it was with the prompt."""
        height, width = guess.shape[-2:]
        moved, straight = packed(super().guide(without, guess, cfg)), packed(guess)
        return unpacked(moved * (straight.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)), height, width)


def packed(latents: torch.Tensor) -> torch.Tensor:
    """(rows, channels, height, width) -> (rows, tokens, 4 * channels): a token is 2 x 2 places."""
    rows, channels, height, width = latents.shape
    cut = latents.reshape(rows, channels, height // 2, 2, width // 2, 2)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(rows, height * width // 4, channels * 4)


def unpacked(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(rows, tokens, 4 * channels) -> (rows, channels, height, width)."""
    rows, _, numbers = tokens.shape
    cut = tokens.reshape(rows, height // 2, width // 2, numbers // 4, 2, 2)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(rows, numbers // 4, height, width)


class QwenImage(TransformerFamily):
    """Qwen-Image, as it draws from a caption alone."""

    name = "qwen-image"
    title = "Qwen-Image"
    help = "Qwen-Image and Qwen-Image-2512: a diffusers folder, a hub id, or the transformer as a .safetensors file with base_config."
    pipeline = "QwenImagePipeline"
    transformer = "QwenImageTransformer2DModel"
    source = "Qwen/Qwen-Image"
    base = QwenImageBase
    webui = QWEN_IMAGE
    # Published under diffusers' names by all. Layered has another embedding of time, and Edit-2511 a marker in ComfyUI's files.
    layouts = (
        Layout(
            ("transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.attn.add_q_proj.weight", "txt_norm.weight"),
            ("time_text_embed.addition_t_embedding.weight", "__index_timestep_zero__"),
        ),
    )
    text_tokens = (5, 1024)

    def walk(self, config: Mapping[str, Any], walk: Walk) -> None:
        heads, head = int(config["num_attention_heads"]), int(config["attention_head_dim"])
        wide, joint, image, text = heads * head, int(config["joint_attention_dim"]), walk.image, walk.text
        walk.linear("time_text_embed.timestep_embedder.linear_1", _TIME, wide, 1)
        walk.linear("time_text_embed.timestep_embedder.linear_2", wide, wide, 1)
        walk.own(joint)
        walk.linear("img_in", int(config["in_channels"]), wide, image)
        walk.linear("txt_in", joint, wide, text)
        for number in range(int(config["num_layers"])):
            walk.enter(f"transformer_blocks.{number}", wide * (image + text))
            for kind, tokens, names in (
                ("img", image, ("to_q", "to_k", "to_v", "to_out.0")),
                ("txt", text, ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
            ):
                walk.linear(f"{kind}_mod.1", wide, 6 * wide, 1)
                for name in names:
                    walk.linear(f"attn.{name}", wide, wide, tokens)
                walk.linear(f"{kind}_mlp.net.0.proj", wide, 4 * wide, tokens)
                walk.linear(f"{kind}_mlp.net.2", 4 * wide, wide, tokens)
            walk.own(4 * head)
            walk.attention(image + text, wide)
            # Two norms and those of query and key; query, key, value and result of the attention; the activation.
            walk.keep((2 + 2 + 4 + 4) * wide * (image + text))
        walk.enter("", 0)
        walk.linear("norm_out.linear", wide, 2 * wide, 1)
        walk.linear("proj_out", wide, 4 * int(config.get("out_channels") or config["in_channels"]), image)
        walk.keep(2 * wide * image)
