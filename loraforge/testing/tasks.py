# SPDX-License-Identifier: Apache-2.0
"""``check_task``: a task and the functions in it, tried on its own records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.schema import Keys, RunConfig
from ..config.yaml_reader import read
from ..plugin_api.host import PluginHost
from ..plugin_api.start import ConfigLine
from ..plugin_api.task import ChoiceQuestion, Task
from ..plugin_api.types import Answer, Fingerprint, Record
from .environment import host_with
from .guards import without_output, without_torch

_QUESTION = "What is the notice period?"


def check_task(task: Task[Any], records: Sequence[Record] = (), *, plugins: Iterable[object] = ()) -> None:
    """It has a name, help and keys, and components that carry its name; it shows, asks, fingerprints and judges its records.

    Args:
        records: some of its records, with answers, as its loader makes them.
        plugins: the modules with its loader, template, family and exporters, if they are not installed.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    assert isinstance(task, Task), f"a task must be a loraforge.Task, not {type(task).__name__}"
    _check_words(task)
    _check_keys(task.keys, "keys")
    _check_keys(task.sampling.settings, "sampling.settings")
    _check_components(task, host_with(plugins))
    _check_start(task)
    with without_torch("a task"), without_output("a task"):
        _check_asking(task)
        for record in records:
            _check_record(task, record)
    if records:
        _check_evaluation(task, records)


def _check_words(task: Task[Any]) -> None:
    """Whatever people read or write of a task."""
    for attribute in ("name", "help", "unit", "items"):
        value = getattr(task, attribute)
        assert isinstance(value, str) and value, f"a task needs a text '{attribute}'"
    assert not task.name.startswith("-") and len(task.name.split()) == 1, (
        f"a task's name must be one word for the command line: '{task.name}'"
    )
    for attribute in ("exporters", "aliases", "cautions"):
        value = getattr(task, attribute)
        fit = isinstance(value, tuple) and all(isinstance(one, str) and one for one in value)
        assert fit, f"'{attribute}' of a task must be a tuple of texts, not {value!r}"
    fit = isinstance(task.record, type) and issubclass(task.record, Record) and dataclasses.is_dataclass(task.record)
    assert fit, "'record' of a task must be a frozen dataclass that derives from loraforge.Record"
    assert task.record.__dataclass_params__.frozen, "'record' of a task must be a frozen dataclass: nobody changes a row"


def _check_keys(owner: type[Keys], what: str) -> None:
    """YAML keys, or settings of ``sample``: each described, none the core's, and all with a default."""
    assert isinstance(owner, type) and issubclass(owner, Keys), f"'{what}' of a task must be a class that derives from loraforge.Keys"
    for key, info in owner.model_fields.items():
        assert info.description, f"'{what}' of a task: '{key}' has no description"
        assert what != "keys" or key not in RunConfig.model_fields, f"'{what}' of a task: '{key}' belongs to the core"
        assert what == "keys" or not info.is_required(), f"'{what}' of a task: '{key}' needs a default, because nobody has to give it"
    if what != "keys":
        from ..cli.sampling import sample

        taken = {str(option.name) for option in sample.params} & owner.model_fields.keys()
        assert not taken, f"'{what}' of a task: {', '.join(sorted(taken))} is an option of `loraforge sample` already"


def _check_start(task: Task[Any]) -> None:
    """How somebody begins: lines that a config can hold, examples that are there and name their data, programs with marks."""
    start = task.start
    lines = list(start.lines(start.base))
    assert all(isinstance(line, ConfigLine) for line in lines), f"'start.lines' of a task must return loraforge.ConfigLine, not {lines!r}"
    keys = [line.key for line in lines]
    assert len(set(keys)) == len(keys), "'start.lines' of a task says a key twice"
    for name, path in start.examples().items():
        assert isinstance(path, Path) and path.is_file(), f"'start.examples' of a task: '{name}' must be the path of a config: {path}"
        assert "train_data_dir" in read(path).values, f"'start.examples' of a task: '{name}' names no train_data_dir"
    for trainer in start.trainers:
        assert trainer.name and trainer.marks, "each of 'start.trainers' of a task needs a name, and marks by which its configs are known"


def _check_components(task: Task[Any], host: PluginHost) -> None:
    """What a run of the task uses by default is there."""
    wanted = {"loraforge_data_loaders": (task.loader,), "loraforge_templates": (task.template,), "loraforge_exporters": task.exporters}
    for hook, names in wanted.items():
        there = host.components(hook, task.name)
        missing = [name for name in names if name not in there]
        assert not missing, f"a task needs what its runs use: {hook} returns no '{missing[0]}' for the task '{task.name}'"
    assert host.components("loraforge_model_families", task.name), f"a task needs a model family: none is for the task '{task.name}'"


