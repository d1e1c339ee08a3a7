"""Malformed inputs: configs, overrides, tables, workbooks, bases, adapters, runs, waivers, plugins. Each is built into a folder of its own."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
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


# --- configs -----------------------------------------------------------------------------------------------------------------

_HEAD = "train_data_dir: DATA\nbase_model: BASE\noutput_dir: OUT\n"
_LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))

# name -> (text; + stands for a sound beginning of three lines), what the message says
CONFIGS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "config.yaml"),
    "only comments": ("# nothing\n", "config.yaml"),
    "only a document mark": ("---\n", "config.yaml"),
    "two documents": ("+---\nseed: 1\n", "config.yaml:4"),
    "a list": ("- a\n- b\n", "config.yaml:1"),
    "a scalar": ("hello\n", "config.yaml:1"),
    "a number": ("42\n", "config.yaml:1"),
    "null": ("null\n", "config.yaml:1"),
    "open bracket": ("+export: [peft\n", "config.yaml:5"),
    "open brace": ("+checks: {a: b\n", "config.yaml:5"),
    "open quote": ('+revision: "abc\n', "config.yaml:5"),
    "closing bracket alone": ("+export: ]\n", "config.yaml:4"),
    "a tab at the start": ("+\tseed: 1\n", "config.yaml:4"),
    "a tab in the indentation": ("+checks:\n\thedging: off\n", "config.yaml:5"),
    "wrong indentation": ("+seed: 1\n  epochs: 2\n", "config.yaml:5"),
    "no colon": ("+seed\n", "config.yaml:"),
    "full-width colon": ("+epochs：6\nx: 1\n", "config.yaml:4"),
    "colon in a value": ("+revision: a: b\n", "config.yaml:4"),
    "a percent sign at the start": ("+%seed: 1\n", "config.yaml:4"),
    "an at sign": ("+seed: @1\n", "config.yaml:4"),
    "a backtick": ("+seed: `1`\n", "config.yaml:4"),
    "unknown directive": ("%YAML 9.9\n---\nseed: 1\n", "config.yaml"),
    "duplicate key": ("+seed: 1\nseed: 2\n", "config.yaml:5"),
    "duplicate key, quoted": ('+seed: 1\n"seed": 2\n', "config.yaml:5"),
    "unknown anchor": ("+seed: *nobody\n", "config.yaml:4"),
    "an anchor that holds itself": ("+checks: &a {hedging: *a}\n", "config.yaml:4"),
    "a list that holds itself": ("+export: &a [*a]\n", "config.yaml:4"),
    "billion laughs": ("+" + _LAUGHS, "config.yaml:"),
    "billion laughs in a known key": ("+" + _LAUGHS + "export: *a29\n", "config.yaml:"),
    "billion laughs of mappings": (
        "+checks: &a0 {x: x}\n" + "".join(f"k{i}: &a{i} {{a: *a{i - 1}, b: *a{i - 1}, c: *a{i - 1}}}\n" for i in range(1, 40)),
        "config.yaml:",
    ),
    "merge key": ("+<<: {seed: 1}\n", "config.yaml:4"),
    "merge key in a mapping": ("+checks: {<<: {hedging: 'off'}}\n", "config.yaml:4"),
    "deep lists": ("+export: " + "[" * DEEP + "\n", "config.yaml"),
    "deep mappings": ("+export: " + "{a: " * 20_000 + "\n", "config.yaml"),
    "deep closed lists": ("+export: " + "[" * 3000 + "]" * 3000 + "\n", "config.yaml"),
    "moderately deep lists": ("+export: " + "[" * 150 + "]" * 150 + "\n", "config.yaml:4"),
    "deep blocks": ("+" + "".join("  " * i + "a:\n" for i in range(2000)), "config.yaml"),
    "deep sequences": ("+export:\n" + "- " * 3000 + "a\n", "config.yaml"),
    "gb18030": ("base_model: 模型".encode("gb18030"), "config.yaml"),
    "latin-1": ("revision: caf\u00e9".encode("latin-1"), "config.yaml"),
    "utf-16": ("seed: 1\n".encode("utf-16"), "config.yaml"),
    "utf-16 without a mark": ("seed: 1\n".encode("utf-16-le"), "config.yaml"),
    "utf-32": ("seed: 1\n".encode("utf-32"), "config.yaml"),
    "a mark and nothing": (b"\xef\xbb\xbf", "config.yaml"),
    "two marks": (b"\xef\xbb\xbf\xef\xbb\xbfseed: 1\n", "config.yaml"),
    "a nul byte": (b"seed: 1\0\n", "config.yaml:1"),
    "only nul bytes": (b"\0" * 1000, "config.yaml"),
    "control characters": ("+revision: a\x07b\n", "config.yaml:4"),
    "an escape sequence": ("+\x1b[31mseed: 1\n", "config.yaml:4"),
    "an encoded surrogate": (b"revision: \xed\xa0\x80\n", "config.yaml"),
    "an escaped surrogate": ('+revision: "\\ud800"\nbatch_size: 0\n', "config.yaml:5"),
    "an escaped surrogate in a path": ('train_data_dir: "\\ud800"\nbase_model: BASE\n', "config.yaml:1"),
    "a nul in a path": ('train_data_dir: "a\\0b"\nbase_model: BASE\n', "config.yaml:1"),
    "a nul in the base": ('train_data_dir: DATA\nbase_model: "./a\\0b"\n', "config.yaml:2"),
    "a nul in output_dir": ('train_data_dir: DATA\nbase_model: BASE\noutput_dir: "a\\0b"\n', "config.yaml:3"),
    "a surrogate in output_dir": ('train_data_dir: DATA\nbase_model: BASE\noutput_dir: "a\\udfffb"\n', "config.yaml:3"),
    "a newline in a path": ('train_data_dir: "a\\nb"\nbase_model: BASE\n', "config.yaml:1"),
    "a path that is too long": (f"train_data_dir: {'x' * 5000}\nbase_model: BASE\n", "config.yaml:1"),
    "a base that is too long": (f"train_data_dir: DATA\nbase_model: ./{'x' * 5000}\n", "config.yaml:2"),
    "a long path of many parts": (f"train_data_dir: {'a/' * 5000}\nbase_model: BASE\n", "config.yaml:1"),
    "a home that nobody has": ("train_data_dir: ~nobody-at-all/x\nbase_model: BASE\n", "config.yaml:1"),
    "an empty path": ('train_data_dir: ""\nbase_model: BASE\n', "config.yaml:1"),
    "an empty base": ('train_data_dir: DATA\nbase_model: ""\n', "config.yaml:2"),
    "a file where the data folder belongs": ("train_data_dir: HERE/config.yaml\nbase_model: BASE\n", "config.yaml"),
    "very long line": ("+revision: [" + "x" * 10_000_000 + "\n", "config.yaml"),
    "very long key": ("+" + "k" * 100_000 + ": 1\n", "config.yaml:4"),
    "very many keys": ("+" + "".join(f"k{i}: {i}\n" for i in range(3000)), "config.yaml:4"),
    "binary": (bytes(range(256)) * 40, "config.yaml"),
    "a jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(2000), "config.yaml"),
    "gzip": (gzip.compress(b"seed: 1\n", mtime=0), "config.yaml"),
    "json with a trailing comma twice": ('{"seed": 1,,}', "config.yaml:1"),
    "python object": ("+seed: !!python/object/apply:os.system ['touch pwned']\n", "config.yaml:4"),
    "python name": ("+seed: !!python/name:os.system\n", "config.yaml:4"),
    "python module": ("+!!python/module:os : 1\n", "config.yaml:4"),
    "own tag": ("+seed: !mine 1\n", "config.yaml:4"),
    "binary tag": ("+seed: !!binary aGVsbG8=\n", "config.yaml:4"),
    "binary tag that is no base64": ("+revision: !!binary '%%%'\n", "config.yaml:4"),
    "bytes where text belongs": ("+revision: !!binary aGVsbG8=\n", "config.yaml:4"),
    "set tag": ("+export: !!set {peft}\n", "config.yaml:4"),
    "timestamp tag": ("+revision: !!timestamp 2024-01-02\n", "config.yaml:4"),
    "timestamp tag that is none": ("+revision: !!timestamp yesterday\n", "config.yaml:4"),
    "timestamp tag of day 99": ("+revision: !!timestamp 2024-99-99\n", "config.yaml:4"),
    "int tag that is none": ("+seed: !!int abc\n", "config.yaml:4"),
    "int tag on a list": ("+seed: !!int [1]\n", "config.yaml:4"),
    "float tag that is none": ("+epochs: !!float abc\n", "config.yaml:4"),
    "bool tag that is none": ("+gradient_checkpointing: !!bool perhaps\n", "config.yaml:4"),
    "map tag on a scalar": ("+checks: !!map hello\n", "config.yaml:4"),
    "seq tag on a scalar": ("+export: !!seq hello\n", "config.yaml:4"),
    "pairs tag": ("+export: !!pairs [a: b]\n", "config.yaml:4"),
    "omap tag on a scalar": ("+export: !!omap 1\n", "config.yaml:4"),
    "a list as key": ("+? [a, b]\n: 1\n", "config.yaml:4"),
    "a mapping as key": ("+? {a: b}\n: 1\n", "config.yaml:4"),
    "a number as key": ("+1: 2\n", "config.yaml:4"),
    "a list as key of a mapping": ("+checks: {[a]: 'off'}\n", "config.yaml:4"),
    "null as key": ("+~: 2\n", "config.yaml:4"),
    "true as key": ("+true: 2\n", "config.yaml:4"),
    "an empty key": ('+"": 2\n', "config.yaml:4"),
    "a key of spaces": ('+" seed ": 2\n', "config.yaml:4"),
    "a number as key of checks": ("+checks: {1: 'off'}\n", "config.yaml:4"),
    "huge integer": ("+seed: " + "9" * 400 + "\n", "config.yaml:4"),
    "integer of more digits than Python converts": ("+seed: " + "9" * 5000 + "\n", "config.yaml"),
    "float of 10^400": ("+learning_rate: 1e400\n", "config.yaml:4"),
    "integer of 10^400 for a float": ("+epochs: 1" + "0" * 400 + "\n", "config.yaml:4"),
    "infinity": ("+weight_decay: .inf\n", "config.yaml:4"),
    "minus infinity": ("+epochs: -.inf\n", "config.yaml:4"),
    "infinite epochs": ("+epochs: .inf\n", "config.yaml:4"),
    "not a number": ("+learning_rate: .nan\n", "config.yaml:4"),
    "not a number for max_grad_norm": ("+max_grad_norm: .nan\n", "config.yaml:4"),
    "infinite warmup": ("+warmup: .inf\n", "config.yaml:4"),
    "not a number for an integer": ("+batch_size: .nan\n", "config.yaml:4"),
    "sexagesimal": ("+epochs: 1:30\n", "config.yaml:4"),
    "hexadecimal": ("+seed: 0x10\n", "config.yaml:4"),
    "octal": ("+seed: 0o10\n", "config.yaml:4"),
    "underscores": ("+lora_rank: 1_6_\n", "config.yaml:4"),
    "full-width digits": ("+seed: １２x\n", "config.yaml:4"),
    "a date for a number": ("+epochs: 2024-01-02\n", "config.yaml:4"),
    "fraction for an integer": ("+batch_size: 1.5\n", "config.yaml:4"),
    "yes for a number": ("+epochs: yes\n", "config.yaml:4"),
    "true for a number": ("+epochs: true\n", "config.yaml:4"),
    "a list for a number": ("+epochs: [1]\n", "config.yaml:4"),
    "a mapping for a number": ("+epochs: {a: 1}\n", "config.yaml:4"),
    "a list for text": ("+revision: [a]\n", "config.yaml:4"),
    "a list for a path": ("train_data_dir: [a]\nbase_model: BASE\n", "config.yaml:1"),
    "a mapping for the base": ("train_data_dir: DATA\nbase_model: {a: b}\n", "config.yaml:2"),
    "a number for the base": ("train_data_dir: DATA\nbase_model: 7\n", "config.yaml:2"),
    "null for the base": ("train_data_dir: DATA\nbase_model: ~\n", "config.yaml"),
    "text for a mapping": ("+checks: hedging\n", "config.yaml:4"),
    "a list for a mapping": ("+checks: [hedging]\n", "config.yaml:4"),
    "false for a severity": ("+checks: {hedging: false}\n", "config.yaml:4"),
    "an unknown check": ("+checks: {hedgin: 'off'}\n", "config.yaml:4"),
    "text for export": ("+export: peft\n", "config.yaml:4"),
    "a mapping for export": ("+export: {peft: 1}\n", "config.yaml:4"),
    "a list in export": ("+export: [[peft]]\n", "config.yaml:4"),
    "null in export": ("+export: [~]\n", "config.yaml:4"),
    "an unknown exporter": ("+export: [peff]\n", "exporter 'peff'"),
    "a mapping for lora_target": ("+lora_target: {q: v}\n", "config.yaml:4"),
    "an empty list for lora_target": ("+lora_target: []\n", "config.yaml:4"),
    "a list for prompt_template": ("+prompt_template: [a]\n", "config.yaml:4"),
    "a list for data_loader": ("+data_loader: [table]\n", "config.yaml:4"),
    "a list for model_family": ("+model_family: [causal-lm]\n", "config.yaml:4"),
    "an unknown loader": ("+data_loader: tabel\n", "data loader 'tabel'"),
    "an unknown family": ("+model_family: causal\n", "model family 'causal'"),
    "a list for task_type": ("+task_type: [text]\n", "config.yaml:4"),
    "another task_type": ("+task_type: image\n", "config.yaml:4"),
    "no rows for batch_size": ("+batch_size: 0\n", "config.yaml:4"),
    "a rank of 0": ("+lora_rank: 0\n", "config.yaml:4"),
    "a rank below 0": ("+lora_rank: -3\n", "config.yaml:4"),
    "no data folder": ("train_data_dir: HERE/nowhere\nbase_model: BASE\n", "config.yaml:1"),
    "an unknown key": ("+lora_rnak: 3\n", "config.yaml:4"),
    "an unknown key with markup": ("+'[/bold][red]': 3\n", "config.yaml:4"),
    "a field that is none in columns": ("+columns: {question: a}\n", "question"),
    "a column that is none in columns": ("+columns: {instruction: 没有}\n", "没有"),
    "an unknown encoding": ("+encoding: klingon\n", "klingon"),
    "an encoding that is no text": ("+encoding: base64\n", "base64"),
    "an encoding with a nul": ('+encoding: "utf-8\\0"\n', "encoding"),
    "an encoding that raises": ("+encoding: undefined\n", "undefined"),
    "idna as encoding": ("+encoding: idna\n", "metadata.csv"),
    "attribute access in the template": ("+prompt_template: '{instruction.__class__}'\n", "{instruction.__class__}"),
    "an index in the template": ("+prompt_template: '{0.__init__}'\n", "{0.__init__}"),
    "a huge width in the template": ("+prompt_template: '{instruction!r:>999999999}'\n", "999999999"),
    "item access in the template": ("+prompt_template: '{instruction[0]}'\n", "{instruction[0]}"),
    "an unknown placeholder": ("+prompt_template: '{instruction} {secret}'\n", "secret"),
    "a template without a question": ("+prompt_template: '{output}'\n", "{output}"),
    "an unknown template": ("+prompt_template: chatlm\n", "chatlm"),
}  # fmt: skip


def _config_cases() -> Iterator[Case]:
    for name, (written, says) in CONFIGS.items():

        def build(here: Path, base: Path, run: Path, written: str | bytes = written) -> None:
            sound(here, base)
            text = written if isinstance(written, str) else b""
            if isinstance(text, str):
                text = text.replace("+", _HEAD, 1) if text.startswith("+") else text
                for word, value in (("DATA", "data"), ("BASE", base), ("OUT", here / "out"), ("HERE", here)):
                    text = text.replace(word, str(value))
            (here / "config.yaml").write_bytes(text.encode() if isinstance(text, str) and isinstance(written, str) else written)

        yield Case("config", name, build, (says,))
    yield Case("config", "a folder", lambda here, base, run: (here / "config.yaml").mkdir(), ("config.yaml",))
    yield Case("config", "missing", lambda here, base, run: None, ("config.yaml",))
    yield Case("config", "a link to nowhere", lambda here, base, run: (here / "config.yaml").symlink_to(here / "no"), ("config.yaml",))
    yield Case("config", "a link to itself", lambda here, base, run: (here / "config.yaml").symlink_to("config.yaml"), ("config.yaml",))
    yield Case("config", "a pipe", lambda here, base, run: os.mkfifo(here / "config.yaml"), ("config.yaml",))
    for name, argument in (("a name that is too long", "x" * 5000), ("no UTF-8", "a\udcffb"), ("empty", "")):
        yield Case("config", f"as argument: {name}", lambda here, base, run: None, (), ("check", "text", argument))


# --- overrides ---------------------------------------------------------------------------------------------------------------

OVERRIDES: dict[str, tuple[tuple[str, ...], str]] = {
    "no equals sign": (("seed",), "--set seed"),
    "empty": (("",), "--set"),
    "only an equals sign": (("=",), "--set"),
    "no key": (("=3",), "--set"),
    "unknown": (("lora_rnak=3",), "--set lora_rnak"),
    "a wrong value": (("batch_size=-1",), "--set batch_size"),
    "an open bracket": (("export=[peft",), "--set export"),
    "an open quote": (("revision='a",), "--set revision"),
    "a newline that adds a key": (("seed=1\nepochs: 0",), "--set seed"),
    "another key in the value": (("seed=1\nlora_rank: 8",), "--set seed"),
    "a document mark": (("seed=1\n---\nx: 1",), "--set seed"),
    "a colon in the key": (("seed: 1=2",), "--set seed"),
    "braces as key": (("{a}=1",), "--set {a}"),
    "a tag": (("seed=!!python/name:os.system",), "--set seed"),
    "an alias": (("seed=*a",), "--set seed"),
    "a nul": (("seed=1\0",), "--set seed"),
    "a surrogate": (("seed=\udfff",), "--set seed"),
    "deep": (("seed=" + "[" * 3000,), "--set seed"),
    "huge": (("seed=" + "9" * 5000,), "--set seed"),
    "not a number": (("learning_rate=nan",), "--set learning_rate"),
    "twice": (("seed=1", "seed=x"), "--set seed"),
    "twice, one wrong": (("batch_size=0", "batch_size=0"), "--set batch_size"),
    "a comment as value": (("base_model=#x",), "base_model"),
    "several wrong": (("a=1", "b", "=c"), "--set b"),
}  # fmt: skip


def _override_cases() -> Iterator[Case]:
    for name, (settings, says) in OVERRIDES.items():
        command = (*CHECK, *(part for setting in settings for part in ("--set", setting)))
        yield Case("override", name, lambda here, base, run: sound(here, base), (says,), command)


# --- CSV ---------------------------------------------------------------------------------------------------------------------

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
    "a question twice": {"messages": [_Q, _Q, _A]},
    "an answer first": {"messages": [_A, _Q]},
    "no answer at the end": {"messages": [_Q, _A, _Q]},
    "only a system message": {"messages": [{"role": "system", "content": "x"}]},
    "a system message in the middle": {"messages": [_Q, {"role": "system", "content": "x"}, _A]},
    "conversations of odd speakers": {"conversations": [{"from": "alien", "value": "x"}, {"from": "gpt", "value": "y"}]},
}  # fmt: skip
# Whole lines that are no JSON.
BROKEN_LINES: dict[str, str | bytes] = {
    "truncated": '{"instruction": "一？", "out', "an open brace": "{", "only a comma": ",", "single quotes": "{'instruction': 'x'}",
    "a trailing comma": '{"instruction": "一？", "output": "答",}', "two objects in a line": "{} {}", "python's None": '{"instruction": None}',
    "not a number": '{"instruction": NaN, "output": ""}', "infinity": '{"instruction": Infinity, "output": "", "x": -Infinity}',
    "deep brackets": "[" * DEEP, "deep objects": '{"a":' * DEEP, "deep closed brackets": '{"instruction": ' + "[" * 5000 + "]" * 5000 + "}",
    "an integer of 5000 digits": '{"instruction": ' + "9" * 5000 + "}", "a control character": '{"instruction": "a\x01b"}',
    "a bad escape": '{"instruction": "\\x"}', "half an escape": '{"instruction": "\\ud8', "a comment": "// hello",
}  # fmt: skip
# Whole JSON files.
JSONS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "metadata.json"), "blank": ("  \n", "metadata.json"), "truncated": ('[{"instruction": "一？"', "metadata.json:1"),
    "a scalar": ("7", "metadata.json"), "an object": ('{"instruction": "一？", "output": "答"}', "metadata.json"),
    "two lists": ('{"a": [], "b": []}', "metadata.json"), "an empty list": ("[]", "metadata.json"), "numbers": ("[1, 2]", "metadata.json, item 1"),
    "lists": ('[["一？", "答"]]', "metadata.json, item 1"), "deep": ("[" * DEEP, "metadata.json"), "deep objects": ('{"a":' * DEEP, "metadata.json"),
    "digits": ("[" + "9" * 5000 + "]", "metadata.json"), "duplicate keys": ('[{"instruction": "", "instruction": "", "output": "x"}]', "item 1"),
    "keys that differ in spaces": ('[{"output": "答", "instruction ": "一？", " instruction": ""}]', "metadata.json, item 1"),
    "utf-16 without a mark, cut": ('[{"a": 1}]'.encode("utf-16-le")[:-1], "metadata.json"), "JSON lines": ('{"a": 1}\n{"a": 2}\n', "metadata.json:2"),
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


# --- workbooks ---------------------------------------------------------------------------------------------------------------

_NS = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def workbook(sheet: str | bytes | None = None, **parts: str | bytes | None) -> bytes:
    """A workbook made by openpyxl, with its sheet's XML or other members exchanged (None: left out; / is written as __)."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in (("instruction", "output"), *QUESTIONS):
        book.active.append(row)
    made = io.BytesIO()
    book.save(made)
    changed = {name.replace("__", "/").replace("_DOT_", "."): value for name, value in parts.items()}
    changed |= {"xl/worksheets/sheet1.xml": sheet} if sheet is not None else {}
    out = io.BytesIO()
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            value = changed.pop(info.filename, old.read(info))
            if value is not None:
                new.writestr(info.filename, value)
        for name, value in changed.items():
            if value is not None:
                new.writestr(name, value)
    return out.getvalue()


