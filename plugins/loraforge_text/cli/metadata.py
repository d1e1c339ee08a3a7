"""``loraforge metadata``: whatever one has (Excel, JSON, several files) as one clean metadata.csv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loraforge import DataError, speaker

if TYPE_CHECKING:
    from ..records import Conversation

say = speaker(__name__)

_FIELDS = ("instruction", "output", "input", "system", "prompt_template", "history", "reviewer", "approved", "waive")


def _row(record: Conversation) -> dict[str, Any]:
    """A record as the loader would read it again, with what people said of it."""
    review = record.review
    return {
        **record.content(),
        "history": json.dumps(record.history, ensure_ascii=False) if record.history else "",
        "reviewer": review.reviewer,
        "approved": {True: "yes", False: "no", None: ""}[review.approved],
        "waive": ", ".join(review.waived),
    }


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The file to write; by default metadata.csv in the folder of SOURCE.")
@click.option("--columns", metavar="FIELD=COLUMN", multiple=True, help="Which column is what, where the names are not recognised.")
@click.option("--skip", is_flag=True, help="Leave bad rows out instead of stopping; they are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def metadata(source: Path, out: Path | None, columns: Sequence[str], skip: bool, as_json: bool) -> None:
    """Make a metadata.csv of a table, or of a folder of tables: CSV, TSV, JSONL, JSON, Excel."""
    from loraforge import KeySet, RunConfig

    from ..data.table_loader import TableKeys, TableLoader

    target = out or (source if source.is_dir() else source.parent) / "metadata.csv"
    if target.exists():
        raise DataError(say("{path} exists already; nothing was written. Choose another --out.", path=target))
    mapping = dict(part.partition("=")[::2] for part in columns)
    config = RunConfig(train_data_dir=str(source), base_model="none", on_bad_row="skip" if skip else "stop")
    notes: list[str] = []
    records = list(TableLoader().load(config, KeySet({RunConfig: config, TableKeys: TableKeys(columns=mapping)}), notes.append))
    rows = [_row(record) for record in records]
    used = [field for field in _FIELDS if field in _FIELDS[:2] or any(row[field] for row in rows)]
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
        raise DataError(say("{path} cannot be written: {error}. Choose another --out.", path=target, error=error.strerror)) from None
    if as_json:
        click.echo(json.dumps({"path": str(target), "rows": len(rows), "columns": used, "notes": notes}, ensure_ascii=False))
        return
    for note in notes:
        click.echo(say("note: {text}", text=note))
    click.echo(say("{path}: {n} rows, columns {columns}", path=target, n=len(rows), columns=", ".join(used)))