def _check_asking(task: Task[Any]) -> None:
    """A bare question becomes a record and is shown as what was asked."""
    asked = task.sampling.ask(_QUESTION)
    assert isinstance(asked, task.record), f"sampling.ask must make a {task.record.__name__}, not {type(asked).__name__}"
    shown = task.question(asked)
    assert isinstance(shown, str) and _QUESTION in shown, f"'question' must show what was asked: of '{_QUESTION}' it makes {shown!r}"


def _check_record(task: Task[Any], record: Record) -> None:
    """One row: shown, hashed, told from others."""
    assert isinstance(record, task.record), f"{record.where}: the task's records are {task.record.__name__}, not {type(record).__name__}"
    for name in ("question", "answer"):
        assert isinstance(getattr(task, name)(record), str), f"{record.where}: '{name}' must return a text"
    try:
        json.dumps(record.content(), default=None)
    except TypeError as error:
        raise AssertionError(f"{record.where}: the content of a record must be plain values that JSON can hold: {error}") from None
    moved = dataclasses.replace(record, where="somewhere else")
    assert moved == record and moved.content_hash() == record.content_hash(), (
        f"{record.where}: a record must not change with the place where it stands: the split would"
    )
    if task.fingerprint is None:
        return
    made, again = task.fingerprint(record), task.fingerprint(moved)
    assert isinstance(made, Fingerprint), f"{record.where}: fingerprint must return a loraforge.Fingerprint, not {type(made).__name__}"
    assert isinstance(made.key, str) and made.key, f"{record.where}: the key of a fingerprint must be a text"
    assert isinstance(made.features, frozenset), f"{record.where}: the features of a fingerprint must be a frozenset"
    assert made == again, f"{record.where}: fingerprint must follow from what the record asks, and from nothing else"


def _check_evaluation(task: Task[Any], records: Sequence[Record]) -> None:
    """How answers are judged, if they are."""
    judged = task.evaluation
    measures: set[str] = set()
    for record in records:
        measures |= _check_judge(task, record)
    assert not judged.headline or judged.headline in measures, (
        f"the headline '{judged.headline}' must be a measure of judge: {sorted(measures)}"
    )
    assert not judged.truth or measures & set(judged.truth), (
        f"none of the measures of 'truth' ({', '.join(judged.truth)}) is a measure of judge for these records: {sorted(measures)}"
    )
    wanted = judged.generation(list(records))
    assert isinstance(wanted, Mapping), "generation must return settings of sample by name"
    strange = sorted(wanted.keys() - task.sampling.settings.model_fields.keys())
    assert not strange, f"generation must return settings of sample: {', '.join(strange)} is none of them"
    task.sampling.settings(**wanted)
    if judged.overlap is not None:
        for one in (_QUESTION, *(task.answer(record) for record in records)):
            shares = (judged.overlap(one, one), judged.overlap(one, ""), judged.overlap("", one))
            assert all(0 <= share <= 1 for share in shares), f"overlap must be between 0 and 1: {shares}"
            assert not one or shares[0] == 1, f"overlap of a text with itself must be 1, not {shares[0]}"
    for question in judged.general_knowledge():
        fit = isinstance(question, ChoiceQuestion) and all(isinstance(choice, task.record) for choice in question.choices)
        assert fit, "general_knowledge must return ChoiceQuestions of the task's records"
        assert len(set(question.choices)) == len(question.choices) > 1, (
            "a question of general_knowledge needs two choices or more, all different"
        )


def _check_judge(task: Task[Any], record: Record) -> set[str]:
    """The measures of one record's answers."""
    judged = task.evaluation
    reference = Answer(task.answer(record))
    scores = {
        name: judged.judge(record, answer) for name, answer in {"right": reference, "none": Answer(""), "cut": Answer("", False)}.items()
    }
    for found in scores.values():
        fit = isinstance(found, Mapping) and all(isinstance(name, str) and name for name in found)
        assert fit, f"{record.where}: judge must return scores by the name of the measure"
        wrong = {name: score for name, score in found.items() if not 0 <= score <= 1}
        assert not wrong, f"{record.where}: every score of judge must be between 0 and 1; {wrong} is not"
    assert scores["right"] == judged.judge(record, reference), f"{record.where}: judge must say the same of the same answer each time"
    for measure in scores["right"].keys() & scores["none"].keys():
        best, least = scores["right"][measure], scores["none"][measure]
        best, least = (least, best) if measure in judged.lower_is_better else (best, least)
        assert best >= least, f"{record.where}: an empty answer scores better than the reference by '{measure}'; is it lower_is_better?"
    return set(scores["right"])
