# SPDX-License-Identifier: Apache-2.0
"""Files to raw rows, one module for each kind of file. They know nothing of questions and answers but what marks them in running text."""

from __future__ import annotations

from loraforge import DataError, decode_text, speaker

from .rows import Reading, Source, Table

say = speaker(__name__)

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
# What is surely data, in the order in which errors name it; a workbook's sheet, a table, a list of objects.
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", *WORKBOOKS, ".parquet", ".arrow", ".feather")
# What may be data, or notes beside them.
PROSE = (".docx", ".md", ".markdown", ".txt")
SUFFIXES = (*TABLES, *PROSE, ".zip")


def kind_of(name: str) -> str:
    """The suffix that says how a file is read, ``.csv`` for ``a.csv.gz`` too; empty if it is of no kind that is read."""
    plain = name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), "")


def read_tables(source: Source, reading: Reading, *, only_questions: bool = False) -> list[Table]:
    """The tables of one file.

    Args:
        only_questions: of running text, take headings for questions only if they read like ones.

    Raises:
        DataError: if the file as a whole cannot be read.
    """
    from .packed import unpack_gzip, unpack_zip

    if source.name.lower().endswith(".gz"):
        source = unpack_gzip(source)
    suffix = source.suffix
    if suffix == ".zip":
        return _zipped(unpack_zip(source), source, reading)
    if suffix in WORKBOOKS:
        from .workbooks import read_workbook

        return read_workbook(source, reading)
    if suffix in (".parquet", ".arrow", ".feather"):
        from .columnar import read_columnar

        return read_columnar(source, reading)
    if suffix == ".docx":
        from .word import read_word

        return read_word(source, reading, only_questions=only_questions)
    if suffix not in SUFFIXES:
        raise DataError(_unreadable(source, suffix))
    return _text_tables(source, reading, only_questions)


def _text_tables(source: Source, reading: Reading, only_questions: bool) -> list[Table]:
    from .delimited import SEPARATORS, read_delimited, read_markdown_tables
    from .json_rows import read_json, read_json_lines
    from .questions import markdown_lines, read_questions, text_lines

    text = decode_text(source.data, reading.encoding, reading.note, source.path, source.name)
    if source.suffix in (".csv", ".tsv"):
        return read_delimited(source, text, reading)
    if source.suffix in (".jsonl", ".ndjson"):
        return read_json_lines(source, text, reading)
    if source.suffix == ".json":
        return read_json(source, text, reading)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if source.suffix == ".txt" and any(reading.is_header([cell.strip() for cell in first.split(mark)]) for mark in SEPARATORS):
        return read_delimited(source, text, reading)  # a table by another name
    lines = text_lines(text) if source.suffix == ".txt" else markdown_lines(text)
    if source.suffix != ".txt" and (tables := read_markdown_tables(source, lines, reading)):
        return tables
    return read_questions(source, lines, reading, lambda n: say("{file}, line {n}", file=source.name, n=n), only_questions=only_questions)


def _zipped(members: list[Source], source: Source, reading: Reading) -> list[Table]:
    from .splits import split_called

    data = [member for member in members if kind_of(member.name) in TABLES]
    chosen = data or [member for member in members if kind_of(member.name) in PROSE]
    if not chosen:
        there = ", ".join(member.name.removeprefix(f"{source.name}/") for member in members[:10]) or say("none")
        raise DataError(
            say(
                "{path}: holds no file that is read ({kinds}). There are: {there}.",
                path=source.path,
                kinds=", ".join(SUFFIXES[:-1]),
                there=there,
            )
        )
    left = [member.name for member in members if member not in chosen]
    if left:
        reading.note(say("{file}: not read: {left}", file=source.name, left=", ".join(left[:20])))
    tables: list[Table] = []
    problems: list[str] = []
    for member in chosen:
        called = [stem(member.name), *reversed(member.name.removeprefix(f"{source.name}/").split("/")[:-1])]  # test/a.csv says it too
        split = next((side for name in called if (side := split_called(name))), "") if len(chosen) > 1 else ""
        try:
            tables += [Table(t.name, t.rows, t.split or split) for t in read_tables(member, reading, only_questions=len(chosen) > 1)]
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return tables


def stem(name: str) -> str:
    """``legal_test`` of ``folder/legal_test.csv.gz``."""
    plain = name.rpartition("/")[2]
    plain = plain[:-3] if plain.lower().endswith(".gz") else plain
    kind = kind_of(plain)
    return plain[: -len(kind)] if kind else plain


def _unreadable(source: Source, suffix: str) -> str:
    if suffix == ".doc":
        return say("{path}: is an old Word file. Save it as .docx.", path=source.path)
    if suffix == ".pdf":
        return say("{path}: is a PDF, which has no rows. Copy its questions and answers into a table.", path=source.path)
    if suffix in (".7z", ".rar", ".tar", ".tgz", ".bz2", ".xz", ".zst"):
        return say("{path}: is an archive of a kind that is not read. Unpack it, or pack its files as .zip.", path=source.path)
    return say("{path}: cannot read files of this kind; there are {kinds}.", path=source.path, kinds=" ".join(SUFFIXES))
