# SPDX-License-Identifier: Apache-2.0
"""``loraforge inspect``: what a LoRA file is, how strong, and which programs take it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from loraforge import show, speaker

say = speaker(__name__)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
def inspect(file: Path, as_json: bool) -> None:
    """Say what a LoRA file, an adapter folder or a run is, how strong, and which programs take it. Nothing is written."""
    from ..lora_files.lora_file import read_lora
    from .places import loras_of
    from .summary import sentences, summarise

    chosen, *others = loras_of(file)
    summary = summarise(lora := read_lora(chosen))
    if others:
        summary["others"] = [str(other) for other in others]
    if as_json:
        text = json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False)
        # JSON lets signs through that a terminal obeys; what is not printable is written as its number.
        show("".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text))
        return
    for line in [*sentences(lora, summary), *(say("Also here: {path}", path=other) for other in others)]:
        show(line)
