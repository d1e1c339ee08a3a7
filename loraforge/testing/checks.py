# SPDX-License-Identifier: Apache-2.0
"""The checks of a plugin as a whole and of what reads, renders, looks at and writes data. Families, tasks, commands and observers have
modules of their own.

    from loraforge.testing import check_exporter, check_loader, check_plugin, check_template

Each raises AssertionError with what the contract says.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from ..config.schema import KeySet, RunConfig
from ..errors import LoraForgeError
from ..plugin_api.components import Check, Component, Exporter, Finding, Loader, Severity, Template
from ..plugin_api.host import PluginHost
from ..plugin_api.types import Adapter, Record, Span
from .guards import without_output, without_torch


def check_plugin(plugin: object) -> None:
    """The plugin can be registered, every hook answers, its names clash with nobody's, and importing it does not import torch.

    Args:
        plugin: the module, or an object with marked hooks.
    """
    from ..plugin_api.host import KINDS

    host = PluginHost(blocked=())
    name = host.name_of(plugin)  # an installed one is there already
    if name is None:
        name = "plugin-under-test"
        host.register(plugin, name)
    tasks = host.tasks()
    for task in tasks:
        for hook in KINDS:
            for component, _ in host.components(hook, task).values():
                check_component(component)
    host.commands(())
    errors = [info.error for info in host.plugins() if info.name == name and info.error]
    assert not errors, errors
    if inspect.ismodule(plugin) and plugin.__name__ in sys.modules and importlib.util.find_spec(plugin.__name__):
        code = f"import {plugin.__name__}, sys; sys.exit('torch' in sys.modules)"
        found_here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # pytest's pythonpath is nobody else's
        assert subprocess.run([sys.executable, "-c", code], check=False, env=found_here).returncode == 0, (
            "importing the plugin imports torch: import it in the function"
        )


def check_component(component: Component) -> None:
    """It has a name, a task and a sentence of help, and every key of its own has a description."""
    kind = type(component).__name__
    for attribute in ("name", "task", "help"):
        assert isinstance(getattr(component, attribute, None), str) and getattr(component, attribute), f"{kind} needs a text '{attribute}'"
    for key, info in component.keys.model_fields.items():
        assert info.description, f"{kind}: the key '{key}' has no description"
        assert key not in RunConfig.model_fields, f"{kind}: the key '{key}' belongs to the core"


def check_loader(loader: Loader[Any], config: RunConfig, keys: KeySet, spoil: Callable[[], None] | None = None) -> list[Record]:
    """It yields records that know where they stand, the same ones each time, and explains bad data; without torch, and without printing.

    Args:
        spoil: damages the data; afterwards ``load`` must raise a LoraForgeError.

    Returns:
        the records of the sound data.
    """
    check_component(loader)
    notes: list[str] = []
    with without_torch("a loader"), without_output("a loader"):
        first, second = (list(loader.load(config, keys, notes.append)) for _ in range(2))
    assert first, "no records"
    assert all(isinstance(record, Record) for record in first), "records must derive from loraforge.Record"
    assert [r.content_hash() for r in first] == [r.content_hash() for r in second], "two loads of the same data differ"
    assert len({r.where for r in first}) == len(first), "every record needs its own 'where'"
    assert all(isinstance(note, str) for note in notes)
    if spoil is not None:
        spoil()
        try:
            list(loader.load(config, keys, notes.append))
        except LoraForgeError:
            return first
        raise AssertionError("bad data must raise a LoraForgeError")
    return first


def check_template(
    template: Template[Any], records: Iterable[Record], questions: Iterable[Record] = (), listed: Template[Any] | None = None
) -> None:
    """It renders spans, the same ones each time, something of which is learned, without torch and without printing; and it can be described
    and made again from that.

    Args:
        questions: records without an answer, as the task's ``sampling.ask`` makes them: they render as the prompt alone.
        listed: the template as the plugin returns it, if ``template`` is what its ``prepare`` made: it must be able to recall that.
    """
    check_component(template)
    records, questions = list(records), list(questions)
    with without_torch("a template"), without_output("a template"):
        for row in (*records, *questions):
            template.render(row)
    for record in records:
        spans: Sequence[Span] = template.render(record)
        assert spans and all(isinstance(span, Span) for span in spans), "render returns a sequence of Span"
        assert list(spans) == list(template.render(record)), "render must be a function of the record"
        assert any(span.learn and span.text for span in spans), f"nothing is learned of {record.where}"
    for question in questions:
        spans = template.render(question)
        alone = not any(span.learn for span in spans) and bool("".join(span.text for span in spans))
        assert alone, f"a record without an answer must render as the prompt alone; {question.where} renders as {list(spans)!r:.200}"
    _check_description(template, listed or template, [*records, *questions])


def _check_description(template: Template[Any], listed: Template[Any], records: Sequence[Record]) -> None:
    """A run keeps the description in its manifest, and is asked with what is made of it."""
    description = template.describe()
    try:
        kept = json.loads(json.dumps(dict(description), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"describe must return plain JSON values: {error}") from None
    assert kept.get("name") == template.name, f"describe must hold the template's name, '{template.name}', under 'name'"
    again = listed.recall(kept)
    same = all(list(again.render(record)) == list(template.render(record)) for record in records)
    assert same, "recall must make the same template of its description: a run is asked the way it was trained"


def check_exporter(exporter: Exporter, adapter: Adapter, destination: Path) -> Path:
    """It writes inside its folder only, the same bytes each time, leaves the adapter as it was, and prints nothing.

    Returns:
        what it wrote.
    """
    import torch

    check_component(exporter)
    before = {name: tensor.clone() for name, tensor in adapter.tensors.items()}
    contents = []
    for number in range(2):
        folder = destination / str(number)
        folder.mkdir(parents=True)
        with without_output("an exporter"):
            written = exporter.export(adapter, folder)
        assert written.exists() and (written == folder or folder in written.parents), "export must return what it wrote, inside its folder"
        contents.append({p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})
    assert contents[0], "nothing was written"
    assert contents[0] == contents[1], "two exports of one adapter differ"
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter.tensors.items()), "the adapter was changed"
    return destination / "0" / written.relative_to(destination / "1")


def check_check(
    check: Check[Any], config: RunConfig, keys: KeySet, rows: Sequence[Record], expected: Iterable[tuple[int, ...]] | None = None
) -> list[Finding]:
    """Its findings are about rows that are there and say something, are the same each time, and leave the rows as they are; it imports no
    torch, prints nothing, and has nothing to say of no rows.

    Args:
        expected: the rows of each finding that it should make, in any order: ``[(0,), (3, 1)]``.

    Returns:
        the findings.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    check_component(check)
    severities = get_args(Severity)
    assert check.severity in severities, f"the severity of a check must be one of {', '.join(severities)}, not {check.severity!r}"
    assert isinstance(check.private, bool), f"'private' of a check must be True or False, not {check.private!r}"
    before = [record.content_hash() for record in rows]
    given = list(rows)
    with without_torch("a check of the data", "transformers"), without_output("a check"):
        found, again = (list(check.run(config, keys, given)) for _ in range(2))
        try:
            none = list(check.run(config, keys, []))
        except Exception as error:
            raise AssertionError(f"a check must find nothing where there are no rows; it raises {error!r}") from error
    assert [record.content_hash() for record in given] == before, "a check must leave the rows as they are"
    for finding in found:
        _check_finding(finding, len(rows), severities)
    assert sorted(map(repr, found)) == sorted(map(repr, again)), "a check must find the same in the same rows each time"
    assert not none, "a check must find nothing where there are no rows"
    if expected is not None:
        wanted, made = sorted(expected), sorted(finding.rows for finding in found)
        assert wanted == made, f"findings were expected about the rows {wanted}; there are some about {made}"
    return found


def _check_finding(finding: Finding, rows: int, severities: Sequence[str]) -> None:
    """One finding is about rows that are there, and says something."""
    assert isinstance(finding, Finding), f"a check must return loraforge.Finding, not {type(finding).__name__}"
    fit = isinstance(finding.rows, tuple) and finding.rows and all(type(row) is int and 0 <= row < rows for row in finding.rows)
    assert fit, f"a finding must name rows by their index, 0 to {rows - 1}, in a tuple of at least one; not {finding.rows!r}"
    assert len(set(finding.rows)) == len(finding.rows), f"a finding must name each row once: {finding.rows}"
    assert isinstance(finding.message, str) and finding.message.strip(), "a finding must have a message: what is wrong and what to do"
    assert isinstance(finding.excerpt, str), f"the excerpt of a finding must be a text, not {finding.excerpt!r}"
    fit = finding.severity in (None, *severities)
    assert fit, f"the severity of a finding must be one of {', '.join(severities)}, not {finding.severity!r}"
