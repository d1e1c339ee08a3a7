# SPDX-License-Identifier: Apache-2.0
"""check_task: the built-in tasks keep the contract, and each broken promise is told."""

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders.toy_family import Line, Toy
from pydantic import Field

from loraforge import (
    ChoiceQuestion,
    ConfigLine,
    Evaluation,
    Exporter,
    Fingerprint,
    Keys,
    Loader,
    OtherTrainer,
    Record,
    Sampling,
    Span,
    Start,
    Task,
    Template,
    Translation,
    hookimpl,
)
from loraforge.testing import check_task


def test_the_text_task_keeps_the_contract(host):
    from loraforge_text.records import Conversation

    rows = [("试用期最长多久？", "六个月。根据《劳动合同法》第19条。"), ("Who decides?", "The court."), ("a？", "抱歉，我无法回答。")]
    check_task(host.task("text"), [Conversation(question, answer, where=f"row {i}") for i, (question, answer) in enumerate(rows)])


def test_the_image_task_keeps_the_contract(host, tmp_path):
    from builders.image_checks import rows

    check_task(host.task("image"), rows(tmp_path, "a cat", "a dog, grey"))


# --- a task that keeps every promise -------------------------------------------------------------------------------------------


class Lines(Loader):
    name, task, help = "three", "lines", "Three lines."

    def load(self, config, keys, note):
        return [Line(text, where=text) for text in ("a", "b", "c")]


class Whole(Template):
    name, task, help = "whole", "lines", "All of it."

    def render(self, record):
        return [Span(record.text, learn=True)]


class Nothing(Exporter):
    name, task, help = "nothing", "lines", "Nothing."

    def export(self, adapter, destination):
        return destination


class Settings(Keys):
    pass


def plugin():
    made = types.SimpleNamespace()
    for hook, component in (
        ("loraforge_data_loaders", Lines()),
        ("loraforge_templates", Whole()),
        ("loraforge_exporters", Nothing()),
        ("loraforge_model_families", Toy()),
    ):
        setattr(made, hook, hookimpl(lambda component=component: [component], specname=hook))
    return made


def ask(text):
    return Line(text, where="question")


TASK = Task(
    name="lines",
    help="A model that continues lines.",
    record=Line,
    loader="three",
    template="whole",
    exporters=("nothing",),
    sampling=Sampling(ask=ask, settings=Settings),
    question=lambda record: record.text,
    answer=lambda record: record.text,
    fingerprint=lambda record: Fingerprint(record.text, frozenset(record.text)),
    evaluation=Evaluation(
        judge=lambda record, answer: {"equal": float(record.text == answer), "cut": float(not answer.stopped)},
        headline="equal",
        lower_is_better=("cut",),
        overlap=lambda one, other: len(set(one) & set(other)) / len(set(one)) if one else 0.0,
        general_knowledge=lambda: [ChoiceQuestion((ask("right"), ask("wrong")))],
    ),
)
RECORDS = [Line("one", where="line 1"), Line("two", where="line 2")]


def test_a_task_that_keeps_every_promise_passes():
    check_task(TASK, RECORDS, plugins=[plugin()])


# --- and one that breaks one ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed(Record):
    text: str

    def content(self):
        return {"text": self.text, "where": self.where}


@dataclass(frozen=True)
class Held(Record):
    text: str

    def content(self):
        return {"text": {self.text}}


class Undescribed(Keys):
    width: int = 3


class Required(Keys):
    width: int = Field(description="How wide.")


class CoreKey(Keys):
    seed: int = Field(1, description="A seed.")


class Taken(Keys):
    scales: int = Field(1, description="Scales.")


calls = iter(range(10**6))


def judged(**changes):
    return {"evaluation": dataclasses.replace(TASK.evaluation, **changes)}


def sampled(**changes):
    return {"sampling": dataclasses.replace(TASK.sampling, **changes)}


def looks_at_torch(record):
    import torch

    return Fingerprint(str(torch.ones(1)), frozenset())


