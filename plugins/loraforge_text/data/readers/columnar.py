# SPDX-License-Identifier: Apache-2.0
"""Parquet and Arrow files, and the folders that Hugging Face's datasets writes."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from loraforge import DataError, speaker, why

from .extras import needed
from .json_rows import row_of
from .rows import LARGEST, Reading, Row, Source, Table

say = speaker(__name__)

_MOST_ROWS = 1_000_000


def read_columnar(source: Source, reading: Reading) -> list[Table]:
    """The one table of a .parquet, .arrow or .feather file.

    Raises:
        DataError: if it is damaged, or holds more than anybody means.
    """
    with needed("parquet", ".parquet, .arrow, .feather"):
        import pyarrow
    try:
        return [Table(source.name, list(_rows(source, reading)))]
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        text = why(error)
        raise DataError(
            say("{path}: is no readable {kind} file: {error}.", path=source.path, kind=source.suffix, error=text.split("\n")[0])
        ) from None


def _rows(source: Source, reading: Reading) -> Iterator[Row]:
    refused: dict[str, None] = {}
    rows = []
    for item in (item for batch in _batches(source) for item in batch.to_pylist()):
        made = {}
        for key, value in item.items():
            try:
                made[key] = _plain(value)
            except UnicodeDecodeError:
                refused[key] = None
        rows.append(made)
    if refused:
        names = ", ".join(list(refused)[:20])
        reading.note(say("{file}: these columns hold bytes that are no text, and are not read: {names}", file=source.name, names=names))
    for number, made in enumerate(rows, 1):
        yield row_of(say("{file}, row {n}", file=source.name, n=number), {key: value for key, value in made.items() if key not in refused})


def _batches(source: Source) -> list[Any]:
    """All record batches: counted before any value becomes an object of Python."""
    import pyarrow
    import pyarrow.parquet

    buffer = pyarrow.BufferReader(source.data)
    if source.suffix == ".parquet":
        file = pyarrow.parquet.ParquetFile(buffer)
        if file.metadata.num_rows > _MOST_ROWS:  # of equal rows a million fit into a kilobyte
            raise DataError(_too_large(source))
        reader: Any = file.iter_batches(batch_size=1000)
    elif source.data.startswith(b"ARROW1"):
        opened = pyarrow.ipc.open_file(buffer)
        reader = (opened.get_batch(index) for index in range(opened.num_record_batches))
    else:
        reader = pyarrow.ipc.open_stream(buffer)
    batches = []
    rows = size = 0
    for batch in reader:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows > _MOST_ROWS or size > LARGEST:
            raise DataError(_too_large(source))
        batches.append(batch)
    return batches


def _too_large(source: Source) -> str:
    return say("{path}: holds more than the {n} rows or {most} MB that are read.", path=source.path, n=_MOST_ROWS, most=LARGEST // 10**6)


def _plain(value: Any) -> Any:
    """A value as JSON would hold it. Fields that a row lacks are null in every row of a column; they were never there.

    Raises:
        UnicodeDecodeError: if it is bytes that are no text.
    """
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, datetime.datetime | datetime.date):
        return (
            value.isoformat()[:10]
            if getattr(value, "hour", 0) == getattr(value, "minute", 0) == getattr(value, "second", 0) == 0
            else str(value)
        )
    return value
