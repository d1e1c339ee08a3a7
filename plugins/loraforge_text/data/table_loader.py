"""The data loader ``table``: every common layout of questions and answers, from a file or a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from loraforge import DataError, Keys, KeySet, Loader, RunConfig, condense, decides, speaker

from ..records import Conversation
from .columns import FIELDS, is_header, listed, map_columns, to_conversation
from .conversations import Remarks, are_messages, number_of
from .files import DataFile, find_files, given_hold_out
from .preferences import is_rejected, refuse_undecided
from .readers import read_tables
from .readers.number_formats import cell_text
from .readers.rows import Reading, Row, Source, Table
from .readers.splits import TEST, split_called

say = speaker(__name__)


class TableKeys(Keys):
    """The keys of the table loader."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which column is what, where the names are not recognised: {instruction: 客户问, output: 律师答}. '': none is.",
    )
    encoding: str = Field("auto", description="The encoding of text files: auto, or utf-8, gb18030, big5 and so on.")
    sheet: str = Field(
        "",
        coerce_numbers_to_str=True,  # sheet: 2 is a number to YAML
        description="The sheet of a workbook that is read: its name or number. By default the first with known columns.",
    )
    header_row: int = Field(0, ge=0, description="The row of a table that names the columns, counted from 1. 0 finds it.")


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
        problems: list[str] = []
        read: list[tuple[Table, DataFile]] = []
        for file in find_files(config, note):
            given = {**file.columns, **options.columns}
            reading = Reading(options.encoding, options.sheet, options.header_row, lambda names, given=given: is_header(names, given), note)  # type: ignore[misc]
            try:
                read += [(table, file) for table in read_tables(Source.of(file.path, file.name), reading, only_questions=file.only_if_data)]
            except DataError as error:  # go on to the next file: all problems at once
                if file.only_if_data:
                    note(say("not read: {problem}", problem=error))
                else:
                    problems += error.problems
        records, bad = self._records(read, options, note, problems)
        if config.on_bad_row == "skip":
            for line in condense(bad):
                note(say("skipped: {line}", line=line))
        elif bad:
            problems += [*condense(bad), say("Bad rows: {n}. on_bad_row: skip leaves them out and goes on.", n=len(bad))]
        if problems:
            raise DataError(problems)
        return records

    def _records(
        self, read: Sequence[tuple[Table, DataFile]], options: TableKeys, note: Callable[[str], None], problems: list[str]
    ) -> tuple[list[Conversation], list[str]]:
        """(records, lines about bad rows). Files that cannot be used go to ``problems``."""
        records: list[Conversation] = []
        bad: list[str] = []
        hold_out = given_hold_out({table.name: table.split or file.split for table, file in read}, note)
        for name, tables in _by_file(read).items():
            rows = [row for table, _ in tables for row in table.rows]
            try:
                columns = _columns(name, rows, {**tables[0][1].columns, **options.columns}, note)
            except DataError as error:
                problems += error.problems
                continue
            remarks = Remarks()
            for table, file in tables:
                good, wrong = _convert(table.rows, columns, remarks)
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


def _columns(name: str, rows: list[Row], given: Mapping[str, str], note: Callable[[str], None]) -> dict[str, str]:
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
        if not is_rejected(column) and all(are_messages(row.values[column]) for row in rows if row.problem is None and column in row.values)
    ]
    columns = map_columns(names, given, name, decisions, conversations)
    # Columns of these names may hold something else: the patient's weight, a split of the bill.
    for field, understood in (("weight", lambda cell: number_of(cell) is not None), ("split", split_called)):
        cells = [text for row in rows if (text := cell_text(row.values.get(columns.get(field, ""))).strip())]
        if field in columns and field not in given and not all(map(understood, cells)):
            del columns[field]
    renamed = [f"{column} -> {field}" for field, column in columns.items() if column != field]
    unused = [column for column in names if column not in columns.values()]
    if renamed:
        note(say("{file}: columns {renamed}", file=name, renamed=listed(renamed)))
    if unused:
        note(
            say(
                "{file}: columns not used: {unused} (columns: {{input: {first}}} would take that one as material)",
                file=name,
                unused=listed(unused),
                first=listed(unused[:1]),
            )
        )
    return columns


def _convert(rows: Sequence[Row], columns: Mapping[str, str], remarks: Remarks) -> tuple[list[Conversation], list[str]]:
    """(records, lines about bad rows)."""
    records: list[Conversation] = []
    bad: list[str] = []
    for row in rows:
        if row.problem is not None:
            bad.append(f"{row.where}: {row.problem}")
            continue
        record, problems = to_conversation(row.where, row.values, columns, remarks)
        bad += [f"{row.where}: {problem}" for problem in problems]
        if record is not None:
            records.append(record)
    return records, bad
