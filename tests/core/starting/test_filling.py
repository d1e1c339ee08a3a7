# SPDX-License-Identifier: Apache-2.0
"""A config is filled in from the data, says why, and passes ``check``."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest
from builders.tiny_text import write_rows

from loraforge import ConfigError, ConfigLine, Keys, Record, Sampling, Start, Task
from loraforge.data.dataset import load_data
from loraforge.plan import make_plan
from loraforge.starting import filling
from loraforge.starting.config_text import config_file
from loraforge.starting.filling import fill_in, first_config, written_path


@pytest.fixture
def fill(host, tmp_path, base):
    """Fills in a config for a folder of rows: (what was filled in, the plan of the config as it is then written)."""

    def go(task=None, **start):
        task = task or host.task("text")
        task = replace(task, start=replace(task.start, **start)) if start else task
        config = tmp_path / "my.yaml"
        lines = first_config(task, str(tmp_path / "data"), str(base), str(tmp_path / "out"))
        filled = fill_in(host, task, lines, config, lambda text: None)
        config.write_text(config_file(["x"], filled.lines), encoding="utf-8")
        return filled, make_plan(host, "text", config)

    return go


def test_what_is_filled_in_passes_check_and_says_why(fill, tmp_path):
    write_rows(tmp_path / "data" / "metadata.csv")
    filled, plan = fill()
    assert not filled.problems and load_data(plan).records
    chosen = {line.key: line for line in filled.chosen}
    longest = load_data(plan).examination.facts["longest_row"]
    assert chosen["max_seq_length"].value >= longest and str(longest) in chosen["max_seq_length"].why
    assert all(line.why for line in filled.chosen)
    assert any("instruction" in note or "template: " in note for note in filled.notes)


def test_what_is_told_is_told_of_the_config_that_is_written(fill, tmp_path):
    write_rows(tmp_path / "data" / "metadata.csv", 40)
    filled, plan = fill(suggest=lambda seen: [ConfigLine("eval_ratio", 0.5, "half of them")])
    (note,) = [note for note in filled.notes if note.startswith("held out: ")]
    assert note.startswith("held out: 20 of 40 rows") and note in load_data(plan).notes


def test_rows_that_are_too_long_for_the_first_config_are_seen_all_the_same(fill, tmp_path):
    rows = "".join(f"问题{i}？,{'很长的答案' * 200}{i}。\n" for i in range(12))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.csv").write_text("问题,答案\n" + rows, encoding="utf-8")
    filled, plan = fill()
    longest = load_data(plan).examination.facts["longest_row"]
    assert longest > 512 and dict((line.key, line.value) for line in filled.lines)["max_seq_length"] >= longest


def test_bad_rows_are_told_as_check_tells_them_and_the_rest_is_seen(fill, tmp_path):
    write_rows(tmp_path / "data" / "metadata.csv")
    with (tmp_path / "data" / "metadata.csv").open("a", encoding="utf-8") as file:
        file.write("没有答案的问题？,\n")
    filled, plan = fill()
    with pytest.raises(Exception) as error:
        load_data(plan, lambda text: None)
    assert filled.problems == list(error.value.problems) and "max_seq_length" in {line.key for line in filled.chosen}
    assert not [note for note in filled.notes if note.startswith("skipped")]


def test_unknown_columns_are_guessed_where_they_can_be_read_so(fill, tmp_path):
    (tmp_path / "data").mkdir()
    rows = "".join(f"{i},问题{i}？,答案{i}。\n" for i in range(12))
    (tmp_path / "data" / "t.csv").write_text("序号,客户的问题,律师答复\n" + rows, encoding="utf-8")
    filled, plan = fill()
    assert not filled.problems and len(load_data(plan).records) == 12
    assert {line.key: line.value for line in filled.chosen}["columns"] == {"instruction": "客户的问题", "output": "律师答复"}


def test_data_that_cannot_be_read_at_all_leave_the_first_config(fill, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t.csv").write_text("甲,乙\n1,2\n", encoding="utf-8")
    filled, _ = fill()
    assert filled.problems and not filled.chosen and "train_data_dir" in {line.key for line in filled.lines}


@pytest.mark.parametrize(("rows", "share"), [(12, None), (26, 0.31), (40, None)])
def test_a_hold_out_that_could_show_nothing_is_made_larger_within_bounds(fill, tmp_path, monkeypatch, rows, share):
    monkeypatch.setattr(filling, "FEWEST_GROUPS", 8)
    monkeypatch.setattr(filling, "_MOST_HELD_OUT", 0.31)
    write_rows(tmp_path / "data" / "metadata.csv", rows)
    filled, _ = fill()
    assert {line.key: line.value for line in filled.chosen}.get("eval_ratio") == share


def test_what_does_not_fit_is_made_smaller_as_check_proposes(fill, tmp_path, monkeypatch):
    write_rows(tmp_path / "data" / "metadata.csv")
    real = filling.estimate.estimate
    changes = {"batch_size": 1, "gradient_accumulation": 4}
    monkeypatch.setattr(filling.estimate, "estimate", lambda plan, data: replace(real(plan, data), available=1, changes=changes))
    filled, plan = fill()
    assert (plan.config.batch_size, plan.config.gradient_accumulation) == (1, 4)
    assert "memory" in {line.key: line.why for line in filled.chosen}["batch_size"]


def test_a_base_that_is_not_there_is_said_of_the_config_that_would_be_written(host, tmp_path):
    write_rows(tmp_path / "data" / "metadata.csv")
    lines = first_config(host.task("text"), str(tmp_path / "data"), "./nowhere/model", "out")
    with pytest.raises(ConfigError) as error:
        fill_in(host, host.task("text"), lines, tmp_path / "my.yaml", lambda text: None)
    told = "\n".join(error.value.problems)
    assert (
        told.startswith(f"{tmp_path / 'my.yaml'}:2: base_model: ")
        and str(tmp_path / "nowhere") in told
        and "tmp" not in told.replace(str(tmp_path), "").replace(os.getcwd(), "")
    )
    assert not (tmp_path / "my.yaml").exists()


def test_paths_are_written_so_that_they_are_found_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "p" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "p" / "my.yaml"
    assert written_path(tmp_path / "p" / "data", config) == "./data"
    assert written_path(tmp_path / "elsewhere", config) == str(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()  # from here ./data is another one
    assert written_path(tmp_path / "p" / "data", config) == str(tmp_path / "p" / "data")
    monkeypatch.chdir(tmp_path / "p")
    assert written_path(tmp_path / "p" / "data", config) == "./data" and os.path.isabs(written_path(tmp_path / "data", config))


@dataclass(frozen=True)
class Odd(Record):
    text: str = ""


def test_a_task_that_says_nothing_gets_the_keys_of_every_run():
    class NoneOfMine(Keys):
        pass

    task = Task("odd", "Odd.", Odd, "l", "t", (), Sampling(ask=lambda text: Odd(where="x")), keys=NoneOfMine)
    lines = {line.key: line for line in first_config(task, "./d", "", "./o")}
    assert list(lines)[:4] == ["train_data_dir", "base_model", "task_type", "output_dir"] and lines["base_model"].value == ""
    mine = replace(task, start=Start(base="b", lines=lambda base: [ConfigLine("epochs", 7, f"for {base}")]))
    told = {line.key: line for line in first_config(mine, "./d", "", "./o")}
    assert (told["epochs"].value, told["epochs"].why, told["base_model"].value) == (7, "for b", "b")
