# SPDX-License-Identifier: Apache-2.0
"""The header of a WebUI's LoRA file: what kohya's trainer writes, the Stability model spec, and the two hashes."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import time
from collections.abc import Mapping
from typing import Any

from loraforge import Adapter, __version__

from ..families.webui_format import WebuiFormat
from . import lycoris

_REPEATS = re.compile(r"^\d+_")


def metadata(adapter: Adapter, stem: str, webui: WebuiFormat) -> dict[str, str]:
    """All values but the hashes, as text; JSON where readers expect JSON. No clock is read: equal adapters give equal files."""
    facts = adapter.facts
    config, training = facts.get("config", {}), facts.get("training", {})
    side = int(config.get("resolution", 512))
    folders = facts.get("captions", {})
    named = {f"{f['repeats']}_{re.sub(_REPEATS, '', name)}": f for name, f in folders.items()}  # SD.Next wants number_word
    if len(named) < len(folders):  # 3_cat and 5_cat shown equally often
        named = {f"{f['repeats']}_{name}": f for name, f in folders.items()}
    rate = config.get("learning_rate", "")
    values: dict[str, Any] = {
        "ss_output_name": stem,
        "ss_sd_model_name": facts.get("base_title", adapter.base_model),
        "ss_sd_model_hash": facts.get("base_hash") or "",
        "ss_new_sd_model_hash": facts.get("base_sha256") or "",
        "ss_clip_skip": config.get("clip_skip") if int(config.get("clip_skip") or 1) > 1 else "None",
        "ss_network_module": "networks.lora" if adapter.kind == "lora" else "lycoris.kohya",
        "ss_network_dim": adapter.rank,
        "ss_network_alpha": f"{adapter.alpha if adapter.kind == 'lora' else adapter.rank:g}",  # see lycoris
        "ss_network_args": _arguments(adapter),
        "ss_network_dropout": config.get("lora_dropout", "None"),
        "ss_tag_frequency": {name: f["tags"] for name, f in named.items()},
        "ss_dataset_dirs": {name: {"n_repeats": f["repeats"], "img_count": f["pictures"]} for name, f in named.items()},
        "ss_bucket_info": {
            "buckets": {str(i): {"resolution": [w, h], "count": n} for i, (w, h, n) in enumerate(facts.get("buckets", []))},
            "mean_img_ar_error": 0.0,
        },
        "ss_enable_bucket": "True",
        "ss_num_train_images": sum(f["pictures"] * f["repeats"] for f in folders.values()),
        "ss_num_reg_images": 0,
        "ss_resolution": f"({side}, {side})",
        "ss_learning_rate": rate,
        "ss_unet_lr": rate if config.get("train_unet", True) else "None",
        "ss_text_encoder_lr": (config.get("text_encoder_lr") or rate) if config.get("train_text_encoder") else "None",
        "ss_optimizer": _optimizer(config),
        "ss_lr_scheduler": config.get("lr_scheduler", ""),
        "ss_batch_size_per_device": config.get("batch_size", ""),
        "ss_gradient_accumulation_steps": config.get("gradient_accumulation", 1),
        "ss_epoch": round(epochs, 2) if isinstance(epochs := training.get("epochs", ""), float) else epochs,
        "ss_num_epochs": config.get("epochs", ""),
        "ss_steps": training.get("steps", ""),
        "ss_max_train_steps": training.get("steps", ""),
        "ss_seed": config.get("seed", ""),
        **_objective(config, facts),
        "ss_caption_dropout_rate": config.get("caption_dropout", 0.0),
        "ss_shuffle_caption": config.get("caption_shuffle", False),
        "ss_keep_tokens": config.get("keep_tokens", 0),
        "ss_caption_tag_dropout_rate": config.get("tag_dropout", 0.0),
        "ss_max_token_length": _more_than_one_window(facts.get("image", {}).get("max_caption_tokens")),
        "ss_flip_aug": config.get("flip", False),
        "ss_prior_loss_weight": config.get("prior_loss_weight", 1.0),
        "ss_training_comment": f"LoRAForge {__version__}",
    }
    values |= _specification(adapter, stem, side)
    values |= webui.header(str(facts.get("prediction_type")))
    if facts.get("started"):  # readers take a missing date, but not one that is no number
        values["ss_training_started_at"] = float(facts["started"])
    texts = {k: json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else str(v) for k, v in values.items()}
    return {k: v for k, v in texts.items() if v != "" or k.startswith("ss_")}


def _more_than_one_window(tokens: Any) -> Any:
    """sd-scripts' ``max_token_length``: None for one window of 75."""
    return tokens if isinstance(tokens, int) and tokens > 75 else "None"


