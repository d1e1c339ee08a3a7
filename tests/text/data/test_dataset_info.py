# SPDX-License-Identifier: Apache-2.0
"""LLaMA-Factory's dataset_info.json: columns, tags, and what of it is not used."""

from __future__ import annotations

import json

import pytest
from builders.text_data import load, problems, write

# The example of LLaMA-Factory's data/README.md for OpenAI's format, and others made of its defaults.
TAGS = {
    "openai": ({"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"},
               [{"role": "system", "content": "S"}, {"role": "user", "content": "一？"}, {"role": "assistant", "content": "答"}]),
    "other keys": ({"role_tag": "speaker", "content_tag": "words", "user_tag": "客户", "assistant_tag": "律师", "system_tag": "说明"},
                   [{"speaker": "说明", "words": "S"}, {"speaker": "客户", "words": "一？"}, {"speaker": "律师", "words": "答"}]),
    "roles alone": ({"user_tag": "A", "assistant_tag": "B"},
                    [{"from": "system", "value": "S"}, {"from": "A", "value": "一？"}, {"from": "B", "value": "答"}]),
    "keys alone": ({"role_tag": "who", "content_tag": "what"},
                   [{"who": "system", "what": "S"}, {"who": "human", "what": "一？"}, {"who": "gpt", "what": "答"}]),
    "exchanged": ({"user_tag": "assistant", "assistant_tag": "user"},
                  [{"from": "system", "value": "S"}, {"from": "assistant", "value": "一？"}, {"from": "user", "value": "答"}]),
}  # fmt: skip


def folder(path, entry, rows, name="mine.json"):
    write(path / name, json.dumps(rows, ensure_ascii=False))
    write(path / "dataset_info.json", json.dumps({"mine": {"file_name": name, **entry}}))
    return path


@pytest.mark.parametrize("shape", TAGS)
@pytest.mark.parametrize("column", ["conversations", "dialog"])
def test_tags_name_roles_and_keys_of_messages(tmp_path, shape, column):
    tags, messages = TAGS[shape]
    entry = {"formatting": "sharegpt", "tags": tags, "columns": {"messages": column} if column != "conversations" else {}}
    records, notes = load(folder(tmp_path, entry, [{column: messages}]))
    assert [(r.system, r.instruction, r.output) for r in records] == [("S", "一？", "答")]
    assert not any("not used" in note for note in notes)


def test_calls_and_what_tools_gave(tmp_path):
    tags = {"role_tag": "r", "content_tag": "c", "user_tag": "U", "assistant_tag": "M", "observation_tag": "O", "function_tag": "F"}
    said = [("U", "几点？"), ("F", '{"name": "clock", "arguments": {}}'), ("O", "九点"), ("M", "九点。")]
    entry = {"formatting": "sharegpt", "tags": tags, "columns": {"messages": "m"}}
    [record], _ = load(folder(tmp_path, entry, [{"m": [{"r": role, "c": text} for role, text in said]}]))
    assert [one.role for one in record.messages] == ["user", "assistant", "tool", "assistant"]
    assert "clock" in record.messages[1].tool_calls and record.output == "九点。"


def test_a_text_beside_the_named_one_is_said(tmp_path):
    messages = [{"who": "user", "words": "一？", "content": "别的"}, {"who": "assistant", "words": "答"}]
    [record], notes = load(folder(tmp_path, {"tags": {"role_tag": "who", "content_tag": "words"}}, [{"messages": messages}]))
    assert record.instruction == "一？" and any("content (beside words)" in note for note in notes)


@pytest.mark.parametrize(
    ("entry", "said"),
    [({"tags": {"mask_tag": "x"}}, "tags: mask_tag"), ({"columns": {"promt": "x", "images": "pics"}}, "columns: promt, columns: images"),
     ({"num_samples": 100, "split": "train", "ranking": False}, "num_samples, split"), ({"subset": "law"}, "subset")],
)  # fmt: skip
def test_what_is_not_used_is_named(tmp_path, entry, said):
    _, notes = load(folder(tmp_path, entry, [{"instruction": "一？", "output": "答"}]))
    assert f"dataset_info.json: what it says of 'mine' is not used: {said}" in notes


def test_files_that_are_not_there_are_named_and_hubs_are_not(tmp_path):
    folder(tmp_path, {}, [{"instruction": "一？", "output": "答"}])
    info = json.loads((tmp_path / "dataset_info.json").read_text()) | {"b": {"file_name": "b.json"}, "far": {"hf_hub_url": "x/y"}}
    write(tmp_path / "dataset_info.json", "\ufeff" + json.dumps(info))
    records, notes = load(tmp_path)
    assert len(records) == 1 and notes[0] == "dataset_info.json: names files that are not here: b.json"


def test_a_list_of_hubs_alone_is_no_data(tmp_path):
    write(tmp_path / "mine.json", json.dumps([{"instruction": "一？", "output": "答"}]))
    write(tmp_path / "dataset_info.json", json.dumps({"far": {"hf_hub_url": "x/y"}}))
    assert len(load(tmp_path)[0]) == 1


def test_the_column_of_kto_leaves_bad_answers_out(tmp_path):
    rows = [{"prompt": "一？", "response": "好", "x": True}, {"prompt": "二？", "response": "坏", "x": False}]
    records, notes = load(folder(tmp_path, {"columns": {"prompt": "prompt", "response": "response", "kto_tag": "x"}}, rows))
    assert [r.output for r in records] == ["好"] and any("1 row whose answer is marked as bad is left out" in note for note in notes)


def test_ranked_answers_stop_until_it_is_said_what_is_meant(tmp_path):
    rows = [{"instruction": "一？", "chosen": "好", "rejected": "坏"}]
    entry = {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}}
    assert "{output: chosen}" in problems(folder(tmp_path, entry, rows))[0]
