# SPDX-License-Identifier: Apache-2.0
"""``check_model_family``: all that a run asks of a family, from recognising its base to the answers of what was trained."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.schema import KeySet, RunConfig
from ..device import quiet_libraries
from ..plugin_api.components import ModelFamily
from ..plugin_api.models import Examination, MemoryEstimate
from ..plugin_api.types import Adapter, Record, Span, prompt_of
from . import inference, learning, trainable
from .checks import check_component
from .guards import equal, without_output, without_torch
from .inference import Same, same_answer

Rows = Sequence[tuple[Record, Sequence[Span]]]


def check_model_family(
    family: ModelFamily,
    config: RunConfig,
    keys: KeySet,
    rows: Rows,
    *,
    stranger: str = "no-such-base",
    prompts: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    template: Mapping[str, Any] | None = None,
    steps: int = 10,
    same: Same = same_answer,
) -> Adapter:
    """It recognises its base and examines rows without torch; its trainable model keeps what the loop relies on, and learns; its adapter
    can be taken off, opened, switched and trained on. On the CPU, in float32 and without dropout, where two ways to add up agree.

    Args:
        config: names a base of this family, as small as there is, and a ``learning_rate`` that suits it.
        keys: what ``load`` and ``examine`` read of it.
        rows: three or more sound records with their rendered text, of different lengths or sizes: equal ones would hide a wrong weight.
        stranger: a ``base_model`` that is not this family's.
        prompts: what is asked; by default what the first two rows ask, or their text if all of it is learned.
        settings: values of the task's ``sampling``, for short answers: ``{"max_tokens": 8}``.
        template: what the template's ``describe`` returned, for families with ``golden``.
        steps: how many steps must lower the loss.
        same: whether two answers are alike; for files that note how they were made, which are never equal byte for byte.

    Returns:
        the adapter of these steps, for the checks of exporters.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    check_component(family)
    assert len(rows) >= 3, "check_model_family needs three rows or more, to cut a step in several ways"
    exact = {"precision": "fp32", "lora_dropout": 0.0, "init_from_adapter": None}
    config = config.model_copy(update=exact)
    keys = keys.replaced(config)
    _check_recognition(family, config, stranger)
    _check_examination(family, config, keys, rows)
    quiet_libraries()
    loaded = trainable.load(family, config, keys, rows)
    trainable.check_start(loaded, trainable.load(family, config, keys, rows))
    trainable.check_batches(loaded)
    trainable.check_loss(loaded)
    trainable.check_fresh(loaded)
    loop = learning.make_loop(loaded, steps)
    before = learning.check_held_out(loaded, loop)
    after = learning.check_learning(loaded, loop, before)
    learning.check_cut_steps(loaded, loop)  # after some steps: at the start half of the gradients are zero
    with tempfile.TemporaryDirectory() as place:
        learning.check_sample(loaded, loop, Path(place) / "samples")
        adapter = inference.take_off(family, loaded, rows, template or {}, Path(place) / "adapter")
        inference.check_continuing(family, loaded, keys, rows, Path(place) / "adapter", after)
    asked = [prompt_of(spans) or "".join(span.text for span in spans) for _, spans in rows[:2]] if prompts is None else list(prompts)
    inference.check_answers(family, loaded, adapter, asked, settings or {}, same)
    return adapter


def _check_recognition(family: ModelFamily, config: RunConfig, stranger: str) -> None:
    """A family knows its bases, and leaves those of others alone."""
    with without_torch("matches"), without_output("matches"):
        mine, theirs = family.matches(config.base_model), family.matches(stranger)
    assert mine is True, f"matches must be True for its own base, '{config.base_model}'; it is {mine!r}"
    assert theirs is False, f"matches must be False for a base of somebody else's, '{stranger}'; it is {theirs!r}"
    with without_torch("describe_base and typical_ranges"):
        texts = [family.describe_base(base) for base in (config.base_model, stranger)]
        ranges = dict(family.typical_ranges(config.base_model))
    assert all(isinstance(text, str) for text in texts), "describe_base must return a text; an empty one where there is nothing to say"
    for key, usual in ranges.items():
        assert len(usual) == 2 and usual[0] <= usual[1], f"typical_ranges must return (low, high) for each key; '{key}' has {usual!r}"
    files = list(family.base_files(config))
    missing = [file for file in files if not (isinstance(file, Path) and file.is_file())]
    assert not missing, f"base_files must be files that are there: {missing[:3]}"
    assert family.peft_task_type is None or isinstance(family.peft_task_type, str), "peft_task_type must be a text or None"


def _check_examination(family: ModelFamily, config: RunConfig, keys: KeySet, rows: Rows) -> None:
    """Rows are examined before anything is loaded."""
    before = [record.content_hash() for record, _ in rows]
    with without_torch("examine"), without_output("examine"):
        found, again = (family.examine(config, keys, list(rows)) for _ in range(2))
        try:
            bare = family.examine(config, keys, [*rows, (rows[0][0], ())])
        except Exception as error:
            raise AssertionError(f"examine must bear a row without text, which its template could not render: {error!r}") from error
    for one in (found, again, bare):
        assert isinstance(one, Examination), f"examine must return a loraforge.Examination, not {type(one).__name__}"
    outside = [index for index in found.problems if not (isinstance(index, int) and 0 <= index < len(rows))]
    assert not outside, f"the problems of an examination must be numbered as the rows are, 0 to {len(rows) - 1}; found {outside[:3]}"
    assert not found.problems, f"examine must find nothing wrong with rows that are sound: {dict(found.problems)}"
    assert equal(dict(found.facts), dict(again.facts)), "examine must say the same of the same rows each time"
    assert len(found.shown) in (0, len(rows)), f"'shown' must hold every row of an examination or none: {len(found.shown)} of {len(rows)}"
    assert before == [record.content_hash() for record, _ in rows], "examine must leave the rows as they are"
    with without_torch("estimate_memory"), without_output("estimate_memory"):
        needs = family.estimate_memory(config, keys, {**found.facts, "rows": len(rows)}, "cpu")
    assert needs is None or isinstance(needs, MemoryEstimate), "estimate_memory must return a loraforge.MemoryEstimate, or None"
    if needs is not None:
        counts = (needs.trainable, needs.weights, needs.activations, needs.transient, needs.flops)
        assert all(count >= 0 for count in counts), f"estimate_memory must return no negative numbers: {counts}"
