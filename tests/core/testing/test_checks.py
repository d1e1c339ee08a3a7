# SPDX-License-Identifier: Apache-2.0
"""The checks of plugins, loaders, templates, exporters and data checks: the built-in ones pass, and each broken promise is told."""

from __future__ import annotations

import dataclasses
import shutil
from types import SimpleNamespace

import pytest
from builders import ROOT

from loraforge import Check, Exporter, Finding, KeySet, Loader, RunConfig, Span, Template, hookimpl
from loraforge.plugin_api.host import PluginHost
from loraforge.testing import check_check, check_exporter, check_loader, check_plugin, check_template, make_adapter

CHECKS = [
    (task, name) for task in ("text", "image") for name in PluginHost(blocked=(), entry_points=True).components("loraforge_checks", task)
]


def keys_of(config: RunConfig, *components, **values) -> KeySet:
    owners = {owner for component in components for owner in (component.keys,)}
    return KeySet({RunConfig: config, **{owner: owner(**{k: v for k, v in values.items() if k in owner.model_fields}) for owner in owners}})


# --- what is built in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loraforge_text", "loraforge_image"])
def test_the_plugins_keep_the_contract(name):
    import importlib

    check_plugin(importlib.import_module(name))


@pytest.fixture(scope="module")
def rows():
    """Rows of both tasks with something wrong in them."""
    from builders.text_checks import CONTRADICTING, PLAIN, Q
    from builders.text_checks import rows as questions

    pairs = [(Q, answer) for answers in CONTRADICTING[:3] for answer in answers]
    return questions(*pairs, *PLAIN, PLAIN[0], ("Who? 13812345678", "Maybe it could perhaps be so <|im_end|> lol"), ("空？", "可以"))