def sheet(cells: str, dimension: str = "") -> str:
    """The XML of a sheet."""
    return f'<?xml version="1.0"?><worksheet {_NS}>{dimension}<sheetData>{cells}</sheetData></worksheet>'


def text_row(number: int, *cells: str, first: int = 0) -> str:
    """The XML of a row of inline text."""
    inner = "".join(f'<c r="{chr(65 + first + i)}{number}" t="inlineStr"><is><t>{cell}</t></is></c>' for i, cell in enumerate(cells))
    return f'<row r="{number}">{inner}</row>'


_HEADER = text_row(1, "instruction", "output")
_SHARED = sheet('<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>')
_FORMULA = '<row r="2"><c r="A2"><f>CONCATENATE("a","b")</f></c><c r="B2" t="inlineStr"><is><t>x</t></is></c></row>'


def _bomb(size: int) -> bytes:
    """A workbook whose sheet unpacks to ``size`` bytes."""
    made = io.BytesIO()
    start, end = sheet(_HEADER + text_row(2, "q", "a")).encode().split(b"</sheetData>")
    with zipfile.ZipFile(io.BytesIO(workbook())) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for info in old.infolist():
            if info.filename != "xl/worksheets/sheet1.xml":
                new.writestr(info.filename, old.read(info))
        with new.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as file:
            file.write(start)
            block = b'<row r="3"><c r="A3"/></row>' * 40_000
            for _ in range(size // len(block) + 1):
                file.write(block)
            file.write(b"</sheetData>" + end)
    return made.getvalue()


def _lying(data: bytes) -> bytes:
    """The same archive, whose directory claims that every member is small."""
    out, at = bytearray(data), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        out[at + 24 : at + 28] = struct.pack("<I", 900)
        at += 4
    return bytes(out)


def _entities(inner: str) -> str:
    return (
        f'<?xml version="1.0"?><!DOCTYPE x [{inner}]><worksheet {_NS}><sheetData>{_HEADER}{text_row(2, "&z;", "a")}</sheetData></worksheet>'
    )


_LAUGHING = '<!ENTITY a "haha">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(24)
) + '<!ENTITY z "&y;">'  # fmt: skip

WORKBOOKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "metadata.xlsx"),
    "text": (lambda: b"instruction,output\n", "metadata.xlsx"),
    "a bad archive": (lambda: b"PK\x03\x04 not really", "metadata.xlsx"),
    "truncated": (lambda: workbook()[:-200], "metadata.xlsx"),
    "half": (lambda: workbook()[: len(workbook()) // 2], "metadata.xlsx"),
    "an empty archive": (lambda: b"PK\x05\x06" + bytes(18), "metadata.xlsx"),
    "an old workbook": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "metadata.xlsx"),
    "no sheet": (lambda: workbook(**{"xl__worksheets__sheet1.xml": None}), "metadata.xlsx"),
    "no workbook": (lambda: workbook(**{"xl__workbook.xml": None}), "metadata.xlsx"),
    "no types": (lambda: workbook(**{"[Content_Types].xml": None}), "metadata.xlsx"),
    "no relations": (lambda: workbook(**{"xl___rels__workbook.xml.rels": None}), "metadata.xlsx"),
    "no styles": (lambda: workbook(sheet(text_row(1, "x")), **{"xl__styles.xml": None}), "metadata.xlsx"),
    "a workbook that is none": (lambda: workbook(**{"xl__workbook.xml": "<a/>"}), "metadata.xlsx"),
    "a workbook that is no XML": (lambda: workbook(**{"xl__workbook.xml": "hello"}), "metadata.xlsx"),
    "types that are no XML": (lambda: workbook(**{"[Content_Types].xml": "<<<"}), "metadata.xlsx"),
    "relations that lead nowhere": (
        lambda: workbook(**{"xl___rels__workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'}),
        "metadata.xlsx",
    ),
    "strings that are no XML": (lambda: workbook(_SHARED, **{"xl__sharedStrings.xml": "<sst><si>"}), "metadata.xlsx"),
    "too few strings": (lambda: workbook(_SHARED, **{"xl__sharedStrings.xml": f"<sst {_NS}/>"}), "metadata.xlsx"),
    "a sheet that is no XML": (lambda: workbook("hello"), "metadata.xlsx"),
    "a sheet that is cut": (lambda: workbook(sheet(_HEADER)[:-40]), "metadata.xlsx"),
    "an empty sheet": (lambda: workbook(sheet("")), "metadata.xlsx"),
    "only a header": (lambda: workbook(sheet(_HEADER)), "metadata.xlsx"),
    "the same column twice": (lambda: workbook(sheet(text_row(1, "output", "output"))), "metadata.xlsx"),
    "columns that fit nothing": (lambda: workbook(sheet(text_row(1, "a", "b") + text_row(2, "c", "d"))), "metadata.xlsx"),
    "an empty answer": (lambda: workbook(sheet(_HEADER + text_row(2, "q"))), "metadata.xlsx, row 2"),
    "a formula that was never computed": (lambda: workbook(sheet(_HEADER + _FORMULA)), "metadata.xlsx, row 2"),
    "a cell that claims a string that is not there": (
        lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" t="s"><v>99999</v></c></row>')), "metadata.xlsx",
    ),
    "a string number that is none": (lambda: workbook(sheet('<row r="1"><c r="A1" t="s"><v>x</v></c></row>')), "metadata.xlsx"),
    "a number that is none": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2"><v>abc</v></c></row>')), "metadata.xlsx"),
    "a number of 400 digits": (lambda: workbook(sheet(_HEADER + f'<row r="2"><c r="A2"><v>{"9" * 400}</v></c></row>')), "metadata.xlsx"),
    "a number of 5000 digits": (lambda: workbook(sheet(_HEADER + f'<row r="2"><c r="A2"><v>{"9" * 5000}</v></c></row>')), "metadata.xlsx"),
    "a number that is infinite": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2"><v>1e999</v></c></row>')), "metadata.xlsx, row 2"),
    "a day that is none": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" t="d"><v>yesterday</v></c></row>')), "metadata.xlsx"),
    "a cell of no kind": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" t="zzz"><v>1</v></c></row>')), "metadata.xlsx"),
    "a style that is not there": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" s="9999"><v>1</v></c></row>')), "metadata.xlsx"),
    "a cell at no place": (lambda: workbook(sheet('<row r="1"><c r="!!" t="n"><v>1</v></c></row>')), "metadata.xlsx"),
    "a row that is no number": (lambda: workbook(sheet('<row r="x"><c><v>1</v></c></row>')), "metadata.xlsx"),
    "a row below 0": (lambda: workbook(sheet('<row r="-5"><c r="A1"><v>1</v></c></row>')), "metadata.xlsx"),
    "a column beyond the last": (lambda: workbook(sheet('<row r="1"><c r="ZZZZ1"><v>1</v></c></row>')), "metadata.xlsx"),
    "a row at 10^15": (lambda: workbook(sheet(_HEADER + '<row r="1000000000000000"><c r="A9"><v>1</v></c></row>')), "metadata.xlsx"),
    "a size that it has not": (
        lambda: workbook(sheet(_HEADER + text_row(2, "q"), '<dimension ref="A1:XFD1048576"/>')), "metadata.xlsx, row 2",
    ),
    "a size that is none": (lambda: workbook(sheet(_HEADER + text_row(2, "q"), '<dimension ref="hello"/>')), "metadata.xlsx"),
    "the last cell of all": (
        lambda: workbook(sheet(_HEADER + '<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>x</t></is></c></row>')), "metadata.xlsx",
    ),
    "a sheet that unpacks to 300 MB": (lambda: _bomb(300_000_000), "metadata.xlsx"),
    "a sheet that unpacks to more than it says": (lambda: _lying(_bomb(20_000_000)), "metadata.xlsx"),
    "billion laughs": (lambda: workbook(_entities(_LAUGHING)), "metadata.xlsx"),
    "an entity that reads a file": (lambda: workbook(_entities('<!ENTITY z SYSTEM "file:///etc/passwd">')), "metadata.xlsx"),
    "an entity from the network": (lambda: workbook(_entities('<!ENTITY z SYSTEM "http://127.0.0.1:9/x">')), "metadata.xlsx"),
    "an entity in the strings": (
        lambda: workbook(_SHARED, **{"xl__sharedStrings.xml": f'<!DOCTYPE x [{_LAUGHING}]><sst {_NS}><si><t>&z;</t></si></sst>'}), "metadata.xlsx",
    ),
    "a name that leads out": (lambda: workbook(sheet(_HEADER), **{"..__..__..__pwned.xml": "<a/>"}), "metadata.xlsx"),
    "deep XML": (lambda: workbook("<a>" * DEEP), "metadata.xlsx"),
    "deep XML in the workbook": (lambda: workbook(**{"xl__workbook.xml": "<a>" * 50_000 + "</a>" * 50_000}), "metadata.xlsx"),
    "encrypted members": (lambda: bytes(_encrypted(workbook())), "metadata.xlsx"),
    "an unknown compression": (lambda: bytes(_encrypted(workbook(), 10, 99)), "metadata.xlsx"),
    "a web page": (lambda: b"<html><table><tr><td>instruction</td></tr></table></html>", "metadata.xlsx"),
}  # fmt: skip


def _encrypted(data: bytes, offset: int = 8, value: int = 1) -> bytearray:
    """The same archive, whose directory says that members are encrypted, or compressed in an unknown way."""
    out, at = bytearray(data), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        out[at + offset] = value
        at += 4
    return out


def _workbook_cases() -> Iterator[Case]:
    for name, (make, says) in WORKBOOKS.items():
        yield Case("xlsx", name, lambda here, base, run, make=make: _data("metadata.xlsx", make())(here, base, run), (says,))  # type: ignore[misc]
    yield Case("xlsx", "an old .xls", _data("metadata.xls", b"\xd0\xcf\x11\xe0" + bytes(600)), ("data",))
    yield Case("xlsx", "named .xls", _data("x.xls", b"\xd0\xcf\x11\xe0"), ("x.xls",), (*CHECK, "--set", "metadata_path=data/x.xls"))


# --- bases -------------------------------------------------------------------------------------------------------------------

_NO_JSON: dict[str, str | bytes] = {
    "empty": "", "truncated": '{"a": ', "a list": "[]", "a number": "7", "binary": b"\xff\xfe\x00\x01", "deep": "[" * DEEP,
    "digits": "9" * 5000, "null": "null",
}  # fmt: skip
_TRAIN = ("train", "text", "config.yaml")


def _base_with(changes: dict[str, Any]) -> Callable[[Path, Path, Path], None]:
    """A project with a copy of the base in which files are exchanged: text, bytes, None (gone), or a function of the JSON."""

    def build(here: Path, base: Path, run: Path) -> None:
        folder = shutil.copytree(base, here / "base")
        for name, value in changes.items():
            file = folder / name
            if value is None:
                file.unlink()
            elif callable(value):
                file.write_text(json.dumps(value(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")
            else:
                file.write_bytes(value.encode() if isinstance(value, str) else value)
        sound(here, folder)

    return build


# file -> name -> an entry with a wrong value
ENTRIES: dict[str, dict[str, dict[str, Any]]] = {
    "config.json": {
        "architectures that are a number": {"architectures": 3}, "architectures that are text": {"architectures": "LlamaForCausalLM "},
        "architectures that are an object": {"architectures": {"a": 1}}, "an unknown architecture": {"architectures": ["NopeModel"]},
    },
    "tokenizer.json": {
        "added tokens that are text": {"added_tokens": "x"}, "added tokens that are a number": {"added_tokens": 7},
        "added tokens of numbers": {"added_tokens": [1]}, "an added token without id": {"added_tokens": [{"content": "x"}]},
        "an added token without content": {"added_tokens": [{"id": 1}]}, "an id that is text": {"added_tokens": [{"content": "x", "id": "y"}]},
        "an id that is null": {"added_tokens": [{"content": "x", "id": None}]}, "no model": {"model": None}, "an unknown model": {"model": {"type": "x"}},
    },
}  # fmt: skip

# The base's own chat template.
CHATS: dict[str, str | bytes] = {
    "no Jinja": "{% for %}", "an open block": "{% if x %}", "an unknown tag": "{% nope %}", "an unknown filter": "{{ messages|nope }}",
    "a huge range": "{% for i in range(10**9) %}x{% endfor %}", "a loop without end": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "huge output": "{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "a huge text": "{{ 'x' * 99999999999999 }}",
    "a huge power": "{{ 10**10**10 }}", "a large text": "{{ 'x' * 30000000 }}", "a huge format": "{{ '%99999999d' % 1 }}",
    "attribute access": "{{ ''.__class__.__mro__ }}", "the class of a message": "{{ messages.__class__.__base__.__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__ }}", "attribute access by a filter": "{{ (''|attr('__class__'))|attr('__mro__') }}",
    "a call of nothing": "{{ nothing() }}", "an attribute of nothing": "{{ nothing.at.all }}", "a division by 0": "{{ 1 / 0 }}",
    "a wrong operation": "{{ 1 + 'a' }}", "an index that is none": "{{ messages[99].content }}", "changing the messages": "{{ messages.append(1) }}",
    "a macro that calls itself": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "an import": "{% include '/etc/passwd' %}",
    "extends": "{% extends 'x' %}", "its own complaint": "{{ raise_exception('no') }}", "deep brackets": "{{ " + "(" * 3000 + ")" * 3000 + " }}",
    "a template of bytes": b"\xff\xfe\x00", "nothing that is learned": "always the same", "an unhashable key": "{{ {[]: 1} }}",
    "a date that is none": "{{ strftime_now(3) }}", "a wrong filter": "{{ messages|map(attribute=3)|sum }}",
    "the question is missing": "{% for m in messages %}{{ m.role }}{% endfor %}{% if add_generation_prompt %}assistant{% endif %}",
}  # fmt: skip


def _damaged_weights(data: bytes) -> dict[str, bytes]:
    """What can be wrong with a safetensors file."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]

    def remade(change: Callable[[dict[str, Any]], Any]) -> bytes:
        text = json.dumps(change(json.loads(json.dumps(header)))).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    def entry(**changes: Any) -> bytes:
        return remade(lambda h: {**h, names[0]: {**h[names[0]], **changes}})

    return {
        "empty": b"", "seven bytes": data[:7], "only a length": data[:8], "half a header": data[: 8 + size // 2], "only a header": data[: 8 + size],
        "truncated": data[:-9], "more at the end": data + b"x" * 99, "a length that lies": struct.pack("<Q", 2**60) + data[8:],
        "a length of 0": struct.pack("<Q", 0) + data[8:], "a header that is no JSON": data[:8] + b"x" * size + data[8 + size :],
        "a header that is a list": remade(lambda h: []), "a header that is deep": struct.pack("<Q", DEEP) + b"[" * DEEP,
        "a header of binary": data[:8] + b"\xff" * size + data[8 + size :], "overlapping tensors": entry(data_offsets=[0, 10**6]),
        "offsets below 0": entry(data_offsets=[-5, 5]), "offsets the wrong way round": entry(data_offsets=[64, 0]), "offsets that are text": entry(data_offsets="x"),
        "an unknown kind": entry(dtype="Z99"), "another kind": entry(dtype="F64"), "a shape of 10^18": entry(shape=[10**18]), "a shape below 0": entry(shape=[-1]),
        "a shape that overflows": entry(shape=[2**33, 2**33, 2**33]), "a pickle": b"\x80\x04\x95" + bytes(200), "a web page": b"<html>404</html>" * 20,
    }  # fmt: skip


def _base_cases() -> Iterator[Case]:
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        for name, written in _NO_JSON.items():
            if not (file == "tokenizer_config.json" and name in ("a list", "a number", "null")):  # the same as none
                yield Case("base", f"{file}: {name}", _base_with({file: written}), ("base",))
        for name, entry in ENTRIES.get(file, {}).items():
            yield Case("base", f"{file}: {name}", _base_with({file: lambda old, entry=entry: {**old, **entry}}), ("base",))  # type: ignore[misc]
    yield Case("base", "nothing in it", lambda here, base, run: ((here / "empty").mkdir(), sound(here, here / "empty"))[1], ("base_model",))
    for name, text in CHATS.items():
        yield Case(
            "chat template", name, _base_with({"chat_template.jinja": text}), ("template",) if name != "the question is missing" else ()
        )
    for name, value in (("a number", 3), ("a list of numbers", [1]), ("a template without Jinja", "{% for %}")):
        changes = {"chat_template.jinja": None, "tokenizer_config.json": lambda old, value=value: {**old, "chat_template": value}}
        if name == "a template without Jinja":  # the others count as none
            yield Case("chat template", f"in tokenizer_config.json: {name}", _base_with(changes), ("template",))
    yield Case("base", "no weights", _base_with({"model.safetensors": None}), ("base",), _TRAIN)
    yield Case(
        "base",
        "pickled weights only",
        _base_with({"model.safetensors": None, "pytorch_model.bin": b"\x80\x04"}),
        ("pytorch_model.bin",),
        _TRAIN,
    )
    for name in (
        "empty",
        "half a header",
        "truncated",
        "a length that lies",
        "a header that is no JSON",
        "overlapping tensors",
        "a pickle",
    ):

        def build(here: Path, base: Path, run: Path, name: str = name) -> None:
            _base_with({"model.safetensors": _damaged_weights((base / "model.safetensors").read_bytes())[name]})(here, base, run)

        yield Case("base", f"weights: {name}", build, ("base",), _TRAIN)
    for name, entry in {"a width of 0": {"hidden_size": 0}, "layers that are text": {"num_hidden_layers": "x"}, "heads that do not divide": {"num_attention_heads": 7}, "an unknown model_type": {"model_type": "nope"}, "code of its own": {"auto_map": {"AutoModelForCausalLM": "x.Y"}, "model_type": "mine"}, "a vocabulary below 0": {"vocab_size": -1}}.items():  # fmt: skip
        yield Case(
            "base", f"config.json: {name}", _base_with({"config.json": lambda old, entry=entry: {**old, **entry}}), ("base",), _TRAIN
        )  # type: ignore[misc]


# --- adapters ----------------------------------------------------------------------------------------------------------------

# An entry of adapter_config.json with a wrong value (... takes it away).
ADAPTER_ENTRIES: dict[str, dict[str, Any]] = {
    "another kind": {"peft_type": "IA3"}, "no kind": {"peft_type": ...}, "a kind that is a list": {"peft_type": ["LORA"]}, "no rank": {"r": ...},
    "a rank of 0": {"r": 0}, "a rank below 0": {"r": -4}, "a rank that is text": {"r": "four"}, "a rank that is null": {"r": None},
    "a rank that is a list": {"r": [4]}, "a rank of 10^400": {"r": 10**400}, "a rank that is no number": {"r": float("nan")},
    "a rank that is a fraction": {"r": 4.5}, "another rank than the tensors": {"r": 64}, "true as rank": {"r": True},
    "no alpha": {"lora_alpha": ...}, "alpha of 0": {"lora_alpha": 0}, "alpha below 0": {"lora_alpha": -8}, "alpha that is text": {"lora_alpha": "x"},
    "alpha that is no number": {"lora_alpha": float("nan")}, "infinite alpha": {"lora_alpha": float("inf")}, "alpha that is null": {"lora_alpha": None},
    "alpha that is a list": {"lora_alpha": [8]}, "patterns that are a list": {"alpha_pattern": [1]}, "a pattern that is none": {"alpha_pattern": {"(": 3}},
    "a pattern of text": {"alpha_pattern": {"q_proj": "x"}}, "a pattern that never ends": {"alpha_pattern": {"(a+)+$x": "y"}},
    "targets that are a number": {"target_modules": 7}, "targets of numbers": {"target_modules": [1, "a"]}, "targets that are an object": {"target_modules": {"a": [1]}},
    "other modules too": {"modules_to_save": ["lm_head"]}, "repeated layers": {"layer_replication": [[0, 1]]},
    "a base that is a list": {"base_model_name_or_path": [1]}, "a base that is an object": {"base_model_name_or_path": {}},
}  # fmt: skip
LORAFORGE_ENTRIES: dict[str, Any] = {
    "a list": [], "a number": 7, "probes that are a list": {"probes": [1]}, "probes of text": {"probes": {"a": "x"}}, "probes of text in lists": {"probes": {"a": ["x"]}},
    "probes of null": {"probes": {"a": None}}, "files that are a number": {"files": 3}, "files of numbers": {"files": [1]}, "facts that are a list": {"facts": [1]},
    "a base that is a list": {"base_model": [1]},
}  # fmt: skip


def _adapter_with(change: Callable[[Path], Any]) -> Callable[[Path, Path, Path], None]:
    def build(here: Path, base: Path, run: Path) -> None:
        sound(here, base, init_from_adapter=str(here / "adapter"))
        change(shutil.copytree(run / "adapter", here / "adapter"))
        os.symlink(run, here / "run")

    return build


def _rewrite(name: str, change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def go(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(change(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")

    return go


def _entry(changes: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda old: {key: value for key, value in {**old, **changes}.items() if value is not ...}


def _tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def go(folder: Path) -> None:
        import safetensors.torch

        file = folder / "adapter_model.safetensors"
        safetensors.torch.save_file(change(safetensors.torch.load_file(file)), file)

    return go


def _first(change: Callable[[Any], Any], part: str = "lora_A") -> Callable[[Path], Any]:
    """The first tensor of a kind is exchanged."""

    def on(tensors: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in sorted(tensors) if part in name)
        return {**tensors, name: change(tensors[name]).contiguous()}

    return _tensors(on)


TENSORS: dict[str, Callable[[Path], Any]] = {
    "a tensor is missing": _tensors(lambda t: dict(sorted(t.items())[1:])),
    "nothing in it": _tensors(lambda t: {}),
    "not a number": _first(lambda t: t * float("nan")),
    "infinite": _first(lambda t: t + float("inf"), "lora_B"),
    "whole numbers": _first(lambda t: t.long()),
    "booleans": _first(lambda t: t > 0),
    "one dimension": _first(lambda t: t.flatten()),
    "one dimension, B": _first(lambda t: t.flatten(), "lora_B"),
    "no dimension, B": _first(lambda t: t.sum(), "lora_B"),
    "another width": _first(lambda t: t[:, :3]),
    "another height, B": _first(lambda t: t[:3], "lora_B"),
    "no rows": _first(lambda t: t[:0]),
    "no columns, B": _first(lambda t: t[:, :0], "lora_B"),
    "other names": _tensors(lambda t: {f"x{i}": value for i, value in enumerate(t.values())}),
    "a module that the base has not": _tensors(lambda t: {name.replace("layers.0", "layers.9"): value for name, value in t.items()}),
    "three dimensions": _first(lambda t: t[None]),
}  # fmt: skip


def _adapter_cases() -> Iterator[Case]:
    ask = ("sample", "run", "试用期？", "--adapter", "adapter", "--max-tokens", "1")
    changes: dict[str, Callable[[Path], Any]] = {
        **{f"adapter_config.json: {n}": lambda f, w=w: (f / "adapter_config.json").write_bytes(w if isinstance(w, bytes) else w.encode()) for n, w in _NO_JSON.items()},
        **{f"adapter_config.json: {n}": _rewrite("adapter_config.json", _entry(e)) for n, e in ADAPTER_ENTRIES.items()},
        **{f"loraforge.json: {n}": _rewrite("loraforge.json", lambda old, v=v: {**old, **v} if isinstance(v, dict) else v) for n, v in LORAFORGE_ENTRIES.items()},
        "loraforge.json: no JSON": lambda f: (f / "loraforge.json").write_text("{"),
        "no config": lambda f: (f / "adapter_config.json").unlink(),
        "no weights": lambda f: (f / "adapter_model.safetensors").unlink(),
        "pickled weights": lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "empty folder": lambda f: [p.unlink() for p in f.iterdir()],
        "a folder where the weights belong": lambda f: ((f / "adapter_model.safetensors").unlink(), (f / "adapter_model.safetensors").mkdir()),
        **{f"tensors: {name}": change for name, change in TENSORS.items()},
    }  # fmt: skip
    for name, change in changes.items():
        yield Case("adapter", name, _adapter_with(change), ("adapter",), ask)
    for name in sorted(
        _damaged_weights(struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + bytes(4))
    ):

        def damage(folder: Path, name: str = name) -> None:
            file = folder / "adapter_model.safetensors"
            file.write_bytes(_damaged_weights(file.read_bytes())[name])

        yield Case("adapter", f"weights: {name}", _adapter_with(damage), ("adapter",), ask)
    for name in (
        "tensors: not a number",
        "tensors: another width",
        "tensors: a tensor is missing",
        "adapter_config.json: a rank of 0",
        "no weights",
    ):
        yield Case("adapter", f"continued: {name}", _adapter_with(changes[name]), ("adapter",), _TRAIN)


# --- runs, checkpoints, waivers ----------------------------------------------------------------------------------------------

_ODD: dict[str, Any] = {"text": "x", "a number": 3, "a list": [1], "true": True}


def _run_with(change: Callable[[Path], Any]) -> Callable[[Path, Path, Path], None]:
    def build(here: Path, base: Path, run: Path) -> None:
        change(shutil.copytree(run, here / "run"))

    return build


def _run_cases() -> Iterator[Case]:
    ask, out = ("sample", "run", "x", "--max-tokens", "1"), ("export", "run", "--to", "peft", "--out", "new")
    for name, written in _NO_JSON.items():
        change = _run_with(lambda f, w=written: (f / "manifest.json").write_bytes(w if isinstance(w, bytes) else w.encode()))
        yield Case("run", f"manifest.json: {name}", change, ("manifest.json",), ask)
        yield Case("run", f"manifest.json, verified: {name}", change, ("manifest.json",), ("verify", "run"))
    for key in ("config", "template", "task", "family", "base", "data", "facts", "chosen", "exports"):
        for name, value in _ODD.items():
            if key in ("task", "family") and name not in ("a list", "a number"):
                continue
            change = _run_with(_rewrite("manifest.json", lambda old, key=key, value=value: {**old, key: value}))
            yield Case(
                "run",
                f"manifest.json: {key} is {name}",
                change,
                ("run",) if key not in ("task", "family") else (),
                ask if name != "text" else out,
            )
    entries: dict[str, dict[str, Any]] = {
        "jinja that is a number": {"jinja": 3}, "jinja that is broken": {"jinja": "{% for %}"}, "stops that are a number": {"stops": 3},
        "tokens that are a list": {"tokens": [1]}, "kwargs that are text": {"kwargs": "x"}, "an inline that is a list": {"inline": [1]}, "a system that is a list": {"system": [1]},
        "a name that is a list": {"name": [1]},
    }  # fmt: skip
    for name, entry in entries.items():
        change = _run_with(_rewrite("manifest.json", lambda old, entry=entry: {**old, "template": {**old["template"], **entry}}))
        yield Case("run", f"template: {name}", change, (), ask)
    for name, entry in {"a rank that is text": {"lora_rank": "x"}, "no base": {"base_model": None}, "a base that is gone": {"base_model": "/nowhere/at/all"}, "a precision that is none": {"precision": "fp9"}}.items():  # fmt: skip
        change = _run_with(_rewrite("manifest.json", lambda old, entry=entry: {**old, "config": {**old["config"], **entry}}))
        yield Case("run", f"config: {name}", change, (), ask)
    yield Case("run", "no manifest", _run_with(lambda f: (f / "manifest.json").unlink()), ("run",), ask)
    yield Case("run", "no adapter", _run_with(lambda f: shutil.rmtree(f / "adapter")), ("run",), ask)
    yield Case("run", "missing", lambda here, base, run: None, ("run",), ask)
    yield Case("run", "a file", lambda here, base, run: (here / "run").write_text("x"), ("run",), ask)
    yield Case("run", "an adapter that was altered", _run_with(_altered), ("adapter_model.safetensors",), out)
    yield Case("run", "an adapter that was altered, verified", _run_with(_altered), (), ("verify", "run"), 1)  # documented: 1
    at = ("sample", "run", "x", "--max-tokens", "1", "--adapter", "run/checkpoints/step-000001")
    for name in ("empty", "truncated", "a pickle", "a length that lies"):

        def damage(folder: Path, name: str = name) -> None:
            file = folder / "checkpoints" / "step-000001" / "adapter" / "adapter_model.safetensors"
            file.write_bytes(_damaged_weights(file.read_bytes())[name])

        yield Case("checkpoint", f"its adapter: {name}", _run_with(damage), ("step-000001",), at)
        yield Case("checkpoint", f"its adapter, promoted: {name}", _run_with(damage), ("step-000001",), ("promote", "run", "1"))
    yield Case("checkpoint", "one that is not there", _run_with(lambda f: None), ("run",), ("promote", "run", "7"))
    yield Case("checkpoint", "resuming a finished run", _resumed(lambda f: None), ("out",), (*_TRAIN, "--resume"))
    for name, written in _NO_JSON.items():
        yield Case("checkpoint", f"resuming, manifest.json: {name}", _resumed(lambda f, w=written: (f / "manifest.json").write_bytes(w if isinstance(w, bytes) else w.encode())), ("manifest.json",) if name != "null" else (), (*_TRAIN, "--resume"))  # fmt: skip


def _altered(run: Path) -> None:
    _first(lambda t: t * 2)(run / "adapter")


def _resumed(change: Callable[[Path], Any]) -> Callable[[Path, Path, Path], None]:
    def build(here: Path, base: Path, run: Path) -> None:
        sound(here, base)
        change(shutil.copytree(run, here / "out"))

    return build


WAIVERS: dict[str, str | bytes] = {
    "empty": "", "other columns": "a,b\n1,2\n", "binary": bytes(range(256)), "a workbook": b"PK\x03\x04", "nul bytes": b"waive,id\0\n", "JSON": '[{"id": 1}]',
    "an open quote": 'severity,check,"where\n', "a huge cell": 'waive,"' + "x" * 300_000,
}  # fmt: skip


def _waiver_cases() -> Iterator[Case]:
    for name, written in WAIVERS.items():

        def build(here: Path, base: Path, run: Path, written: str | bytes = written) -> None:
            (here / "w.csv").write_bytes(written.encode() if isinstance(written, str) else written)
            sound(here, base, waivers=str(here / "w.csv"))

        yield Case("waivers", name, build, ("w.csv",))
    yield Case("waivers", "missing", lambda here, base, run: sound(here, base, waivers=str(here / "w.csv")), ("w.csv",))
    yield Case(
        "waivers",
        "a folder",
        lambda here, base, run: ((here / "w.csv").mkdir(), sound(here, base, waivers=str(here / "w.csv")))[1],
        ("w.csv",),
    )


# --- plugins -----------------------------------------------------------------------------------------------------------------

_HOOK = "from loraforge import hookimpl\n@hookimpl\ndef {hook}():\n    {body}\n"
_PART = (
    "from loraforge import hookimpl, {kind}\nclass Mine({kind}):\n{attributes}\n{method}\n@hookimpl\ndef {hook}():\n    return [Mine()]\n"
)


def _hook(body: str, hook: str = "loraforge_checks") -> str:
    return _HOOK.format(hook=hook, body=body)


def _check(attributes: str, method: str = "    def run(self, config, keys, records):\n        return ()") -> str:
    return _PART.format(
        kind="Check", hook="loraforge_checks", attributes="\n".join(f"    {a}" for a in attributes.split("; ")), method=method
    )


PLUGINS: dict[str, str | bytes] = {
    "a syntax error": "def (", "an indentation error": " x\ny", "it raises": "raise ValueError('no')", "it exits": "raise SystemExit(0)", "it exits by sys.exit": "import sys; sys.exit('bye')",
    "it asserts": "assert False", "a base exception": "class E(BaseException): pass\nraise E('x')", "a module that is not there": "import no_such_module_at_all",
    "a name that is not there": "from loraforge import NoSuchThing", "nul bytes": b"x = 1\0\n", "binary": bytes(range(256)), "gb18030": "x = '模型'".encode("gb18030"),
    "utf-16": "x = 1\n".encode("utf-16"), "deep brackets": "x = " + "(" * 500 + ")" * 500, "endless recursion": "def f(): f()\nf()", "a lying encoding": "# -*- coding: nope -*-\nx = 1",
    "a misspelt hook": "from loraforge import hookimpl\n@hookimpl\ndef loraforge_chekcs():\n    return []\n", "an unmarked hook": "def loraforge_checks():\n    return []\n",
    "a hook with arguments": "from loraforge import hookimpl\n@hookimpl\ndef loraforge_checks(a, b):\n    return []\n",
    "a hook that raises": _hook("raise ValueError('no')"), "a hook that exits": _hook("raise SystemExit(0)"), "a hook that returns a number": _hook("return 7"),
    "a hook that returns text": _hook("return 'hello'"), "a hook that returns numbers": _hook("return [7]"), "a hook that returns None in a list": _hook("return [None]"),
    "a hook that returns a class": _hook("from loraforge import Check\n    return [Check]"), "a hook that returns a mapping": _hook("return {'a': 1}"),
    "a hook that yields and raises": _hook("yield 1\n    raise ValueError('no')"), "a hook that is abstract": _hook("from loraforge import Check\n    return [Check()]"),
    "tasks that are numbers": _hook("return [7]", "loraforge_tasks"), "tasks that raise": _hook("raise KeyError('x')", "loraforge_tasks"), "loaders that are text": _hook("return ['x']", "loraforge_data_loaders"),
    "templates that are objects": _hook("return [object()]", "loraforge_templates"), "families that are None": _hook("return [None]", "loraforge_model_families"), "exporters that are mappings": _hook("return [{}]", "loraforge_exporters"),
    "commands that are functions": _hook("return [print]", "loraforge_commands"), "commands that are numbers": _hook("return [3]", "loraforge_commands"), "commands that raise": _hook("raise OSError('x')", "loraforge_commands"),
    "a command of the core": "import click\n" + _hook("return [click.Command('train')]", "loraforge_commands"),
    "no name": _check("task = 'text'"), "a name that is a number": _check("name = 7; task = 'text'"), "no task": _check("name = 'x'"), "a task that is a list": _check("name = 'x'; task = ['text']"),
    "keys that are none": _check("name = 'x'; task = 'text'; keys = 7"), "keys that are an object": _check("name = 'x'; task = 'text'; keys = {}"), "a name that is taken": _check("name = 'hedging'; task = 'text'; help = 'x'"),
    "help that is a number": _check("name = 'x'; task = 'text'; help = 7"),
    "a check that raises": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        raise ValueError('no')"),
    "a check that returns numbers": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        return [7]"),
    "a check that returns None": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        return None"),
    "a check that exits": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        raise SystemExit(0)"),
    "a check with an odd severity": _check("name = 'x'; task = 'text'; severity = 'dreadful'", "    def run(self, config, keys, records):\n        from loraforge import Finding\n        return [Finding((0,), 'x')]"),
    "a check about rows that are not there": _check("name = 'x'; task = 'text'", "    def run(self, config, keys, records):\n        from loraforge import Finding\n        return [Finding((9999,), 'x')]"),
    "a key of the core": "from loraforge import Keys\nfrom pydantic import Field\nclass K(Keys):\n    seed: int = Field(1, description='x')\n" + _check("name = 'x'; task = 'text'; keys = K"),
}  # fmt: skip


def _plugin_cases() -> Iterator[Case]:
    for name, written in PLUGINS.items():

        def build(here: Path, base: Path, run: Path, written: str | bytes = written) -> None:
            sound(here, base)
            (here / "mine.py").write_bytes(written.encode() if isinstance(written, str) else written)

        command = ("-p", "mine.py", "hello") if "loraforge_commands" in str(written) else ("-p", "mine.py", *CHECK)
        yield Case("plugin", name, build, ("mine",) if not name.startswith("a check") else ("'x'",), command)
    yield Case("plugin", "missing", lambda here, base, run: sound(here, base), ("none.py",), ("-p", "none.py", *CHECK))
    yield Case(
        "plugin",
        "a folder",
        lambda here, base, run: ((here / "mine.py").mkdir(), sound(here, base))[1],
        ("mine.py",),
        ("-p", "mine.py", *CHECK),
    )
    yield Case(
        "plugin",
        "no Python file",
        lambda here, base, run: ((here / "mine.txt").write_text("x = 1"), sound(here, base))[1],
        ("mine.txt",),
        ("-p", "mine.txt", *CHECK),
    )
    yield Case(
        "plugin",
        "the name of another",
        lambda here, base, run: ((here / "text.py").write_text("x = 1"), sound(here, base))[1],
        ("text",),
        ("-p", "text.py", *CHECK),
    )
    yield Case(
        "plugin",
        "twice",
        lambda here, base, run: ((here / "mine.py").write_text("x = 1"), sound(here, base))[1],
        ("mine",),
        ("-p", "mine.py", "-p", "mine.py", *CHECK),
    )


CASES: tuple[Case, ...] = (
    *_config_cases(), *_override_cases(), *_data_cases(), *_workbook_cases(), *_base_cases(), *_adapter_cases(), *_run_cases(), *_waiver_cases(),
    *_plugin_cases(),
)  # fmt: skip
