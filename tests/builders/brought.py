# SPDX-License-Identifier: Apache-2.0
"""What people bring to a studio: a workbook, a folder of pictures; and works that have begun."""

from __future__ import annotations

import json
import random
from pathlib import Path

import openpyxl
import yaml
from PIL import Image

HOSTILE = "<img src=x onerror=alert(1)>"


def workbook(place: Path) -> bytes:
    """A lawyer's workbook: columns of her own names, a title above them, an empty answer, markup in a cell."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["客户问", "律师答", "备注"])
    for n in range(1, 9):
        sheet.append([f"合同到期后第{n}年不续签有补偿吗？", f"应当支付{n}个月工资。根据《劳动合同法》第46条。", "旧案"])
    sheet.append([f"这是什么 {HOSTILE}？", "是一段标记。根据《劳动合同法》第3条。", None])
    sheet.append(["试用期多久？", None, None])
    book.save(place)
    return place.read_bytes()


def pictures(folder: Path, captions: bool = True) -> None:
    """Six small pictures, each of squares of its own colours."""
    folder.mkdir(parents=True)
    for n in range(6):
        colours = bytes(random.Random(n).randbytes(7 * 7 * 3))
        picture = Image.frombytes("RGB", (7, 7), colours).resize((96, 96 + 16 * (n % 2)), Image.Resampling.NEAREST)
        picture.save(folder / f"picture {n}.png")
        if captions:
            (folder / f"picture {n}.txt").write_text(f"a drawn shape number {n}", encoding="utf-8")


def begun(folder: Path, task: str, **keys: object) -> Path:
    """A work whose data lie in ``uploads``, as it is after the first step; its folder."""
    (folder / ".studio").mkdir(parents=True, exist_ok=True)
    (folder / ".studio" / "work.json").write_text(json.dumps({"task": task}), encoding="utf-8")
    values = {
        "train_data_dir": "./uploads",
        "base_model": "tiny-chat" if task == "text" else "tiny-sd",
        "output_dir": "./output/run",
        **keys,
    }
    (folder / f"{folder.name}.yaml").write_text("# mine\n" + yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return folder
