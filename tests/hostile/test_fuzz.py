# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes the parsers are given, they work or raise a LoraForgeError: no other exception leaves them."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from builders.malformed.case import QUESTIONS
from builders.malformed.plugins import PLUGINS
from builders.malformed.tables import LINES, TABLES
from builders.malformed.workbooks import sheet, text_row, workbook
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraforge import KeySet, LoraForgeError, RunConfig
from loraforge.config.schema import validate
from loraforge.config.yaml_reader import read

FEW = settings(
    deadline=None, derandomize=True, max_examples=100, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
BITS = [b"\0", b'"', b"'", b"\n", b"\t", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"[" * 50, b"{", b"}", b"]", b":", b",", b"&a", b"*a", b"!!int ", b"9" * 30, b"1e999", b"\\ud800", b"PK", b"<", b"-", b"~"]  # fmt: skip

YAML = (
    b"train_data_dir: .\nbase_model: tiny-chat\nlora_rank: 16\nlearning_rate: 2e-4\nexport: [peft]\nchecks: {hedging: off}\nrevision: 'x'\n"
)
CSV = ("instruction,output,history,reviewer,approved,waive\n" + "".join(f'{q},"{a}",,王,yes,\n' for q, a in QUESTIONS)).encode()
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in LINES.values() if isinstance(row, dict)).encode("utf-8", "replace")


@st.composite
def mutated(draw: Any, *seeds: bytes) -> bytes:
    """One of ``seeds``, changed in some places."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(("flip", "insert", "cut", "repeat", "drop", "bytes")))
        if what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "insert":
            data[at:at] = draw(st.sampled_from(BITS))
        elif what == "cut":
            del data[at:]
        elif what == "repeat":
            data[at:at] = data[at : at + 40]
        elif what == "drop":
            del data[at : at + draw(st.integers(1, 20))]
        else:
            data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


@contextlib.contextmanager
def only_messages():
    """A LoraForgeError with something to say is fine; all else is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except LoraForgeError as error:
            assert str(error).strip()


def rows_of(folder: Path, name: str, data: bytes, **keys: Any) -> None:
    """Loads a data file as a run does."""
    from loraforge_text.data.table_loader import TableKeys, TableLoader

    (folder / name).write_bytes(data)
    config = RunConfig(train_data_dir=str(folder / name), base_model="x")
    for record in TableLoader().load(config, KeySet({RunConfig: config, TableKeys: TableKeys(**keys)}), lambda text: None):
        record.content_hash()


@FEW
@given(mutated(YAML))
def test_configs(tmp_path, data):
    (tmp_path / "c.yaml").write_bytes(data)
    with only_messages():
        validate(read(tmp_path / "c.yaml"), [RunConfig])


@FEW
@given(st.text(max_size=40))
def test_overrides(tmp_path, text):
    (tmp_path / "c.yaml").write_bytes(YAML)
    with only_messages():
        validate(read(tmp_path / "c.yaml", [text, f"seed={text}", f"{text}=1", f"export={text}"]), [RunConfig])


@FEW
@given(mutated(CSV, *(text.encode() if isinstance(text, str) else text for text, _ in list(TABLES.values()) if len(text) < 500)))
def test_csv(tmp_path, data):
    with only_messages():
        rows_of(tmp_path, "d.csv", data)


@FEW
@given(mutated(JSONL), st.sampled_from(("d.jsonl", "d.json")))
def test_json_lines(tmp_path, data, name):
    with only_messages():
        rows_of(tmp_path, name, data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """A sound file of each packed kind."""
    from builders import office

    here = tmp_path_factory.mktemp("whole")
    made = {
        "d.xls": office.xls(here / "d.xls").read_bytes(),
        "d.ods": office.ods(here / "d.ods", [["instruction", "output"], ["q", "a"]]).read_bytes(),
        "d.docx": office.docx(here / "d.docx", ["Q: q", "A: a", [["instruction", "output"], ["q", "a"]]]).read_bytes(),
        "d.zip": office.zipped({"a.csv": CSV}),
        "d.csv.gz": gzip.compress(CSV),
    }
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"instruction": ["q"], "output": ["a"]}), here / "d.parquet")
    return made | {"d.parquet": (here / "d.parquet").read_bytes()}


@settings(FEW, max_examples=25)
@pytest.mark.parametrize("name", ["d.xls", "d.ods", "d.docx", "d.zip", "d.csv.gz", "d.parquet"])
@given(data=st.data())
def test_packed_files(tmp_path, whole, name, data):
    with only_messages():
        rows_of(tmp_path, name, data.draw(mutated(whole[name])))


@FEW
@given(mutated("# 一\n\n问：二？\n答：**三**\n- **Q1:** a\n  A: b\n```\n# c\n```\n".encode()), st.sampled_from(("d.txt", "d.md")))
def test_running_text(tmp_path, data, name):
    with only_messages():
        rows_of(tmp_path, name, data)


