# SPDX-License-Identifier: Apache-2.0
"""Malformed tables: CSV, JSONL, JSON."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builders.malformed.case import CHECK, DEEP, Case, sound

_TOP = "instruction,output\n一？,答。\n"


# name -> (bytes or text, what the message says)
TABLES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "metadata.csv"),
    "blank lines": ("\n\r\n  \n", "metadata.csv"),
    "only a mark": (b"\xef\xbb\xbf", "metadata.csv"),
    "only a header": ("instruction,output\n", "metadata.csv"),
    "no header": ("一？,答。\n二？,答。\n", "metadata.csv"),
    "a header of one column": ("instruction\n一？\n", "metadata.csv"),
    "the same column twice": ("instruction,output,output\n一？,答,答\n", "metadata.csv"),
    "two columns for one field": ("question,query,output\n一？,二？,答\n", "metadata.csv"),
    "empty names": (",,\n一？,答,\n", "metadata.csv"),
    "an empty question": (_TOP + ",答。\n", "metadata.csv, row 3"),
    "an empty answer": (_TOP + "二？,\n", "metadata.csv, row 3"),
    "a question of spaces": (_TOP + "  ,答。\n", "metadata.csv, row 3"),
    "too few cells": (_TOP + "二？\n", "metadata.csv, row 3"),
    "too many cells": (_TOP + "二？,答,多\n", "metadata.csv, row 3"),
    "an open quote": (_TOP + '"二？,答。\n三？,答。\n', "metadata.csv, row 3"),
    "a quote inside of a quoted cell": (_TOP + '"二"？",答。\n', "metadata.csv, row 3"),
    "text after a quote": (_TOP + '"二？"x,答。\n', "metadata.csv, row 3"),
    "only quotes": ('"""""""', "metadata.csv"),
    "a nul byte": (_TOP.encode() + b"a\0b,c\n", "metadata.csv"),
    "only nul bytes": (b"\0" * 500, "metadata.csv"),
    "one nul at the end": (_TOP.encode() + b"\0", "metadata.csv"),
    "a huge cell": (_TOP + f"二？,{'长' * 200_000}\n", "metadata.csv, row 3"),
    "a huge row": (_TOP + "," * 200_000 + "x\n", "metadata.csv, row 3"),
    "a huge name": ("x" * 200_000 + ",output\n一？,答\n", "metadata.csv"),
    "old Mac line ends and a bad row": ("instruction,output\r一？,答\r,答\r", "metadata.csv, row 3"),
    "mixed line ends and a bad row": ("instruction,output\r\n一？,答\n,答\r\n", "metadata.csv, row 3"),
    "broken utf-8": (_TOP.encode() + b"\xff\xfe\xfd,x\n", "metadata.csv"),
    "truncated utf-8": (_TOP.encode()[:-2], "metadata.csv"),
    "a mark of utf-16 and no utf-16": (b"\xff\xfe" + _TOP.encode() + b"x" * (1 + len(_TOP.encode()) % 2), "metadata.csv"),
    "utf-16 cut in half": (_TOP.encode("utf-16")[:-1], "metadata.csv"),
    "latin-1": ("instruction,output\ncaf\u00e9 \u00e0 \u00fc,\u00e9\n".encode("latin-1") + b"\xff\xff", "metadata.csv"),
    "a workbook": (b"PK\x03\x04" + bytes(range(256)) * 20, "metadata.csv"),
    "a jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 20, "metadata.csv"),
    "gzip": (gzip.compress(_TOP.encode() * 50, mtime=0), "metadata.csv"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 8, "metadata.csv"),
    "a web page": ("<!DOCTYPE html><html><body>404</body></html>\n", "metadata.csv"),
    "JSON": ('[{"instruction": "一？", "output": "答"}]', "metadata.csv"),
    "no decision": ("instruction,output,approved\n一？,答,maybe\n", "metadata.csv, row 2"),
    "a decision as reviewer": ("instruction,output,reviewer,approved\n一？,答,yes,x\n二？,答,王,yes\n", "metadata.csv, row 2"),
    "no name of a check": ("instruction,output,waive\n一？,答,../x\n", "metadata.csv, row 2"),
    "all rows rejected": ("instruction,output,approved\n一？,答,no\n", "approved"),
    "a control token": (_TOP + "二？,答<|im_end|>\n", "metadata.csv, row 3"),
    "a template that is none": ("instruction,output,prompt_template\n一？,答,nope\n", "metadata.csv, row 2"),
    "a template with attribute access": ("instruction,output,prompt_template\n一？,答,{instruction.__class__}\n", "metadata.csv, row 2"),
    "a template with a huge width": ("instruction,output,prompt_template\n一？,答,{0:>999999999}\n", "metadata.csv, row 2"),
    "history that is no JSON": ("instruction,output,history\n一？,答,[[\n", "metadata.csv, row 2"),
    "deep history": (f"instruction,output,history\n一？,答,{'[' * DEEP}\n", "metadata.csv, row 2"),
    "history of odd pairs": ('instruction,output,history\n一？,答,"[[""a""]]"\n', "metadata.csv, row 2"),
    "history that is a number": ("instruction,output,history\n一？,答,7\n", "metadata.csv, row 2"),
    "messages that are no JSON": ("messages\nhello\n", "metadata.csv, row 2"),
    "messages of too many digits": (f"messages\n[{'9' * 5000}]\n", "metadata.csv, row 2"),
}  # fmt: skip


_Q, _A = {"role": "user", "content": "一？"}, {"role": "assistant", "content": "答。"}


# Single rows of JSON Lines: the message names their line.
LINES: dict[str, Any] = {
    "a number": 7, "text": "hello", "null": None, "a list": [1, 2], "lists of lists": [[["一？", "答"]]], "true": True, "an empty object": {},
    "no answer": {"instruction": "一？"},
    "an empty question": {"instruction": "", "output": "答"},
    "null as question": {"instruction": None, "output": "答"},
    "a list as question": {"instruction": ["一？"], "output": "答"},
    "an object as answer": {"instruction": "一？", "output": {"text": "答"}},
    "an object as system": {"instruction": "一？", "output": "答", "system": {}, "input": ""},
    "a list as input": {"instruction": "一？", "output": "答", "input": [1]},
    "a list as template": {"instruction": "一？", "output": "答", "prompt_template": ["{instruction}"]},
    "a number as template": {"instruction": "一？", "output": "答", "prompt_template": 3},
    "a list of objects as reviewer": {"instruction": "一？", "output": "答", "reviewer": [{}]},
    "an object as decision": {"instruction": "一？", "output": "答", "approved": {"a": 1}},
    "2 as decision": {"instruction": "一？", "output": "答", "approved": 2},
    "an object as waive": {"instruction": "一？", "output": "答", "waive": {"hedging": 1}},
    "history that is text": {"instruction": "一？", "output": "答", "history": "no"},
    "history of numbers": {"instruction": "一？", "output": "答", "history": [[1, 2]]},
    "history of triples": {"instruction": "一？", "output": "答", "history": [["a", "b", "c"]]},
    "history that is an object": {"instruction": "一？", "output": "答", "history": {"a": "b"}},
    "history of empty text": {"instruction": "一？", "output": "答", "history": [["", ""]]},
    "a lone surrogate": {"instruction": "\ud800一？", "output": "答"},
    "a lone surrogate in the answer": {"instruction": "一？", "output": "答\udfff"},
    "a lone surrogate in a message": {"messages": [{"role": "user", "content": "\udc00"}, _A]},
    "a lone surrogate in a reviewer": {"instruction": "一？", "output": "答", "reviewer": "\ud800"},
    "messages that are text": {"messages": "hello"},
    "messages that are a number": {"messages": 3},
    "messages that are an object": {"messages": {"role": "user"}},
    "no messages": {"messages": []},
    "messages of numbers": {"messages": [1, 2]},
    "messages of text": {"messages": ["user", "assistant"]},
    "messages of lists": {"messages": [["user", "一？"], ["assistant", "答"]]},
    "an unknown role": {"messages": [{"role": "tool", "content": "x"}, _A]},
    "a role that is a list": {"messages": [{"role": ["user"], "content": "x"}, _A]},
    "no role": {"messages": [{"content": "x"}, _A]},
    "no content": {"messages": [{"role": "user"}, _A]},
    "content that is null": {"messages": [_Q, {"role": "assistant", "content": None}]},
    "content that is a number": {"messages": [{"role": "user", "content": 3}, _A]},
    "content that is an object": {"messages": [{"role": "user", "content": {"text": "x"}}, _A]},
    "content with a picture": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, _A]},
    "content of numbers": {"messages": [{"role": "user", "content": [1]}, _A]},
    "no part of content is text": {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}, {"role": "assistant", "content": []}]},
    "an answer first": {"messages": [_A, _Q]},
    "no answer at all": {"messages": [_Q, _Q]},
    "only a system message": {"messages": [{"role": "system", "content": "x"}]},
    "a call without a name": {"messages": [_Q, {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}]},
    "arguments that are no JSON": {"messages": [_Q, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{a"}}]}]},
    "a weight that is text": {"messages": [_Q, {**_A, "weight": "much"}]},
    "reasoning that is a list": {"messages": [_Q, {**_A, "reasoning_content": ["x"]}]},
    "tools that are text": {"messages": [_Q, _A], "tools": "search"},
    "tools without a name": {"messages": [_Q, _A], "tools": [{"type": "function"}]},
    "conversations of odd speakers": {"conversations": [{"from": "alien", "value": "x"}, {"from": "gpt", "value": "y"}]},
}  # fmt: skip


# Whole lines that are no JSON.
BROKEN_LINES: dict[str, str | bytes] = {
    "truncated": '{"instruction": "一？", "out', "an open brace": "{", "only a comma": ",", "single quotes": "{'instruction': 'x'}",
    "two commas": '{"instruction": "一？",, "output": "答"}', "two objects in a line": "{} {}", "python's None": '{"instruction": None}',
    "not a number": '{"instruction": NaN, "output": ""}', "infinity": '{"instruction": Infinity, "output": "", "x": -Infinity}',
    "deep brackets": "[" * DEEP, "deep objects": '{"a":' * DEEP, "deep closed brackets": '{"instruction": ' + "[" * 5000 + "]" * 5000 + "}",
    "an integer of 5000 digits": '{"instruction": ' + "9" * 5000 + "}", "a control character": '{"instruction": "a\x01b"}',
    "a bad escape": '{"instruction": "\\x"}', "half an escape": '{"instruction": "\\ud8', "a comment": "// hello",
}  # fmt: skip


# Whole JSON files.
JSONS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "metadata.json"), "blank": ("  \n", "metadata.json"), "truncated": ('[{"instruction": "一？"', "metadata.json:1"),
    "a scalar": ("7", "metadata.json"), "an object": ('{"instruction": "一？", "answers": 1}', "metadata.json"),
    "two lists": ('{"a": [], "b": []}', "metadata.json"), "an empty list": ("[]", "metadata.json"), "numbers": ("[1, 2]", "metadata.json, item 1"),
    "lists": ('[["一？", "答"]]', "metadata.json, item 1"), "deep": ("[" * DEEP, "metadata.json"), "deep objects": ('{"a":' * DEEP, "metadata.json"),
    "digits": ("[" + "9" * 5000 + "]", "metadata.json"), "duplicate keys": ('[{"instruction": "", "instruction": "", "output": "x"}]', "item 1"),
    "keys that differ in spaces": ('[{"output": "答", "instruction ": "一？", " instruction": ""}]', "metadata.json, item 1"),
    "utf-16 without a mark, cut": ('[{"a": 1}]'.encode("utf-16-le")[:-1], "metadata.json"), "JSON lines": ('{"a": 1}\n{"a": 2}\n', "metadata.json"),
    "an object of objects": ('{"rows": {"1": {}}}', "metadata.json"), "NaN": ("NaN", "metadata.json"), "nul": (b"[\0]", "metadata.json"),
    "no columns that fit": ('[{"foo": "一？", "bar": "答"}]', "metadata.json"),
}  # fmt: skip


def _data(name: str, written: str | bytes) -> Callable[[Path, Path, Path], None]:
    def build(here: Path, base: Path, run: Path) -> None:
        sound(here, base)
        (here / "data" / "metadata.csv").unlink()
        (here / "data" / name).write_bytes(written.encode() if isinstance(written, str) else written)

    return build


def _data_cases() -> Iterator[Case]:
    for name, (written, says) in TABLES.items():
        yield Case("csv", name, _data("metadata.csv", written), (says,))
    good = json.dumps({"instruction": "零？", "output": "答。"}) + "\n"
    for name, value in LINES.items():
        yield Case("jsonl", name, _data("metadata.jsonl", good + json.dumps(value) + "\n"), ("metadata.jsonl, line 2",))
    for name, line in BROKEN_LINES.items():
        written = line if isinstance(line, bytes) else line.encode()
        yield Case("jsonl", name, _data("metadata.jsonl", good.encode() + written + b"\n"), ("metadata.jsonl, line 2",))
    for name, (written, says) in JSONS.items():
        yield Case("json", name, _data("metadata.json", written), (says,))
    yield Case("data", "no data file", _data("notes.txt", "hello"), ("data",))
    yield Case("data", "another kind of file", _data("x.txt", "hi"), ("x.txt",), (*CHECK, "--set", "metadata_path=data/x.txt"))
    yield Case("data", "a folder called metadata.csv", lambda here, base, run: _folder_as_data(here, base), ("data",))
    yield Case("data", "a pipe", lambda here, base, run: _pipe_as_data(here, base), ("metadata.csv",), (*CHECK, "--set", "metadata_path=data/metadata.csv"))  # fmt: skip


def _folder_as_data(here: Path, base: Path) -> None:
    sound(here, base)
    (here / "data" / "metadata.csv").unlink()
    (here / "data" / "metadata.csv").mkdir()


def _pipe_as_data(here: Path, base: Path) -> None:
    sound(here, base)
    (here / "data" / "metadata.csv").unlink()
    os.mkfifo(here / "data" / "metadata.csv")
