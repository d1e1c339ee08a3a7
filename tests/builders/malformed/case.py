# SPDX-License-Identifier: Apache-2.0
"""One malformed input, and a project in which nothing is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEEP = 100_000


QUESTIONS = [(f"第{i}问：试用期工资怎么算？", f"答案{i}：根据《劳动合同法》第{i + 10}条。") for i in range(6)]


CHECK = ("check", "text", "config.yaml")


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Attributes:
        build: called with the folder of the case and what all cases share: a base, a finished run.
        command: the arguments; names of files are relative to the folder.
        says: what the message must contain: the file, and the row or line where there is one.
    """

    kind: str
    name: str
    build: Callable[[Path, Path, Path], None]
    says: tuple[str, ...]
    command: tuple[str, ...] = CHECK
    code: int = 2

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def sound(here: Path, base: Path, rows: bytes | None = None, **keys: Any) -> None:
    """A project in which nothing is wrong."""
    (here / "data").mkdir(parents=True, exist_ok=True)
    table = "instruction,output\n" + "".join(f"{q},{a}\n" for q, a in QUESTIONS)
    (here / "data" / "metadata.csv").write_bytes(table.encode() if rows is None else rows)
    settings = {"train_data_dir": str(here / "data"), "base_model": str(base), "output_dir": str(here / "out"), "lora_rank": 4, **keys}
    settings |= {"epochs": 1, "save_steps": 0, "eval_answers": False, "learning_rate": 0.01}
    (here / "config.yaml").write_text(json.dumps(settings, ensure_ascii=False, indent=0), encoding="utf-8")
