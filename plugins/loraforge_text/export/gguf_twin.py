# SPDX-License-Identifier: Apache-2.0
"""Whether llama.cpp computes with a base's settings what transformers does.

llama.cpp takes much for granted that config.json can say otherwise: the activation, which layers see a window only, by what attention is
divided. So a small model with the base's own settings, as many layers and random weights is written in the same way as the base, and both
are asked for the next token.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Adapter, ExportError, speaker

from .folder import Served
from .gguf_model import GgufModel
from .gguf_proof import running
from .gguf_vocabulary import NORMAL, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

_TOKENS = 97
_PROMPTS = ([5, 9, 20, 33, 47, 12, 60, 3, 81, 40, 7, 7, 66, 28, 90, 15], [50])
# In log-probability. What is the same differs by 0.002 at most (llama.cpp looks GELU up in a table); a wrong activation by 0.1 and more.
_NEAR = 0.02


def prove_layers(of: Served) -> None:
    """
    Raises:
        ExportError: if llama.cpp would compute something else.
    """
    import torch

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = _twin(of.folder)
        model.save_pretrained(folder)
        base = dataclasses.replace(of.base, folder=folder, config=model.config.to_dict(), tokens={})
        adapter = Adapter(tensors={}, rank=1, alpha=1, targets=(), probes={}, base_model=str(folder))
        tokens = [f"<{number}>" for number in range(_TOKENS)]
        vocabulary = Vocabulary("gpt2", "gpt-2", tokens, [NORMAL] * _TOKENS, {}, merges=["\u0120 \u0120"])
        twin = dataclasses.replace(of, folder=folder, base=base, stop="", stop_ids=())
        GgufModel.make(twin, adapter, "f32").write(folder / "twin.gguf", vocabulary)
        with running(folder / "twin.gguf") as asked:
            for prompt in _PROMPTS:
                told = asked.next_token(prompt, _TOKENS)
                with torch.no_grad():
                    wanted = model(torch.tensor([prompt])).logits[0, -1].float().log_softmax(-1)
                _compare(told, wanted)


def _compare(told: Mapping[int, float], wanted: Tensor) -> None:
    apart = max((abs(value - float(wanted[token])) for token, value in told.items()), default=float("inf"))
    if not apart <= _NEAR:
        raise ExportError(
            say(
                "llama.cpp computes something else than transformers with the settings in the base's config.json: a small model with them "
                "gets log-probabilities that are {apart:.2f} apart. Use `export: [merged]` with a program that runs transformers' models.",
                apart=apart,
            )
        )


def _twin(folder: Path) -> Any:
    """A model with the base's settings, but narrow and of few tokens; random weights that let every part have its say."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    heads = int(config.num_attention_heads)
    same = int(getattr(config, "num_key_value_heads", None) or heads) == heads
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 2 if same else 1, "hidden_size": 2 * (int(config.hidden_size) // heads)}
    tokens = {"vocab_size": _TOKENS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {**config.to_dict(), **sizes, **tokens, "intermediate_size": 96}
    narrow = type(config)(**{key: value for key, value in settings.items() if key not in ("model_type", "dtype", "torch_dtype")})
    model = AutoModelForCausalLM.from_config(narrow, dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.data += 0.2 * noise
        else:
            parameter.data = noise * parameter.shape[-1] ** -0.5
    return model
