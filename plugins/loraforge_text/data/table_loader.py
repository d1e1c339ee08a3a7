# SPDX-License-Identifier: Apache-2.0
"""The data loader ``table``: every common layout of questions and answers, from a file or a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator

from loraforge import DataError, Keys, KeySet, Loader, RunConfig, condense, decides, fold_name, speaker

from ..records import Conversation
from .columns import FIELDS, SYNONYMS, is_header, listed, map_columns, same_fields
from .conversations import Remarks, are_messages, number_of, transcript
from .files import DataFile, find_files, given_hold_out
from .left_out import refuse_marks
from .preferences import is_rejected, refuse_undecided
from .raw_rows import to_conversation
from .readers import WORKBOOKS, kind_of, read_tables
from .readers.number_formats import cell_text
from .readers.rows import Reading, Repeated, Row, Source, Table
from .readers.splits import TEST, split_called
from .tools import are_tools

say = speaker(__name__)

# The values of split_by that name no column.
_NO_COLUMNS = ("auto", "answer", "question")


class TableKeys(Keys):
    """The keys of the table loader."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which column is what, where the names are not recognised: {instruction: 客户问, output: 律师答}. '': none is.",
    )
    encoding: str = Field("auto", description="The encoding of text files: auto, or utf-8, gb18030, big5 and so on.")
    sheet: str | list[str] = Field(
        "",
        description="The sheets of a workbook that are read: names or numbers, or all. By default the first with known columns.",
    )
    header_row: int = Field(0, ge=0, description="The row of a table that names the columns, counted from 1. 0 finds it.")

    @field_validator("sheet", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return [str(one) if type(one) in (int, float) else one for one in value]
        return str(value) if type(value) in (int, float) else value  # sheet: 2 is a number to YAML


class TableLoader(Loader[Conversation]):
    """Tables, workbooks, documents; Alpaca, ShareGPT, OpenAI and TRL shapes; English and Chinese column names."""

    name = "table"
    task = "text"
    help = "CSV, TSV, JSONL, JSON, Excel, ODS, Parquet, Arrow, Word, Markdown, also packed; English or Chinese column names."
    keys = TableKeys

    def load(self, config: RunConfig, keys: KeySet, note: Callable[[str], None]) -> Iterable[Conversation]:
        options = keys[TableKeys]
        unknown = sorted(set(options.columns) - set(FIELDS))
        if unknown:
            raise DataError(
                say(
                    "columns: '{name}' is no field. There are: {fields}; write them as field: column.",
                    name=unknown[0],
                    fields=", ".join(FIELDS),
                )
            )
        wanted = [options.sheet] if isinstance(options.sheet, str) else options.sheet
        sheets = tuple(name.strip() for name in wanted if name.strip())
        problems: list[str] = []
        read: list[tuple[Table, DataFile]] = []
        files = find_files(config, note)
        if sheets and not any(kind_of(file.path.name) in (*WORKBOOKS, ".zip") for file in files):
            note(say("sheet: {sheets}: none of the files is a workbook, so it says nothing", sheets=", ".join(sheets)))
        for file in files:
            given = {**file.described.columns, **options.columns}
            reading = Reading(options.encoding, sheets, options.header_row, lambda names, given=given: is_header(names, given), note)  # type: ignore[misc]
            try:
                tables = read_tables(Source.of(file.path, file.name), reading, only_questions=file.only_if_data)
                read += [(replace(table, rows=file.described.renamed(table.rows)), file) for table in tables]
            except DataError as error:  # go on to the next file: all problems at once
                if file.only_if_data:
                    note(say("not read: {problem}", problem=error))
                else:
                    problems += error.problems
        records, bad = self._records(read, options, note, problems, config.split_by.strip())
        if config.on_bad_row == "skip":
            for line in condense(f"{where}: {problem}" for where, problem in bad):
                note(say("skipped: {line}", line=line))
        elif bad:
            rows = len({where for where, _ in bad})
            problems += condense(f"{where}: {problem}" for where, problem in bad)
            problems.append(say("Bad rows: {n}. on_bad_row: skip leaves them out and goes on.", n=rows))
        if problems:
            raise DataError(problems)
        return records

    def _records(
        self, read: Sequence[tuple[Table, DataFile]], options: TableKeys, note: Callable[[str], None], problems: list[str], split_by: str
    ) -> tuple[list[Conversation], list[tuple[str, str]]]:
        """(records, bad rows with what is wrong). Files that cannot be used go to ``problems``."""
        names_of_all = [column for table, _ in read for row in table.rows for column in row.values if column]
        grouping = _grouping(split_by, list(dict.fromkeys(names_of_all)), problems)
        records: list[Conversation] = []
        bad: list[tuple[str, str]] = []
        there = {column for table, _ in read for row in table.rows for column in row.values}
        hold_out = given_hold_out({table.name: table.split or file.split for table, file in read}, note)
        for name, tables in _by_file(read).items():
            rows = [row for table, _ in tables for row in table.rows]
            names = list(dict.fromkeys(column for row in rows for column in row.values if column))
            # What the config says of a column holds for the files that have it.
            said = {field: column for field, column in options.columns.items() if not column or column in names or column not in there}
            given = {**tables[0][1].described.columns, **said}
            same = same_fields(names, given, rows)
            try:
                columns = _columns(name, _renamed(rows, same), given, note, grouping)
            except DataError as error:
                problems += error.problems
                continue
            remarks = Remarks()
            for other, column in same.items():
                note(say("{file}: '{other}' is read as '{column}', as no row has both", file=name, other=other, column=column))
            for table, file in tables:
                good, wrong = _convert(_renamed(table.rows, same), columns, remarks, grouping)
                if hold_out:
                    side: Literal["train", "held-out"] = "held-out" if (table.split or file.split) == TEST else "train"
                    good = [one if one.side else replace(one, side=side) for one in good]
                records += good
                bad += wrong
            remarks.tell(name, note)
        # What is held out comes first: of two rows that ask the same, one on each side, the one that is learned gives way.
        return sorted(records, key=lambda record: record.side != "held-out"), bad


def _by_file(read: Sequence[tuple[Table, DataFile]]) -> Mapping[str, list[tuple[Table, DataFile]]]:
    files: dict[str, list[tuple[Table, DataFile]]] = {}
    for table, file in read:
        files.setdefault(table.name, []).append((table, file))
    return files


def _renamed(rows: Sequence[Row], same: Mapping[str, str]) -> Sequence[Row]:
    """The rows, with one name for what some of them call otherwise."""
    if not same:
        return rows
    made = []
    for row in rows:
        values: dict[str, object] = {}
        for column, value in row.values.items():
            if same.get(column, column) not in values or value not in (None, ""):
                values[same.get(column, column)] = value
        made.append(replace(row, values=values))
    return made


def _grouping(split_by: str, names: Sequence[str], problems: list[str]) -> str | None:
    """The column that ``split_by`` names; None where it names none. One that there is not goes to ``problems``."""
    if split_by in _NO_COLUMNS or split_by in names:
        return split_by if split_by not in _NO_COLUMNS else None
    found = [name for name in names if fold_name(name) == fold_name(split_by)]
    if len(found) == 1:
        return found[0]
    problems.append(
        say(
            "split_by: there is no column '{column}'. It takes answer, question, auto, or one of the columns: {names}.",
            column=split_by,
            names=listed(names) or say("none"),
        )
    )
    return None


def _columns(
    name: str, rows: Sequence[Row], given: Mapping[str, str], note: Callable[[str], None], grouping: str | None = None
) -> dict[str, str]:
    """The columns of one file, reported where their names are not our own."""
    names = list(dict.fromkeys(column for row in rows for column in row.values if column))
    if not names:
        if not rows:
            raise DataError(say("{path}: there are no rows in it.", path=name))
        return {}
    refuse_undecided(names, given, rows, name)
    decisions = {column for column in names if decides(row.values.get(column) for row in rows)}
    conversations = [
        column
        for column in names
        if not is_rejected(column) and all(_converses(row.values[column]) for row in rows if row.problem is None and column in row.values)
    ]
    used = {*given.values(), *(called for field in SYNONYMS if field not in given for called in SYNONYMS[field])}
    twice = [column.of for column in names if isinstance(column, Repeated) and used & {column.of, fold_name(column.of)}]
    if twice:
        raise DataError(say("{path}: the column '{name}' occurs twice.", path=name, name=twice[0]))
    columns = map_columns(names, given, name, decisions, conversations)
    _drop_other_meanings(name, columns, given, rows)
    if "weight" not in given:
        refuse_marks(name, [column for column in names if column not in {*columns.values(), *given.values()}], rows)
    renamed = [f"{column} -> {field}" for field, column in columns.items() if column != field]
    unused = [column for column in names if column not in columns.values() and column != grouping]
    if renamed:
        note(say("{file}: columns {renamed}", file=name, renamed=listed(renamed)))
    for column in unused:
        sides = [split_called(cell_text(row.values.get(column))) for row in rows]
        if all(sides) and len(set(sides)) == 2:
            note(say("{file}: '{column}' seems to say what is held out; columns: {{split: {column}}} goes by it", file=name, column=column))
    material = next((column for column in unused if not is_rejected(column)), None)
    if unused and (material is None or "input" in columns or "messages" in columns):
        note(say("{file}: columns not used: {unused}", file=name, unused=listed(unused)))
    elif unused:
        note(
            say(
                "{file}: columns not used: {unused} (columns: {{input: {first}}} would take that one as material)",
                file=name,
                unused=listed(unused),
                first=listed([material or ""]),
            )
        )
    return columns


def _converses(value: object) -> bool:
    return are_messages(value) or bool(transcript(value))


def _drop_other_meanings(name: str, columns: dict[str, str], given: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Forgets columns that are called like a field of ours and hold something else: the patient's weight, a split of the bill, tools.

    Raises:
        DataError: if some weights are understood and others are not.
    """
    understood: Mapping[str, Callable[[str], bool]] = {
        "weight": lambda cell: number_of(cell) is not None, "split": lambda cell: bool(split_called(cell)), "tools": are_tools,
    }  # fmt: skip
    for field, is_one in understood.items():
        if field not in columns or field in given:
            continue
        column = columns[field]
        cells = [row.values.get(column) for row in rows]
        texts = [text for cell in cells if not isinstance(cell, dict | list) and (text := cell_text(cell).strip())]
        strange = [text for text in texts if not is_one(text)]
        if field == "weight" and 0 < len(strange) < len(texts):
            raise DataError(
                say(
                    "{file}: the column '{column}' says of some rows whether they are learned, but of others '{value}'. Mend these, or "
                    'write columns: {{weight: ""}} if it means something else.',
                    file=name,
                    column=column,
                    value=listed(strange[:1]),
                )
            )
        meant = field == "tools" and (len(strange) < sum(cell not in (None, "", []) for cell in cells) or "messages" in columns)
        if strange and not meant:
            del columns[field]


def _convert(
    rows: Sequence[Row], columns: Mapping[str, str], remarks: Remarks, grouping: str | None = None
) -> tuple[list[Conversation], list[tuple[str, str]]]:
    """(records, bad rows with what is wrong)."""
    records: list[Conversation] = []
    bad: list[tuple[str, str]] = []
    for row in rows:
        if row.problem is not None:
            bad.append((row.where, row.problem))
            continue
        record, problems = to_conversation(row.where, row.values, columns, remarks)
        bad += [(row.where, problem) for problem in problems]
        if record is not None:
            records.append(replace(record, group=_cell(row.values.get(grouping))) if grouping else record)
    return records, bad


def _cell(value: object) -> str | None:
    """What a column that groups rows says; None where it says nothing."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str) if isinstance(value, dict | list) else cell_text(value)
    return text.strip() or None