def _objective(config: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What was minimised, in sd-scripts' words: what was not used is None or False there."""
    huber = config.get("loss_type", "l2") != "l2"
    iterations = config.get("multires_noise_iterations")
    flow = str(facts.get("prediction_type")) == "flow"
    return {
        "ss_noise_offset": config.get("noise_offset") or "None",
        "ss_min_snr_gamma": config.get("min_snr_gamma") or "None",
        "ss_multires_noise_iterations": iterations or "None",
        "ss_multires_noise_discount": config.get("multires_noise_discount", 0.3) if iterations else "None",
        "ss_ip_noise_gamma": config.get("ip_noise_gamma") or "None",
        "ss_debiased_estimation": config.get("debiased_estimation", False),
        "ss_zero_terminal_snr": facts.get("image", {}).get("zero_terminal_snr") is True,
        "ss_loss_type": config.get("loss_type", "l2"),
        "ss_huber_schedule": (config.get("huber_schedule") or ("constant" if flow else "snr")) if huber else "None",
        "ss_huber_c": config.get("huber_c", 0.1) if huber else "None",
    }


def _optimizer(config: Mapping[str, Any]) -> str:
    """``prodigy(decouple=True,d_coef=2)``, as sd-scripts writes it."""
    arguments = ",".join(config.get("optimizer_args") or ())
    return f"{config.get('optimizer', '')}({arguments})" if arguments else str(config.get("optimizer", ""))


def _arguments(adapter: Adapter) -> dict[str, str]:
    """What kohya's ``--network_args`` would have been; ranks of parts stand there as ``block_ranks`` has them."""
    blocks = adapter.facts.get("config", {}).get("block_ranks") or []
    # Without block_ranks the layers of another rank are the 3x3 convolutions.
    conv = [int(adapter.facts.get("config", {}).get("conv_rank") or 0)] if blocks else sorted(set(adapter.ranks.values()))
    scale = adapter.alpha / adapter.rank
    said = {"conv_dim": str(conv[0]), "conv_alpha": f"{conv[0] * scale:g}"} if conv and conv[0] else {}
    said |= {"block_ranks": ", ".join(map(str, blocks))} if blocks else {}
    return said if adapter.kind == "lora" else {**lycoris.arguments(adapter), **said}


def _specification(adapter: Adapter, stem: str, side: int) -> dict[str, Any]:
    """Stability's model specification, version 1.0.1."""
    config = adapter.facts.get("config", {})
    words = ", ".join(adapter.facts.get("trigger_words", []))
    started = adapter.facts.get("started")
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": stem,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(started))) if started else "",
        "modelspec.trigger_phrase": words,
        "modelspec.tags": words,
        "modelspec.author": config.get("author", ""),
        "modelspec.license": config.get("model_license", ""),
        "modelspec.description": config.get("notes", ""),
        "modelspec.encoder_layer": config.get("clip_skip") if int(config.get("clip_skip") or 1) > 1 else "",
    }


def serialise(tensors: Mapping[str, Any], values: Mapping[str, str]) -> bytes:
    """The file's bytes, with both hashes in its metadata.

    ``sshs_model_hash`` covers the bytes after the header. ``sshs_legacy_hash`` covers 64 KiB from 1 MiB on, of a file whose metadata are
    the ``ss_*`` values alone; a smaller file hashes nothing.
    """
    import safetensors.torch

    plain = safetensors.torch.save(dict(tensors))
    body: bytes = plain[8 + struct.unpack("<Q", plain[:8])[0] :]
    legacy = safetensors.torch.save(dict(tensors), {k: v for k, v in values.items() if k.startswith("ss_")})
    hashes = {
        "sshs_model_hash": hashlib.sha256(body).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(legacy[0x100000:0x110000]).hexdigest()[:8],
    }
    entries = json.loads(plain[8 : len(plain) - len(body)])
    entries.pop("__metadata__", None)
    # safetensors writes metadata in random order; sorted, equal runs give equal headers. A1111 wants the JSON to begin with {".
    header = json.dumps({"__metadata__": dict(sorted({**values, **hashes}.items())), **entries}, ensure_ascii=False, separators=(",", ":"))
    raw = header.encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + body
