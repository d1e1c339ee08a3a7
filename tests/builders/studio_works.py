# SPDX-License-Identifier: Apache-2.0
"""Works of a studio as they lie on the disk after the first step: a few rows or pictures, and the config that ``init`` wrote."""

from __future__ import annotations

import json
from pathlib import Path

PLACES = ("Harbour", "Mill", "Orchard", "Chapel", "Bridge", "Quarry", "Market", "Forge", "Station", "Meadow")
TEXT = """\
# rows of a friend, in ten languages
train_data_dir: "./data"
base_model: tiny-chat
task_type: text-generation
lora_rank: 4        # enough for so few
batch_size: 2
epochs: 40
learning_rate: 2.0e-3
max_seq_length: 64
save_steps: 5
eval_answers: false
"""
IMAGE = """\
train_data_dir: "./data"
base_model: tiny-sd
trigger_word: "blot"
resolution: 64
bucket_step: 32
lora_rank: 4
batch_size: 2
max_steps: 4
save_steps: 2
learning_rate: 2.0e-3
save_precision: fp32
sample_steps: 2
stop_on: never
sample_prompts:
  - "blot, a red square"  # the first
  - "blot, a green square"
"""


def text_work(home: Path, name: str = "rows", config: str = TEXT) -> Path:
    """A work with ten rows that are unlike each other."""
    folder = _begin(home, name, "text", config)
    rows = "".join(f"Who keeps the {place}?,{place}keeper number {n * 37} in the {place[::-1]} house\n" for n, place in enumerate(PLACES))
    (folder / "data/rows.csv").write_text("question,answer\n" + rows, encoding="utf-8")
    return folder


def picture_work(home: Path, name: str = "blots", config: str = IMAGE) -> Path:
    """A work with six pictures and a caption for each."""
    from PIL import Image, ImageDraw

    folder = _begin(home, name, "image", config)
    for number, colour in enumerate(("red", "green", "blue", "orange", "black", "purple")):
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).rectangle((4 + 5 * number, 8, 24 + 6 * number, 20 + 6 * number), fill=colour)
        picture.save(folder / f"data/{number}.png")
        (folder / f"data/{number}.txt").write_text(f"a {colour} square, place {number}", encoding="utf-8")
    return folder


def _begin(home: Path, name: str, task: str, config: str) -> Path:
    folder = home / name
    (folder / "data").mkdir(parents=True)
    (folder / ".studio").mkdir()
    (folder / ".studio/work.json").write_text(json.dumps({"task": task}))
    config = f"{config}output_dir: ./output/{name}\n"
    for file in (folder / f"{name}.yaml", folder / ".studio/first.yaml"):
        file.write_text(config, encoding="utf-8")
    return folder
