# SPDX-License-Identifier: Apache-2.0
"""A component that breaks its contract is named with its plugin in one sentence, whatever kind it is and whatever it does instead."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from builders.toy_family import TrainableToy, toy

from loraforge import (
    Check,
    DataError,
    Evaluation,
    Examination,
    Exporter,
    Loader,
    ModelFamily,
    NoKeys,
    PluginError,
    Record,
    Sampling,
    Span,
    Task,
    Template,
)
from loraforge.plugin_api.contracts import guarded, held, owner_of


@dataclass(frozen=True)
class Line(Record):
    text: str


LINES = Task(
    name="lines",
    help="Lines.",
    record=Line,
    loader="files",
    template="whole",
    exporters=(),
    sampling=Sampling(ask=lambda text: Line(text, where="q")),
    evaluation=Evaluation(judge=lambda record, answer: {"right": float(record.text == answer)}),
    question=lambda record: record.text,
)
OWNER = "the plugin 'mine' (mine.py)"
KINDS = {Loader: "load", Template: "render", Check: "run", Exporter: "export", ModelFamily: "examine"}


def made(kind: type, **methods):
    body = {"name": "mine", "task": "text", "load": lambda self, *a: [], "render": lambda self, record: [], "run": lambda self, *a: [],
            "export": lambda self, adapter, folder: folder, "matches": lambda self, base: True, "open": lambda self, *a: None}  # fmt: skip
    return guarded(type("Mine", (kind,), {**body, **methods})(), OWNER)


def raising(error):
    def method(self, *arguments, **named):
        raise error

    return method


def yields_and_raises(self, *arguments):
    yield from ()
    raise KeyError("x")


# (kind, method, what it returns instead, what the message shows of it)
BREACHES = [
    (Loader, "load", [{"a": 1}], "Iterable[Record], as docs/writing-plugins.md describes it, and returned dict {'a': 1}"),
    (Loader, "load", None, "returned None"), (Loader, "load", "rows", "returned str 'rows'"), (Loader, "load", {"a": 1}, "returned dict"),
    (Template, "render", None, "Sequence[Span]"), (Template, "render", "text", "returned str"), (Template, "render", ["text"], "returned str 'text'"),
    (Template, "prepare", None, "must return Template"), (Template, "recall", 7, "returned int 7"), (Template, "describe", None, "Mapping"),
    (Check, "run", "bad", "Iterable[Finding]"), (Check, "run", None, "returned None"), (Check, "run", [7], "returned int 7"),
    (Exporter, "export", None, "lies in the folder"), (Exporter, "export", "file", "returned str"), (Exporter, "export", Path("/elsewhere"), "PosixPath"),
    (Exporter, "usage", "one line", "Sequence[str]"), (Exporter, "deliver", None, "Sequence[str]"), (Exporter, "refuses", 7, "must return str"),
    (ModelFamily, "examine", None, "must return Examination"), (ModelFamily, "examine", {}, "returned dict"), (ModelFamily, "load", None, "TrainableModel"),
    (ModelFamily, "open", None, "InferenceModel"), (ModelFamily, "estimate_memory", 7, "MemoryEstimate | None"), (ModelFamily, "cautions", "beware", "Sequence[str]"),
    (ModelFamily, "settle", None, "tuple[KeySet, Sequence[str]]"), (ModelFamily, "settle", 7, "returned int 7"),
    (ModelFamily, "base_files", ["a"], "Sequence[Path]"), (ModelFamily, "typical_ranges", None, "Mapping"),
]  # fmt: skip
ARGUMENTS = {
    "export": 2,
    "load": 3,
    "examine": 3,
    "open": 3,
    "estimate_memory": 4,
    "run": 3,
    "prepare": 3,
    "usage": 2,
    "deliver": 2,
    "refuses": 2,
    "cautions": 2,
}


@pytest.mark.skipif(os.name == "nt", reason="paths are shown in another way")
@pytest.mark.parametrize(("kind", "method", "instead", "shown"), BREACHES)
def test_what_is_returned_instead_is_told_with_the_plugin_and_the_method(kind, method, instead, shown, tmp_path):
    arguments = [tmp_path] * ARGUMENTS.get(method, 1)
    with pytest.raises(PluginError) as error:
        getattr(made(kind, **{method: lambda self, *a: instead}), method)(*arguments)
    (line,) = error.value.problems
    assert line.startswith(f"{OWNER}: Mine.{method} must return ") and shown in line and "\n" not in line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), FileNotFoundError(2, "No such file", "a.txt")])
def test_what_raises_is_told_with_the_plugin_and_its_author_can_see_where(kind, error, tmp_path, monkeypatch):
    method, arguments = KINDS[kind], [tmp_path] * ARGUMENTS.get(KINDS[kind], 1)
    component = made(kind, **{method: raising(error)})
    with pytest.raises(PluginError) as told:
        getattr(component, method)(*arguments)
    (line,) = told.value.problems
    assert line.startswith(f"{OWNER}: Mine.{method} failed: {type(error).__name__}: ") and told.value.__cause__ is error
    monkeypatch.setenv("LORAFORGE_TRACEBACK", "1")
    with pytest.raises(type(error)):
        getattr(component, method)(*arguments)


@pytest.mark.parametrize(
    "error", [DataError("row 3 is bad"), KeyboardInterrupt(), MemoryError(), RuntimeError("CUDA out of memory"), OSError(28, "full")]
)
def test_what_is_no_fault_of_the_plugin_goes_its_way(error):
    with pytest.raises(type(error)) as found:
        made(Loader, load=raising(error)).load(None, None, None)
    assert found.value is error


def test_a_generator_that_raises_is_told_where_it_raises():
    with pytest.raises(PluginError, match=r"Mine\.load failed: KeyError: 'x'"):
        made(Loader, load=yields_and_raises).load(None, None, None)


@pytest.mark.parametrize(
    ("method", "instead", "shown"),
    [("encode", None, "Mapping"), ("group", [], "Hashable"), ("collate", None, "Mapping"), ("weight", "3", "float"), ("loss", 0.5, "Tensor"), ("facts", None, "Mapping"), ("files", {"a": "text"}, "bytes"), ("sample", "a.png", "Path")],
)  # fmt: skip
def test_a_model_that_a_family_loads_is_held_to_its_promises_too(method, instead, shown):
    family = guarded(toy(trainable={method: lambda self, *a: instead}, load=lambda self, *a: self.trainable(None)), OWNER)
    model = family.load(None, None, None)
    with pytest.raises(PluginError, match=rf"{method} must return .*{shown}"):
        getattr(model, method)(*[None] * {"encode": 2, "group": 1, "collate": 1, "weight": 1, "loss": 2, "sample": 2}.get(method, 0))


@pytest.mark.parametrize("answers", [[], ["a"], ["a", None], "ab", None])
def test_answers_are_one_for_each_prompt(answers):
    family = guarded(
        toy(
            inference={"generate": lambda self, *a, **k: answers},
            open=lambda self, *a: self.inference(type("M", (), {"eval": lambda s: s})()),
        ),
        OWNER,
    )
    with pytest.raises(PluginError, match="one for each prompt"):
        family.open(None, None, None).generate(["x", "y"], None)


def test_what_keeps_its_promises_is_what_it_was(tmp_path):
    import copy

    class Kept(Template):
        name, task = "kept", "text"

        def __init__(self, word=""):
            self.word = word

        def prepare(self, config, keys, records):
            other = copy.copy(self)
            other.word = "prepared"
            return other

        def render(self, record):
            return (Span(self.word),)

    template = guarded(Kept("first"), OWNER)
    prepared = template.prepare(None, None, [])
    assert prepared.render(None) == [Span("prepared")] and template.render(None) == [Span("first")]
    assert type(prepared).__name__ == "Kept" and isinstance(prepared, Kept) and owner_of(prepared) == OWNER
    family = guarded(toy(examine=lambda self, *a: Examination(facts={"rows": 3})), OWNER)
    assert family.examine(None, None, []).facts == {"rows": 3} and family.exporters == () and family.name == "toy"
    assert issubclass(family.trainable, TrainableToy)


def test_what_comes_with_the_program_is_left_as_it_is(host):
    from loraforge_text.export.exporters import PeftExporter

    assert type(host.component("loraforge_exporters", "text", "peft")) is PeftExporter and not owner_of(PeftExporter())


# (part of the task, function, arguments, what it returns instead, what it should)
OF_TASKS = [
    ("", "question", 1, None, "str"), ("", "answer", 1, 7, "str"), ("", "fingerprint", 1, "x", "Fingerprint"),
    ("sampling", "ask", 1, "text", "Line"), ("sampling", "side_by_side", 1, b"png", "File"),
    ("evaluation", "judge", 2, None, "Mapping[str, float]"), ("evaluation", "judge", 2, {"right": "yes"}, "Mapping[str, float]"),
    ("evaluation", "generation", 1, None, "Mapping"), ("evaluation", "overlap", 2, "0.5", "float"),
    ("evaluation", "general_knowledge", 0, ["?"], "Sequence[ChoiceQuestion]"), ("evaluation", "compare", 4, None, "Mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "name", "arguments", "instead", "wanted"), OF_TASKS)
def test_a_tasks_functions_are_held_to_their_promises(part, name, arguments, instead, wanted):
    whole = replace(LINES, **({part: replace(getattr(LINES, part), **{name: lambda *a: instead})} if part else {name: lambda *a: instead}))
    task = held(whole, OWNER)
    with pytest.raises(PluginError) as told:
        getattr(getattr(task, part) if part else task, name)(*[None] * arguments)
    (line,) = told.value.problems
    assert line.startswith(f"{OWNER}: {part + '.' if part else ''}{name} of the task 'lines' must return {wanted}")


def test_a_task_that_keeps_its_promises_does_what_it_did():
    task = held(LINES, OWNER)
    row = task.sampling.ask("one")
    assert row == Line("one", where="q") and task.question(row) == "one" and task.evaluation.judge(row, "one") == {"right": 1.0}
    assert task.fingerprint is None and task.evaluation.overlap is None and task.name == "lines" and task.sampling.settings is NoKeys
    with pytest.raises(PluginError, match="question of the task 'lines' failed: AttributeError"):
        task.question(None)


PLUGIN = """
import click
from loraforge import {kind}, hookimpl

