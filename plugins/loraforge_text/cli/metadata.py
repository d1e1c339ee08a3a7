# SPDX-License-Identifier: Apache-2.0
"""``loraforge metadata``: whatever one has (Excel, JSON, several files) as one clean metadata.csv."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loraforge import DataError, quoted, show, speaker

if TYPE_CHECKING:
    from ..records import Conversation

say = speaker(__name__)

_FIELDS = (
    "instruction",
    "output",
    "input",
    "system",
    "prompt_template",
    "history",
    "messages",
    "tools",
    "split",
    "reviewer",
    "approved",
    "waive",
)


def _row(record: Conversation) -> dict[str, Any]:
    """A record as the loader would read it again, with what people said of it."""
    review = record.review
    content = record.content()
    if record.messages:  # they hold the question and the answer; two columns that say the same could be made to differ
        content |= {"instruction": "", "output": "", "history": "", "messages": json.dumps(_messages(record), ensure_ascii=False)}
    elif record.history:
        content["history"] = json.dumps(record.history, ensure_ascii=False)
    else:
        content["history"] = ""
    return {
        **content,
        "split": {"train": "train", "held-out": "test", None: ""}[record.side],
        "reviewer": review.reviewer,
        "approved": {True: "yes", False: "no", None: ""}[review.approved],
        "waive": ", ".join(review.waived),
    }


def _messages(record: Conversation) -> list[dict[str, Any]]:
    """OpenAI's shape of the messages."""
    made: list[dict[str, Any]] = []
    for one in record.messages:
        told = {
            "role": one.role,
            "content": one.content,
            "reasoning_content": one.reasoning,
            "tool_calls": json.loads(one.tool_calls) if one.tool_calls else "",
            "name": one.name,
            "tool_call_id": one.call_id,
            "weight": "" if one.learn else 0,
        }
        made.append({key: value for key, value in told.items() if value != "" or key in ("role", "content")})
    return made


# What a loader advises to write into the config, and the option of this command that says the same.
_OPTIONS = {"on_bad_row: skip": "--skip", "header_row: ": "--header-row ", "encoding: ": "--encoding ", "sheet: ": "--sheet "}
_KEY = re.compile(r"(?<![\w-])(columns: \{[^{}]*\}|on_bad_row: skip|header_row: (?=\d|N)|encoding: (?=\w)|sheet: \[[^][]*]|sheet: (?=\w))")


def _as_options(text: str) -> str:
    """Advice for a config as advice for this command: ``columns: {output: 答}`` is ``--columns output=答``."""

    def option(found: re.Match[str]) -> str:
        written = found.group()
        if written in _OPTIONS:
            return _OPTIONS[written]
        if written.startswith("sheet: ["):
            names = re.findall(r'"[^"]*"|[^,\s][^,]*', written.removeprefix("sheet: ").strip("[]"))
            return " ".join("--sheet " + quoted(name.strip().strip('"')) for name in names)
        pairs = re.findall(r"(\w+): (.*?)(?=, \w+: |\}$)", written.removeprefix("columns: {"))
        return " ".join("--columns " + quoted(f"{field}={column.strip(chr(34))}") for field, column in pairs)

    return _KEY.sub(option, text)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The file to write; by default metadata.csv in the folder of SOURCE.")
@click.option("--columns", metavar="FIELD=COLUMN", multiple=True, help="Which column is what, where the names are not recognised.")
@click.option("--encoding", default="auto", show_default=True, help="The encoding of text files.")
@click.option("--sheet", multiple=True, help="A sheet of a workbook: its name or number, or all. Once for each.")
@click.option("--header-row", type=click.IntRange(min=0), default=0, help="The row that names the columns; 0 finds it.")
@click.option("--look", is_flag=True, help="Only say which columns and first values each file has; write nothing.")
@click.option("--skip", is_flag=True, help="Leave bad rows out instead of stopping; they are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def metadata(
    source: Path,
    out: Path | None,
    columns: Sequence[str],
    encoding: str,
    sheet: Sequence[str],
    header_row: int,
    look: bool,
    skip: bool,
    as_json: bool,
) -> None:
    """Make a metadata.csv of a file, or of a folder of files: tables, workbooks, JSON, Parquet, Word, Markdown, also packed."""
    from loraforge import KeySet, RunConfig

    from ..data.table_loader import TableKeys, TableLoader

    if look:
        from .looking import tell_columns

        tell_columns(source, TableKeys(encoding=encoding, sheet=list(sheet), header_row=header_row), as_json)
        return
    target = out or (source if source.is_dir() else source.parent) / "metadata.csv"
    if target.exists():
        raise DataError(say("{path} exists already; nothing was written. Choose another --out.", path=target))
    mapping = dict(part.partition("=")[::2] for part in columns)
    config = RunConfig(train_data_dir=str(source), base_model="none", on_bad_row="skip" if skip else "stop")
    notes: list[str] = []
    keys = TableKeys(columns=mapping, encoding=encoding, sheet=list(sheet), header_row=header_row)
    try:
        records = list(
            TableLoader().load(config, KeySet({RunConfig: config, TableKeys: keys}), lambda text: notes.append(_as_options(text)))
        )
    except DataError as error:
        told = (say("note: {text}", text=text) for text in notes)
        raise DataError([*map(_as_options, error.problems), *told]) from None
    rows = [_row(record) for record in records]
    used = [field for field in _FIELDS if field in _FIELDS[:2] or any(row.get(field) for row in rows)]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, used, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    aside = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # With a byte order mark Excel opens Chinese text rightly by a double click.
        aside.write_text(buffer.getvalue(), encoding="utf-8-sig", newline="")
        aside.replace(target)
    except OSError as error:
        raise DataError(say("{path} cannot be written: {error}. Choose another --out.", path=target, error=error)) from None
    if as_json:
        show(json.dumps({"path": str(target), "rows": len(rows), "columns": used, "notes": notes}, ensure_ascii=False))
        return
    for note in notes:
        show(say("note: {text}", text=note))
    show(say("{path}: {n} rows, columns {columns}", path=target, n=len(rows), columns=", ".join(used)))
