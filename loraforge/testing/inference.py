# SPDX-License-Identifier: Apache-2.0
"""What is done with a trained model afterwards: its adapter is taken off, written, opened on a fresh base, asked, and trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..config.schema import KeySet
from ..errors import ExportError, RunError
from ..plugin_api.components import ModelFamily
from ..plugin_api.types import Adapter, File, Record, Span
from .guards import equal, without_output
from .learning import make_loop, measured
from .trainable import Loaded, load, near

Same: TypeAlias = "Callable[[str | File, str | File], bool]"

# Far beyond what anybody uses: even an adapter that has hardly learned anything must show in an answer.
_STRENGTHS = (1.0, 30.0, 1000.0)


def take_off(
    family: ModelFamily, loaded: Loaded, rows: Sequence[tuple[Record, Sequence[Span]]], template: Mapping[str, Any], folder: Path
) -> Adapter:
    """The adapter as a run takes it off, written into ``folder`` and read back.

    Args:
        template: what the template's ``describe`` returns.

    Raises:
        AssertionError: if facts or files are not what travels with an adapter, or the file would not do what was trained.
    """
    from ..adapters import lora

    trainable = loaded.trainable
    with without_output("facts, files and golden"):
        facts, files = trainable.facts(), {**trainable.files(), **trainable.golden(rows, template)}
    try:
        json.dumps(dict(facts), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"facts must be plain JSON values: {error}") from None
    for name, content in files.items():
        plain = isinstance(name, str) and name not in ("", "..", ".") and Path(name).name == name
        assert plain and isinstance(content, bytes), f"files and golden must return bytes by a name without a folder; not {name!r}"
    there = family.base_files(loaded.config)
    base = os.path.commonpath([file.parent for file in there]) if there else None
    task = {"task": family.task, "family": family.name, "peft_task_type": family.peft_task_type, "template": dict(template)}
    adapter = trainable.lora.adapter(base, {"name": "checked", **task, **facts}, files)
    try:
        lora.write_peft(adapter, folder)
    except ExportError as error:
        raise AssertionError(f"the adapter that is taken off must do what the model does: {error}") from None
    return lora.read_peft(folder)


def check_continuing(
    family: ModelFamily, loaded: Loaded, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]], folder: Path, wanted: float
) -> None:
    """``init_from_adapter`` takes up the adapter in ``folder``, and that of a run. DoRA and PiSSA cannot be continued.

    Args:
        folder: the adapter's, which lies in its run as ``adapter``.
        wanted: the held-out loss of the model that the adapter was taken off.

    Raises:
        AssertionError: if the model that starts from it has another loss.
    """
    if loaded.config.lora_variant not in ("lora", "rslora"):
        return
    for place, what in ((folder, "an adapter's folder"), (folder.parent, "a run's folder")):
        config = loaded.config.model_copy(update={"init_from_adapter": str(place)})
        try:
            loss = measured(make_loop(load(family, config, keys, rows), 1))
        except RunError as error:
            raise AssertionError(f"load must start from init_from_adapter, {what} too: {error}") from None
        assert near(loss, wanted), (
            f"load must start from init_from_adapter, here {what}: the loss that was trained is {wanted:.6g}, and it starts with {loss:.6g}"
        )


def check_answers(
    family: ModelFamily, loaded: Loaded, adapter: Adapter, prompts: Sequence[str], settings: Mapping[str, Any], same: Same
) -> None:
    """The base answers with its adapters and without: each can be switched on, off, and to a strength.

    Args:
        settings: values of the task's ``sampling``.
        same: whether two answers are alike.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    import torch

    with without_output("open"):
        model = family.open(loaded.config, {"first": adapter, "second": adapter}, torch.device("cpu"))
    assert callable(getattr(model, "generate", None)), "open must return an InferenceModel: an object with generate"

    def ask(which: str | Mapping[str, float] | None) -> list[str | File]:
        with without_output("generate"):
            answers = list(model.generate(prompts, which, **settings))
        fit = len(answers) == len(prompts) and all(isinstance(answer, str | File) for answer in answers)
        assert fit, f"generate must return one text or loraforge.File for each of {len(prompts)} prompts, not {answers!r:.200}"
        return answers

    def alike(one: Sequence[str | File], other: Sequence[str | File]) -> bool:
        return all(same(a, b) for a, b in zip(one, other, strict=True))

    base, trained = ask(None), ask("first")
    assert alike(base, ask(None)), "generate must answer the same to the same prompt, and None must switch every adapter off"
    if getattr(model, "batch_size", 1) > 1:
        alone = [model.generate([prompt], "first", **settings)[0] for prompt in prompts]
        assert alike(trained, alone), "a model with batch_size must answer each prompt of a batch as if it stood alone"
    assert alike(trained, ask({"first": 1.0})), "an adapter's name must mean the adapter with strength 1"
    assert alike(trained, ask("second")), "the same adapter under another name must answer the same"
    assert any(not alike(base, ask({"first": strength})) for strength in _STRENGTHS), (
        "an adapter must act on the answers, the more the higher its strength: they are the base's at any strength"
    )
    assert alike(base, ask({"first": 0.0})), "with strength 0 an adapter must do nothing: the answers are not the base's"
    ask({"first": 0.5, "second": 0.5})
    assert alike(base, ask(None)), "None must switch every adapter off again"
    for strength in (0.0, *_STRENGTHS[1:]):
        ask({"first": strength})
        assert alike(trained, ask("first")), "a strength must hold for one call: afterwards the adapter's name means strength 1 again"


def same_answer(one: str | File, other: str | File) -> bool:
    """Whether two answers are equal: the text, or the bytes of the file."""
    return equal(one, other)