class Mine({kind}):
    name, task, help = "mine", "text", "Mine."
    def {method}(self, *arguments):
        {body}

@hookimpl
def {hook}():
    return [Mine()]
"""
COMMAND = """
import click
from loraforge import hookimpl

@click.command()
def oops():
    import json
    json.loads("{")

@hookimpl
def loraforge_commands():
    return [oops]
"""


@pytest.mark.parametrize(
    ("kind", "method", "hook", "body", "setting", "words"),
    [
        ("Loader", "load", "loraforge_data_loaders", "yield {'instruction': 'x'}", "data_loader", "Mine.load must return Iterable[Record]"),
        ("Loader", "load", "loraforge_data_loaders", "from loraforge import Record; return [Record(where='1')]", "data_loader", "Mine.load must return Iterable[Conversation]"),
        ("Template", "render", "loraforge_templates", "return 'text'", "prompt_template", "Mine.render must return Sequence[Span]"),
        ("Check", "run", "loraforge_checks", "return 'all is bad'", "", "Mine.run must return Iterable[Finding]"),
        ("Exporter", "export", "loraforge_exporters", "return None", "export", "Mine.export must return Path"),
    ],
)  # fmt: skip
def test_a_command_says_it_in_one_line(kind, method, hook, body, setting, words, project, command, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN.format(kind=kind, method=method, hook=hook, body=body), encoding="utf-8")
    given = ["--set", f"{setting}={'[mine]' if setting == 'export' else 'mine'}"] if setting else []
    code, _, err = command("-p", tmp_path / "mine.py", "train" if kind == "Exporter" else "check", "text", project(max_steps=1), *given)
    line = next(line for line in err.splitlines() if words in line)
    assert code == 2 and "Traceback" not in err and f"the plugin 'mine' ({tmp_path / 'mine.py'}): " in line


def test_a_command_of_a_plugin_that_fails_is_named(command, tmp_path):
    (tmp_path / "mine.py").write_text(COMMAND, encoding="utf-8")
    code, _, err = command("-p", tmp_path / "mine.py", "oops")
    assert code == 2 and err.startswith("the plugin 'mine' (") and "oops failed: JSONDecodeError" in err
