# SPDX-License-Identifier: Apache-2.0
"""Malformed configs and overrides."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

from builders.malformed.case import CHECK, DEEP, Case, sound

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