@FEW
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(("messages", "role", "content", "instruction", "output", "history", "approved", "reviewer", "waive", "from", "value", "type", "text")), x, max_size=4), max_leaves=12))  # fmt: skip
def test_rows_of_any_shape(tmp_path, value):
    with only_messages():
        rows_of(tmp_path, "d.json", json.dumps([value, {"instruction": "q", "output": "a", "messages": value}]).encode())


@FEW
@given(
    st.sampled_from(("utf-7", "utf-16", "utf-32", "idna", "punycode", "undefined", "unicode_escape", "hz", "big5", "cp037")), mutated(CSV)
)
def test_encodings(tmp_path, encoding, data):
    with only_messages():
        rows_of(tmp_path, "d.csv", data, encoding=encoding)


@FEW
@given(mutated(workbook()))
def test_workbooks(tmp_path, data):
    with only_messages():
        rows_of(tmp_path, "d.xlsx", data)


@FEW
@given(
    mutated(
        sheet(text_row(1, "instruction", "output") + text_row(2, "q", "a") + '<row r="3"><c r="A3" s="1"><v>1.5</v></c></row>').encode()
    )
)
def test_sheets(tmp_path, data):
    with only_messages():
        rows_of(tmp_path, "d.xlsx", workbook(data))


@pytest.fixture(scope="module")
def adapter() -> dict[str, bytes]:
    """The files of a small adapter."""
    import torch

    from loraforge.adapters.peft_format import probe, write_peft
    from loraforge.plugin_api.types import Adapter

    a, b = torch.ones(2, 3), torch.ones(4, 2)
    with tempfile.TemporaryDirectory() as folder:
        tensors = {"m.q.lora_A.weight": a, "m.q.lora_B.weight": b}
        write_peft(Adapter(tensors, 2, 4, ("q",), {"m.q": probe("m.q", 2 * b @ a)}, "x"), Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "loraforge.json"])
@FEW
@given(choice=st.data())
def test_adapters(tmp_path, adapter, name, choice):
    from loraforge.adapters.peft_format import read_peft, verify

    for other, data in adapter.items():
        (tmp_path / other).write_bytes(data)
    (tmp_path / name).write_bytes(choice.draw(mutated(adapter[name])))
    with only_messages():
        verify(read_peft(tmp_path))


@FEW
@given(choice=st.data())
def test_manifests(tmp_path, choice, host):
    from loraforge.runs.opened import load_run

    template = {
        "name": "auto",
        "reason": "",
        "jinja": "{{ messages[0].content }}",
        "kwargs": {},
        "tokens": {},
        "stops": ["</s>"],
        "bos": "",
    }
    config = {"train_data_dir": ".", "base_model": "x", "lora_rank": 4}
    whole = json.dumps({"format": 2, "task": "text", "family": "causal-lm", "template": template, "config": config, "data": {"rows": []}})
    (tmp_path / "manifest.json").write_bytes(choice.draw(mutated(whole.encode())))
    with only_messages():
        load_run(host, tmp_path).prompt("question")


@FEW
@given(mutated(*(text.encode() if isinstance(text, str) else text for text in PLUGINS.values() if b"import os" not in str(text).encode())))
def test_plugins(tmp_path, data):
    from loraforge.plugin_api.host import KINDS, PluginHost

    (tmp_path / "fuzzed.py").write_bytes(data)
    host = PluginHost([tmp_path / "fuzzed.py"], blocked=(), entry_points=False)
    with only_messages():
        host.commands(())
        for task in (*host.tasks(), "text"):
            for hook in KINDS:
                host.components(hook, task)
    assert all(info.error or info.hooks is not None for info in host.plugins())


@FEW
@given(mutated(
    b"{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}",
    b"{% set ns = namespace(x=1) %}{% macro f(a, b=2) %}{{ a ~ b }}{% endmacro %}{{ f(messages[0].content) }}{{ raise_exception('x') if ns.x == 2 }}",
    b"{%- if messages[0]['role'] == 'system' -%}{{ messages[0].content[:3] + '%s' % bos_token }}{%- endif -%}{{ messages|tojson }}",
))  # fmt: skip
def test_chat_templates(monkeypatch, data):
    from loraforge_text.records import Conversation
    from loraforge_text.templates.prompting import Prompting

    monkeypatch.setattr("loraforge_text.templates.prompting.SECONDS", 2)
    record = Conversation("q", "a", where="x", history=(("b", "c"),))
    for prompting in (
        Prompting(jinja=data.decode("utf-8", "replace"), stops=("</s>",)),
        Prompting(inline=data.decode("utf-8", "replace")),
    ):
        with only_messages():
            prompting.render(record)