@pytest.mark.parametrize(("task", "name"), CHECKS, ids=lambda value: value)
def test_the_checks_of_data_keep_the_contract(host, rows, tmp_path, task, name):
    check = host.component("loraforge_checks", task, name)
    config = RunConfig(train_data_dir=str(tmp_path), base_model="x")
    given, keys = rows, keys_of(config, check, host.task(task))
    if task == "image":
        from builders.image_checks import row, scene

        shown = ["a cat, grey", "a cat, grey", "cyberpunk style, a dog", ""]
        given = [row(scene(i // 2, (64 + 300 * i, 48 + 200 * i)), tmp_path / f"{i}.png", caption) for i, caption in enumerate(shown)]
    check_check(check, config, keys, given)


def test_the_loaders_keep_the_contract(host, tmp_path):
    from builders.tiny_images import draw_pictures
    from builders.tiny_text import write_rows

    table, pictures = write_rows(tmp_path / "text" / "metadata.csv"), draw_pictures(tmp_path / "image")
    for task, name, spoiled in (("text", "table", table), ("image", "pictures", pictures / "metadata.csv")):
        loader = host.component("loraforge_data_loaders", task, name)
        config = RunConfig(train_data_dir=str(tmp_path / task), base_model="x")
        check_loader(
            loader, config, keys_of(config, loader, host.task(task)), spoil=lambda file=spoiled: file.write_text("a,b\n1,2\n", "utf-8")
        )


def test_the_templates_keep_the_contract(host):
    from loraforge_image.records import Picture
    from loraforge_text.records import Conversation

    text = [Conversation("问？", "答。", where="a"), Conversation("问二？", "答二。", system="s", history=(("q", "a"),), where="b")]
    for task, records in (("text", text), ("image", [Picture("a.png", "a cat, grey", where="a")])):
        question = host.task(task).sampling.ask("Why?")
        for name, (listed, _) in host.components("loraforge_templates", task).items():
            if name == "llama3":
                continue  # its tokens are not those of the embedded base
            base, named = ("tiny-chat", "[INST]{system}{instruction}[/INST]") if task == "text" else ("tiny-sd", "auto")
            named = named if listed.name == "inline" else listed.name
            config = RunConfig(train_data_dir="x", base_model=base, prompt_template=named)
            made = listed.prepare(config, keys_of(config, listed, host.task(task)), records)
            if task == "text":
                check_template(made, records, [question], listed)
            else:  # a caption is what the model sees; it has no answer
                assert made.render(question)


@pytest.mark.parametrize("kind", [{}, {"rank": 2, "alpha": 3}, {"dora": True}], ids=str)
def test_the_exporters_for_adapters_keep_the_contract(host, tmp_path, kind):
    check_exporter(host.component("loraforge_exporters", "text", "peft"), make_adapter(**kind), tmp_path)


# --- and what breaks a promise -------------------------------------------------------------------------------------------------


def changed(kind, **methods):
    """An object of ``kind`` with a name, a task and help, and these attributes."""
    return type("Mine", (kind,), {"name": "mine", "task": "text", "help": "Mine.", **methods})()


CONFIG = RunConfig(train_data_dir="x", base_model="x")
calls = iter(range(10**6))


def finds(*made, **more):
    return {"run": lambda self, config, keys, rows: list(made) if rows else [], **more}


def changes(self, config, keys, rows):
    for row in rows:
        object.__setattr__(row, "output", row.output + "!")
    return []


def computes(self, config, keys, rows):
    import torch

    return [Finding((0,), str(torch.ones(1)))] if rows else []


def speaks(self, config, keys, rows):
    print("looking")
    return []


CHECK = {
    "has a severity of its own making": (finds(severity="fatal"), "the severity of a check must be one of error, warning, hint, not 'fatal'"),
    "is private in words": (finds(private="yes"), "'private' of a check must be True or False"),
    "finds a text": (finds("wrong"), "a check must return loraforge.Finding, not str"),
    "names no row": (finds(Finding((), "x")), "a finding must name rows by their index, 0 to 2, in a tuple of at least one"),
    "counts rows from one": (finds(Finding((3,), "x")), "a finding must name rows by their index, 0 to 2.*not .3,."),
    "counts from the end": (finds(Finding((-1,), "x")), "a finding must name rows by their index"),
    "names rows in a list": (finds(Finding([0], "x")), "in a tuple of at least one"),
    "names a row twice": (finds(Finding((1, 1), "x")), "a finding must name each row once"),
    "says nothing": (finds(Finding((0,), " ")), "a finding must have a message"),
    "has no words to show": (finds(Finding((0,), "x", None)), "the excerpt of a finding must be a text"),
    "makes up a severity": (finds(Finding((0,), "x", severity="bad")), "the severity of a finding must be one of error, warning, hint, not 'bad'"),
    "says another thing each time": ({"run": lambda *a: [Finding((0,), f"call {next(calls)}")] if a[3] else []}, "must find the same in the same rows"),
    "stumbles over nothing": ({"run": lambda *a: [a[3][0]][:0]}, "a check must find nothing where there are no rows; it raises IndexError"),
    "finds something in nothing": ({"run": lambda *a: [Finding((0,), "x")]}, "a check must find nothing where there are no rows"),
    "changes the rows": ({"run": changes}, "a check must leave the rows as they are"),
    "imports torch": ({"run": computes}, "a check of the data must not import torch"),
    "prints": ({"run": speaks}, "a check must not print"),
}  # fmt: skip


def three_rows():
    from builders.text_checks import rows

    return rows(("a?", "b"), ("c?", "d"), ("e?", "f"))


@pytest.mark.parametrize("name", list(CHECK))
def test_a_check_that_breaks_a_promise_is_told(name):
    import torch

    assert torch
    methods, message = CHECK[name]
    with pytest.raises(AssertionError, match=message):
        check_check(changed(Check, **methods), CONFIG, KeySet({RunConfig: CONFIG}), three_rows())


def test_what_a_check_finds_is_compared_with_what_is_expected():
    found = Finding((0,), "first"), Finding((2, 1), "two")
    check, keys = changed(Check, **finds(*found)), KeySet({RunConfig: CONFIG})
    assert check_check(check, CONFIG, keys, three_rows(), [(2, 1), (0,)]) == list(found)
    with pytest.raises(
        AssertionError, match=r"findings were expected about the rows \[\(0,\)\]; there are some about \[\(0,\), \(2, 1\)\]"
    ):
        check_check(check, CONFIG, keys, three_rows(), [(0,)])


def renders(question=False, **more):
    def render(self, record):
        return [Span(record.instruction), *([Span(record.output, learn=True)] if record.output or question else [])]

    return {"render": render, **more}


class Prepared(Template):
    """A template with something of its own, which it does not recall."""

    name, task, help = "mine", "text", "Mine."

    def __init__(self, opening=""):
        self.opening = opening

    def describe(self):
        return {"name": self.name, "opening": self.opening}

    def render(self, record):
        return [Span(self.opening + record.instruction), *([Span(record.output, learn=True)] if record.output else [])]


def imports_torch():
    import torch

    assert torch


def renders_with(work):
    def render(self, record):
        work()
        return [Span(record.instruction), Span(record.output, learn=True)]

    return {"render": render}


TEMPLATE = {
    "renders with torch": (renders_with(imports_torch), "a template must not import torch"),
    "prints": (renders_with(lambda: print("looking")), "a template must not print"),
    "renders texts": ({"render": lambda self, record: ["x"]}, "render returns a sequence of Span"),
    "renders by chance": ({"render": lambda self, record: [Span(str(next(calls)), learn=True)]}, "render must be a function of the record"),
    "learns nothing": ({"render": lambda self, record: [Span("x")]}, "nothing is learned of d.csv, row 2"),
    "learns a question": (renders(question=True), "a record without an answer must render as the prompt alone"),
    "describes itself in objects": (
        renders(describe=lambda self: {"name": "mine", "x": object()}),
        "describe must return plain JSON values",
    ),
    "does not name itself": (renders(describe=lambda self: {}), "describe must hold the template's name, 'mine'"),
}


@pytest.mark.parametrize("name", list(TEMPLATE))
def test_a_template_that_breaks_a_promise_is_told(name):
    from loraforge_text.records import Conversation

    methods, message = TEMPLATE[name]
    with pytest.raises(AssertionError, match=message):
        check_template(changed(Template, **methods), three_rows(), [Conversation("q?", where="question")])


def test_a_template_that_cannot_be_made_again_is_told():
    with pytest.raises(AssertionError, match="recall must make the same template of its description"):
        check_template(Prepared("Hello. "), three_rows(), listed=Prepared())
    check_template(changed(Template, **renders()), three_rows())


def writes(work):
    """An exporter that does ``work(adapter, folder)``."""
    return changed(Exporter, export=lambda self, adapter, destination: work(adapter, destination))


def write_file(adapter, folder, text="x"):
    (folder / "x.txt").write_text(text, encoding="utf-8")
    return folder / "x.txt"


def write_changed(adapter, folder):
    next(iter(adapter.tensors.values())).add_(1)
    return write_file(adapter, folder)


EXPORTER = {
    "writes nothing": (lambda adapter, folder: folder, "nothing was written"),
    "returns what is not there": (lambda adapter, folder: folder / "y.txt", "export must return what it wrote, inside its folder"),
    "returns its parent": (lambda adapter, folder: folder.parent, "export must return what it wrote, inside its folder"),
    "writes the time": (lambda adapter, folder: write_file(adapter, folder, str(next(calls))), "two exports of one adapter differ"),
    "changes the adapter": (write_changed, "the adapter was changed"),
    "prints": (lambda adapter, folder: print("writing") or write_file(adapter, folder), "an exporter must not print"),
}


@pytest.mark.parametrize("name", list(EXPORTER))
def test_an_exporter_that_breaks_a_promise_is_told(name, tmp_path):
    work, message = EXPORTER[name]
    with pytest.raises(AssertionError, match=message):
        check_exporter(writes(work), make_adapter(), tmp_path)


def loads(rows, **more):
    return changed(Loader, load=lambda self, config, keys, note: rows(), **more)


LOADER = {
    "loads with torch": (lambda: imports_torch() or three_rows(), "a loader must not import torch"),
    "prints": (lambda: print("rows") or three_rows(), "a loader must not print"),
    "has no rows": (lambda: [], "no records"),
    "returns texts": (lambda: ["x"], "records must derive from loraforge.Record"),
    "returns other rows each time": (lambda: [dataclasses.replace(row, instruction=str(next(calls))) for row in three_rows()], "two loads of the same data differ"),
    "does not say where": (lambda: [dataclasses.replace(row, where="x") for row in three_rows()], "every record needs its own 'where'"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LOADER))
def test_a_loader_that_breaks_a_promise_is_told(name):
    rows, message = LOADER[name]
    with pytest.raises(AssertionError, match=message):
        check_loader(loads(rows), CONFIG, KeySet({RunConfig: CONFIG}))


def test_a_loader_that_reads_what_is_spoiled_is_told():
    with pytest.raises(AssertionError, match="bad data must raise a LoraForgeError"):
        check_loader(loads(three_rows), CONFIG, KeySet({RunConfig: CONFIG}), spoil=lambda: None)


def test_a_plugin_that_breaks_a_promise_is_told(tmp_path, monkeypatch):
    def answers_wrongly():
        return ["not a template"]

    with pytest.raises(AssertionError, match="must return a list of Template"):
        check_plugin(SimpleNamespace(loraforge_templates=hookimpl(answers_wrongly, specname="loraforge_templates")))
    shutil.copyfile(ROOT / "tests" / "builders" / "__init__.py", tmp_path / "heavy_plugin.py")
    (tmp_path / "heavy_plugin.py").write_text("import torch\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import heavy_plugin

    with pytest.raises(AssertionError, match="importing the plugin imports torch"):
        check_plugin(heavy_plugin)
