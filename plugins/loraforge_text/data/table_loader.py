"""The data loader ``table``: every common layout of questions and answers, from a file or a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import Field

from loraforge import DataError, Keys, KeySet, Loader, RunConfig, decides, speaker

from ..records import Conversation
from .columns import SYNONYMS, listed, map_columns, to_conversation
from .tables import SUFFIXES, Row, read_rows

say = speaker(__name__)


class TableKeys(Keys):
    """The keys of the table loader."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which column is what, where the names are not recognised: {instruction: 客户问, output: 律师答}.",
    )
    encoding: str = Field("auto", description="The encoding of text files: auto, or utf-8, gb18030, big5 and so on.")


class TableLoader(Loader[Conversation]):
    """CSV, TSV, JSONL, JSON and Excel; Alpaca, ShareGPT and OpenAI shapes; English and Chinese column names."""

    name = "table"
    task = "text"
    help = "CSV, TSV, JSONL, JSON, Excel (.xlsx), from a file or a folder; English or Chinese column names."
    keys = TableKeys

    def load(self, config: RunConfig, keys: KeySet, note: Callable[[str], None]) -> Iterable[Conversation]:
        options = keys[TableKeys]
        unknown = sorted(set(options.columns) - set(SYNONYMS))
        if unknown:
            raise DataError(
                say(
                    "columns: '{name}' is no field. There are: {fields}; write them as field: column.",
                    name=unknown[0],
                    fields=", ".join(SYNONYMS),
                )
            )
        records: list[Conversation] = []
        problems: list[str] = []
        bad_rows = 0
        for path in find_files(config, note):
            try:
                rows = read_rows(path, options.encoding, note)
                columns = _columns(path, rows, options, note)
            except DataError as error:  # go on to the next file: all problems at once
                problems += error.problems
                continue
            good, bad = _convert(rows, columns)
            records += good
            if config.on_bad_row == "skip":
                for line in bad:
                    note(say("skipped: {line}", line=line))
            else:
                problems += bad
                bad_rows += len(bad)
        if bad_rows:
            problems.append(say("Bad rows: {n}. on_bad_row: skip leaves them out and goes on.", n=bad_rows))
        if problems:
            raise DataError(problems)
        return records


def find_files(config: RunConfig, note: Callable[[str], None]) -> list[Path]:
    """The data files: ``metadata_path``; otherwise ``metadata.*`` in the folder; otherwise every data file in it.

    Raises:
        DataError: if there is none.
    """
    start = Path(config.metadata_path or config.train_data_dir)
    if start.is_file():
        return [start]
    if not start.is_dir():
        raise DataError(say("{path}: there is no such file or folder.", path=start.absolute()))
    files = sorted(p for p in start.iterdir() if p.is_file() and not p.name.startswith((".", "~$")))
    data = [p for p in files if p.suffix.lower() in SUFFIXES]
    named = [p for p in data if p.stem.lower() == "metadata"]
    chosen = named or data
    if not chosen:
        raise DataError(
            say(
                "{path}: there is no data file. Put a metadata.csv with the columns instruction and output into it (or {kinds}).",
                path=start.absolute(),
                kinds=", ".join(SUFFIXES),
            )
        )
    left = [p.name for p in data if p not in chosen]
    if left:
        note(say("read: {files}; left out: {left}", files=", ".join(p.name for p in chosen), left=", ".join(left)))
    return chosen


def _columns(path: Path, rows: list[Row], options: TableKeys, note: Callable[[str], None]) -> dict[str, str]:
    """The columns of one file, reported where their names are not our own."""
    names = list(dict.fromkeys(name for row in rows for name in row.values if name))
    if not names:
        if not rows:
            raise DataError(say("{path}: there are no rows in it.", path=path))
        return {}
    decisions = {name for name in names if decides(row.values.get(name) for row in rows)}
    columns = map_columns(names, options.columns, path.name, decisions)
    renamed = [f"{column} -> {field}" for field, column in columns.items() if column != field]
    unused = [name for name in names if name not in columns.values()]
    if renamed:
        note(say("{file}: columns {renamed}", file=path.name, renamed=listed(renamed)))
    if unused:
        note(say("{file}: columns not used: {unused}", file=path.name, unused=listed(unused)))
    return columns


def _convert(rows: list[Row], columns: dict[str, str]) -> tuple[list[Conversation], list[str]]:
    """(records, lines about bad rows)."""
    records: list[Conversation] = []
    bad: list[str] = []
    for row in rows:
        if row.problem is not None:
            bad.append(f"{row.where}: {row.problem}")
            continue
        record, problems = to_conversation(row.where, row.values, columns)
        bad += [f"{row.where}: {problem}" for problem in problems]
        if record is not None:
            records.append(record)
    return records, bad
