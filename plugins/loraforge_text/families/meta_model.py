# SPDX-License-Identifier: Apache-2.0
"""Whether a base can be loaded as its folder says, told before it is: by its configuration and the headers of its weights.

transformers itself decides, with a model on torch's meta device that has shapes and no numbers. That takes seconds for the imports alone,
so that it happens in a process of its own while the rows are looked at, and not at all where names and shapes are, to the last tensor,
those of a plain decoder that ``memory`` knows.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import ConfigError, LoraForgeError, ModelError, RunConfig, apply_block_ranks

from ..base_files import BaseFiles, read_base
from . import memory
from .stored_weights import shapes, stored_as

# What the shapes cannot show: values that transformers looks up in tables of its own.
_ACTIVATIONS = frozenset({"silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu"})
_POSITIONS = frozenset({"default", "linear", "dynamic", "yarn", "longrope", "llama3"})
_SECONDS = 600.0  # for libraries from a slow disk
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']; from loraforge_text.families.meta_model import main; main()"


@contextlib.contextmanager
def looked_ahead(base: BaseFiles, config: RunConfig) -> Iterator[None]:
    """Finds out, while the body runs, whether ``train`` could load this base and put a LoRA where ``lora_target`` says. What cannot be told
    without the numbers of the weights is left to ``train``.

    Raises:
        ModelError, ConfigError: after the body, with what ``train`` would stop at.
    """
    there, shape = shapes(base.folder), memory.read(base.config)
    if shape is not None and _plain(base.config, shape) and (there is None or _same(there, shape)):
        yield
        memory.adapted(shape, config)
    elif _torch_is_here():  # then another process would save nothing
        yield
        _raise(refusals(base.folder, config.lora_target, config.block_ranks))
    else:
        with _Child(base.folder, config.lora_target, config.block_ranks) as child:
            yield
            _raise(child.answer())


def _torch_is_here() -> bool:
    return "torch" in sys.modules


def _plain(config: Mapping[str, Any], shape: memory.Decoder) -> bool:
    """Whether a configuration says nothing that transformers might stumble over, beside the sizes."""
    numbers = (shape.hidden, shape.layers, shape.inner, shape.heads, shape.kv, shape.vocab)
    written = [value for name, value in config.items() if name.startswith(("num_", "n_")) or name.endswith("_size")]
    activations = [config[name] for name in ("hidden_act", "hidden_activation", "activation_function") if config.get(name) is not None]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, Mapping))] if isinstance(rope, Mapping) else [{"type": rope}]
    kinds = [part.get("rope_type", part.get("type", "default")) for part in parts]
    return (
        all(number > 0 for number in numbers)
        and shape.hidden % shape.heads == 0
        and all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in written)
        and all(isinstance(value, str) and value in _ACTIVATIONS for value in activations)
        and all(isinstance(value, str) and value in _POSITIONS for value in kinds)
    )


def _same(there: Mapping[str, tuple[int, ...]], shape: memory.Decoder) -> bool:
    """Whether the weights are those of a plain decoder, and a head at most that is the embedding once more."""
    wanted = shape.tensors()
    left = {name: size for name, size in there.items() if name not in wanted and not name.endswith(".rotary_emb.inv_freq")}
    head = {"lm_head.weight": (shape.vocab, shape.hidden)}
    return all(there.get(name) == size for name, size in wanted.items()) and (not left or left == head)


def refusals(folder: Path, target: str | Sequence[str], block_ranks: Sequence[str] = ()) -> dict[str, list[str]]:
    """All that ``train`` would stop at: ``model`` what is wrong with the base, ``config`` what with ``lora_target`` and ``block_ranks``."""
    from . import loading

    tensors = None if stored_as(read_base(folder).config) else shapes(folder)
    try:
        model = loading.outline(folder, tensors)
        if model is not None and (target != "all-linear" or block_ranks):
            from . import reach

            apply_block_ranks(dict.fromkeys(reach.named_layers(model, target), 1), block_ranks)
    except ConfigError as error:
        return {"config": list(error.problems)}
    except ModelError as error:
        return {"model": list(error.problems)}
    return {}


class _Child:
    """The process that asks transformers. It is ended with the body, whether or not its answer was waited for."""

    def __init__(self, folder: Path, target: str | Sequence[str], block_ranks: Sequence[str]) -> None:
        asked = {"folder": str(folder), "target": target, "block_ranks": list(block_ranks), "path": sys.path}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(asked)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
        )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self) -> dict[str, list[str]]:
        """What ``refusals`` returned there; nothing where it could not."""
        try:
            out, _ = self._process.communicate(timeout=_SECONDS)
            found: dict[str, list[str]] = json.loads(out.splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError):
            return {}
        return found


def _raise(found: Mapping[str, Sequence[str]]) -> None:
    kinds: Mapping[str, type[LoraForgeError]] = {"model": ModelError, "config": ConfigError}
    for kind, lines in found.items():
        raise kinds[kind](lines)


def main() -> None:
    """``refusals`` for what the first argument says, as a line of JSON."""
    asked = json.loads(sys.argv[1])
    print(json.dumps(refusals(Path(asked["folder"]), asked["target"], asked["block_ranks"])))
