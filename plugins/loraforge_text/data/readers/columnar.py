"""Parquet and Arrow files, and the folders that Hugging Face's datasets writes."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from loraforge import DataError, speaker

from .extras import needed
from .json_rows import row_of
from .rows import LARGEST, Row, Source, Table

say = speaker(__name__)

_MOST_ROWS = 5_000_000


def read_columnar(source: Source) -> list[Table]:
    """The one table of a .parquet, .arrow or .feather file.

    Raises:
        DataError: if it is damaged, or holds more than anybody means.
    """
    with needed("parquet", ".parquet, .arrow, .feather"):
        import pyarrow
    try:
        return [Table(source.name, list(_rows(source)))]
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        text = str(error) or type(error).__name__
        raise DataError(
            say("{path}: is no readable {kind} file: {error}.", path=source.path, kind=source.suffix, error=text.split("\n")[0])
        ) from None


def _rows(source: Source) -> Iterator[Row]:
    number = size = 0
    for batch in _batches(source):
        size += batch.nbytes
        number_of = number + batch.num_rows
        if number_of > _MOST_ROWS or size > LARGEST:
            raise DataError(say("{path}: unpacks to more than the {most} MB that are read.", path=source.path, most=LARGEST // 10**6))
        for item in batch.to_pylist():
            number += 1
            yield row_of(say("{file}, row {n}", file=source.name, n=number), {key: _plain(value) for key, value in item.items()})


def _batches(source: Source) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    if source.suffix == ".parquet":
        yield from pyarrow.parquet.ParquetFile(pyarrow.BufferReader(source.data)).iter_batches(batch_size=1000)
        return
    if source.data.startswith(b"ARROW1"):
        file = pyarrow.ipc.open_file(pyarrow.BufferReader(source.data))
        for index in range(file.num_record_batches):
            yield file.get_batch(index)
        return
    yield from pyarrow.ipc.open_stream(pyarrow.BufferReader(source.data))


def _plain(value: Any) -> Any:
    """A value as JSON would hold it. Fields that a row lacks are null in every row of a column; they were never there."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return say("({n} bytes)", n=len(value))
    if isinstance(value, datetime.datetime | datetime.date):
        return (
            value.isoformat()[:10]
            if getattr(value, "hour", 0) == getattr(value, "minute", 0) == getattr(value, "second", 0) == 0
            else str(value)
        )
    return value
