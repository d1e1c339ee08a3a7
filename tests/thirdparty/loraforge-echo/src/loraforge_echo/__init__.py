# SPDX-License-Identifier: Apache-2.0
"""A stranger's plugin: a data format, a template, an exporter, a command and an observer, in one package of its own."""

from __future__ import annotations

import json
from pathlib import Path

import click
from pydantic import Field

from loraforge import DataError, Exporter, Keys, Loader, RunFinished, Span, Template, hookimpl


class EchoKeys(Keys):
    repeat: int = Field(1, ge=1, description="How often each line is repeated in the data.")


class LinesLoader(Loader):
    """``question | answer`` lines of a text file."""

    name = "lines"
    task = "text"
    help = "Lines of the form question | answer."
    keys = EchoKeys

    def load(self, config, keys, note):
        from loraforge_text.records import Conversation

        path = Path(config.metadata_path or Path(config.train_data_dir) / "lines.txt")
        records, problems = [], []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            question, bar, answer = line.partition("|")
            if not bar:
                problems.append(f"{path.name}, line {number}: there is no | in it.")
            records += [
                Conversation(
                    f"{question.strip()} ({i})" if i else question.strip(), answer.strip(), where=f"{path.name}, line {number}.{i}"
                )
                for i in range(keys[EchoKeys].repeat)
            ]
        if problems:
            raise DataError(problems)
        return records


class EchoTemplate(Template):
    name = "echo"
    task = "text"
    help = "Question, arrow, answer."

    def render(self, record):
        spans = [Span(f"{record.instruction} => ")]
        return [*spans, Span(record.output + "<|im_end|>", learn=True)] if record.output else spans


class SummaryExporter(Exporter):
    name = "summary"
    task = "text"
    help = "The names and norms of the adapter's matrices as JSON."

    def export(self, adapter, destination):
        file = destination / "summary.json"
        file.write_text(json.dumps({name: round(float(t.norm()), 6) for name, t in adapter.tensors.items()}), encoding="utf-8")
        return file


@click.command()
@click.argument("words", nargs=-1)
def echo(words):
    """Say the words again."""
    click.echo(" ".join(words))


@hookimpl
def loraforge_commands():
    return [echo]


@hookimpl
def loraforge_data_loaders():
    return [LinesLoader()]


@hookimpl
def loraforge_templates():
    return [EchoTemplate()]


@hookimpl
def loraforge_exporters():
    return [SummaryExporter()]


@hookimpl
def loraforge_event(event):
    if isinstance(event, RunFinished):
        (event.folder / "echo.txt").write_text(f"finished after {event.seconds:.0f} s", encoding="utf-8")