BROKEN = {
    "has no help": ({"help": ""}, "a task needs a text 'help'"),
    "has a name of two words": ({"name": "two words"}, "a task's name must be one word"),
    "lists exporters": ({"exporters": ["nothing"]}, "'exporters' of a task must be a tuple of texts"),
    "warns in one text": ({"cautions": "careful"}, "'cautions' of a task must be a tuple of texts"),
    "has records of another kind": ({"record": dict}, "'record' of a task must be a frozen dataclass that derives from loraforge.Record"),
    "has a key without a description": ({"keys": Undescribed}, "'keys' of a task: 'width' has no description"),
    "has a key of the core's": ({"keys": CoreKey}, "'keys' of a task: 'seed' belongs to the core"),
    "has keys that are none": ({"keys": dict}, "'keys' of a task must be a class that derives from loraforge.Keys"),
    "demands a setting": (sampled(settings=Required), "'sampling.settings' of a task: 'width' needs a default"),
    "has a setting of the command's": (sampled(settings=Taken), "scales is an option of `loraforge sample` already"),
    "has no loader": ({"loader": "four"}, "loraforge_data_loaders returns no 'four' for the task 'lines'"),
    "has no template": ({"template": "half"}, "loraforge_templates returns no 'half' for the task 'lines'"),
    "has no exporter": ({"exporters": ("nothing", "all")}, "loraforge_exporters returns no 'all' for the task 'lines'"),
    "asks with a text": (sampled(ask=lambda text: text), "sampling.ask must make a Line, not str"),
    "does not show what was asked": ({"question": lambda record: "a line"}, "'question' must show what was asked"),
    "shows a number": ({"answer": lambda record: 1}, "line 1: 'answer' must return a text"),
    "has a bare fingerprint": ({"fingerprint": lambda record: "x"}, "line 1: fingerprint must return a loraforge.Fingerprint, not str"),
    "has an empty key": ({"fingerprint": lambda record: Fingerprint("", frozenset())}, "the key of a fingerprint must be a text"),
    "lists features": ({"fingerprint": lambda record: Fingerprint("x", ["a"])}, "the features of a fingerprint must be a frozenset"),
    "looks at the place": ({"fingerprint": lambda record: Fingerprint(record.where, frozenset())}, "fingerprint must follow from what the record asks"),
    "looks with torch": ({"fingerprint": looks_at_torch}, "a task must not import torch"),
    "prints": ({"fingerprint": lambda record: print("looking") or Fingerprint("x", frozenset())}, "a task must not print"),
    "has no such measure": (judged(headline="beauty"), "the headline 'beauty' must be a measure of judge"),
    "judges with one number": (judged(judge=lambda record, answer: 1.0), "line 1: judge must return scores by the name of the measure"),
    "judges in percent": (judged(judge=lambda record, answer: {"equal": 100.0}), "every score of judge must be between 0 and 1"),
    "judges by mood": (judged(judge=lambda record, answer: {"equal": next(calls) / 10**6}), "judge must say the same of the same answer"),
    "likes silence": (judged(judge=lambda record, answer: {"equal": float(not answer)}), "an empty answer scores better than the reference by 'equal'"),
    "generates with settings that are none": (judged(generation=lambda records: {"width": 3}), "generation must return settings of sample: width"),
    "overlaps twice": (judged(overlap=lambda one, other: 2.0), "overlap must be between 0 and 1"),
    "overlaps by half": (judged(overlap=lambda one, other: 0.5), "overlap of a text with itself must be 1, not 0.5"),
    "asks in texts": (judged(general_knowledge=lambda: [ChoiceQuestion(("a", "b"))]), "ChoiceQuestions of the task's records"),
    "begins with texts": ({"start": Start(lines=lambda base: ["epochs: 3"])}, "'start.lines' of a task must return loraforge.ConfigLine"),
    "says a key twice": ({"start": Start(lines=lambda base: [ConfigLine("epochs", 1)] * 2)}, "'start.lines' of a task says a key twice"),
    "has a missing example": ({"start": Start(examples=lambda: {"a": Path("nowhere.yaml")})}, "'a' must be the path of a config"),
    "knows a nameless program": ({"start": Start(trainers=(OtherTrainer("", frozenset("a"), translate=Translation),))}, "needs a name, and marks"),
    "offers no choice": (judged(general_knowledge=lambda: [ChoiceQuestion((ask("a"), ask("a")))]), "needs two choices or more, all different"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_task_that_breaks_a_promise_is_told(name):
    import torch

    assert torch
    changes, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_task(dataclasses.replace(TASK, **changes), RECORDS, plugins=[plugin()])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Placed("x", where="line 1"), "a record must not change with the place where it stands"),
        (Held("x", where="line 1"), "the content of a record must be plain values that JSON can hold"),
        (Line("x", where="line 1"), "line 1: the task's records are Placed, not Line"),
    ],
    ids=["knows its place", "holds a set", "is another's"],
)
def test_a_record_that_breaks_a_promise_is_told(record, message):
    kind = type(record) if not isinstance(record, Line) else Placed
    task = dataclasses.replace(TASK, record=kind, sampling=Sampling(ask=lambda text: kind(text, where="q")))
    with pytest.raises(AssertionError, match=message):
        check_task(task, [record], plugins=[plugin()])


def test_what_is_no_task_or_has_no_components_is_told():
    with pytest.raises(AssertionError, match=r"a task must be a loraforge.Task, not dict"):
        check_task({})
    with pytest.raises(AssertionError, match="loraforge_data_loaders returns no 'three' for the task 'lines'"):
        check_task(TASK)
    without = plugin()
    del without.loraforge_model_families
    with pytest.raises(AssertionError, match="a task needs a model family"):
        check_task(TASK, plugins=[without])
