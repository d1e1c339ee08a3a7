# SPDX-License-Identifier: Apache-2.0
"""Single values of a YAML are exchanged in its text; comments, order, line ends and all other values stay."""

from __future__ import annotations

import pytest
import yaml
from loraforge_studio.problems import Refused
from loraforge_studio.work.configs import changed, read_config, read_values, written

LEGAL = """\
# 法律问答
train_data_dir: "./data/法 律 #3"   # where "it" lies
"base_model": 'it''s'  # a quote
lora_rank: 16            # 医疗 / medicine: 16
learning_rate: 2.0e-3
notes: one # two
url: http://x/#y
empty:
empty_too:   # nothing yet
export: [peft, "merged"]   # for whom
sample_prompts:  # one for each picture
  - "a, b"   # the first
  # between

  - no
  - 'last'   # the end
after: |
  two
  lines

# at the end
"""


def test_values_are_read_as_a_person_would_type_them():
    assert read_values(LEGAL) == {
        "train_data_dir": "./data/法 律 #3", "base_model": "it's", "lora_rank": "16", "learning_rate": "2.0e-3", "notes": "one",
        "url": "http://x/#y", "empty": "", "empty_too": "", "export": ["peft", "merged"], "sample_prompts": ["a, b", "no", "last"],
        "after": "two\nlines\n",
    }  # fmt: skip
    assert [read_values(text) for text in ("- a list", "", "a: [", "{a: 1}")] == [{}] * 4


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("lora_rank", 8, "lora_rank: 16   ", "lora_rank: 8   "),
        ("train_data_dir", "./x y", '"./data/法 律 #3"   #', "./x y   #"),
        ("train_data_dir", "C:\\x # y", '"./data/法 律 #3"   #', '"C:\\\\x # y"   #'),
        ("base_model", "no", "'it''s'  #", '"no"  #'),
        ("learning_rate", 1e-05, "2.0e-3", "1e-05"),
        ("notes", "", "one # two", '"" # two'),
        ("url", "a: b", "http://x/#y", '"a: b"'),
        ("empty", True, "empty:\n", "empty: true\n"),
        ("empty_too", 3, "empty_too:   #", "empty_too: 3   #"),
        ("export", ["peft", "gguf: x"], '[peft, "merged"]', '[peft, "gguf: x"]'),
        ("sample_prompts", "none", 'sample_prompts:  # one for each picture\n  - "a, b"   # the first\n  # between\n\n  - no\n  - \'last\'',
         "sample_prompts: none  # one for each picture"),
        ("sample_prompts", ["a, b", "new #1", "last"], "  # between\n\n  - no\n", '  - "new #1"\n'),
        ("sample_prompts", ["last", "x"], '  - "a, b"   # the first\n  # between\n\n  - no\n  - \'last\'   # the end',
         "  - 'last'   # the end\n  - x   # the end"),
        ("after", "one\u2028\x7f", "|\n  two\n  lines", '"one\\u2028\\u007f"'),
        ("notes", None, "notes: one # two\n", ""),
        ("after", None, "after: |\n  two\n  lines\n", ""),
        ("patience", 5, "# at the end\n", "# at the end\npatience: 5\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_one_value_changes_and_all_else_stays(key, value, before, after, end, mark, tmp_path):
    text = LEGAL
    assert before in text
    given, wanted = (mark + one.replace("\n", end) for one in (text, text.replace(before, after)))
    made = changed(given, {key: value})
    assert made == wanted
    expected = {**read_values(given), key: value}
    found = yaml.safe_load(made.removeprefix("\ufeff"))
    assert found.get(key) == value or (key, value) == ("learning_rate", 1e-05)
    assert {k for k, v in expected.items() if v is not None} == set(found)
    (tmp_path / "x.yaml").write_bytes(given.encode())
    assert read_config(tmp_path / "x.yaml") == given


def test_keys_given_twice_become_one_and_several_change_at_once():
    assert changed("a: 1 # x\nb: 2\na: 3\n", {"a": 5, "b": None, "c": "d"}) == "a: 5 # x\nc: d\n"
    assert changed("", {"a": 1}) == "a: 1\n" and changed("# nothing\n", {"a": 1}) == "# nothing\na: 1\n"
    assert changed("---\n  a: 1\n  b: &x 2\n  c: *x\n...\n", {"b": 3, "c": 4, "d": 5}) == "---\n  a: 1\n  b: 3\n  c: 4\n  d: 5\n...\n"
    assert changed("a: 1", {}) == "a: 1\n" and changed("a:\n- 1\n- 2\nb: 3", {"a": [1, 4]}) == "a:\n- 1\n- 4\nb: 3\n"


def test_what_is_no_flat_yaml_is_refused_and_stays():
    for text in ("a: [1", "- a\n", "{a: 1}\n", "a: b: c\n", "\x00: 1"):
        with pytest.raises(Refused):
            changed(text, {"a": 2})


@pytest.mark.parametrize("value", ["off", "1e3", " x", "x ", "a:b", "a #b", "-", "~", "*x", "", "法律", "0123", "é\x85", "[x", "'"])
def test_texts_stay_texts(value):
    assert yaml.safe_load(f"k: {written(value)}  # c") == {"k": value}
