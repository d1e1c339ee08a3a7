# SPDX-License-Identifier: Apache-2.0
"""Loads data files as a run does."""

from __future__ import annotations

from pathlib import Path

import pytest
from loraforge_text.data.table_loader import TableKeys, TableLoader
from loraforge_text.records import Conversation

from loraforge import DataError, KeySet, RunConfig


def load(
    path: Path, *, on_bad_row: str = "stop", metadata: str | None = None, split_by: str = "auto", **keys
) -> tuple[list[Conversation], list[str]]:
    """(records, notes) of a file or folder."""
    config = RunConfig(train_data_dir=str(path), metadata_path=metadata, base_model="x", on_bad_row=on_bad_row, split_by=split_by)
    notes: list[str] = []
    records = list(TableLoader().load(config, KeySet({RunConfig: config, TableKeys: TableKeys(**keys)}), notes.append))
    return records, notes


def problems(path: Path, **keys) -> list[str]:
    with pytest.raises(DataError) as error:
        load(path, **keys)
    return list(error.value.problems)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path
