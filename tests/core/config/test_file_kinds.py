# SPDX-License-Identifier: Apache-2.0
"""What a config was saved as, and what a file is that was given as one."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from loraforge import ConfigError
from loraforge.config.yaml_reader import read

TEXT = "# 法律问答的配置，第一版\ntrain_data_dir: ./法律数据\nbase_model: tiny-chat\r\noutput_dir: '输出/第一次'\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "gb2312", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_that_are_certain_are_read_and_said(tmp_path, encoding):
    file = tmp_path / "c.yaml"
    file.write_bytes(TEXT.encode(encoding))
    source = read(file)
    assert source.values["train_data_dir"].value == "./法律数据" and source.values["output_dir"].value == "输出/第一次"
    assert source.values["base_model"].where == f"{file}:3"
    if encoding.startswith("utf-8"):
        assert source.notes == ()
    else:
        name = "GB18030" if encoding.startswith("gb") else encoding.upper()
        assert source.notes == (f"{file}: is read as {name}: '# 法律问答的配置，第一版'. If that is wrong, save the file as UTF-8.",)


BIG5 = "# 法律問答的設定\ntrain_data_dir: ./法律資料\nbase_model: tiny-chat\n"
JAPANESE = "# 法律の質問と回答の設定ファイル\ntrain_data_dir: ./データ\nbase_model: tiny-chat\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(BIG5, "big5"), (JAPANESE, "shift_jis"), ("revision: café", "latin-1"), ("# Größe der Läufe\nseed: 1\n", "cp1252"),
     ("# Настройки обучения\nseed: 1\n", "koi8-r"), ("# Настройки обучения\nseed: 1\n", "cp1251"), ("revision: 模型\n", "big5"),
     ("# 데이터 폴더\nseed: 1\n", "cp949")],
)  # fmt: skip
def test_what_is_uncertain_stops(tmp_path, text, encoding):
    file = tmp_path / "c.yaml"
    file.write_bytes(text.encode(encoding))
    try:
        source = read(file)
    except ConfigError as error:
        assert error.problems[0].startswith(f"{file}: is not UTF-8 text") and "Save it as UTF-8" in error.problems[0]
    else:  # bytes that are sound GB2312 as well: then the text is shown
        assert encoding in ("koi8-r", "cp1251", "cp949") and "is read as GB18030" in source.notes[0]


def test_rare_characters_in_a_longer_chinese_file_are_no_doubt(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes((TEXT + "author: 朱镕基\n").encode("gbk"))
    assert read(file).values["author"].value == "朱镕基"


def office(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return made.getvalue()


def workbook() -> bytes:
    import openpyxl

    made = io.BytesIO()
    openpyxl.Workbook().save(made)
    return made.getvalue()


DATA = "is a table or document, not a config"
OTHERS: list[tuple[str, bytes, str]] = [
    ("a.xlsx", workbook(), DATA),
    ("a.yaml", workbook(), DATA),  # whatever it is called
    ("a.docx", office("[Content_Types].xml", "word/document.xml"), DATA),
    ("a.ods", office("content.xml"), DATA),
    ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), DATA),
    ("a.csv", "问题,回答\n".encode(), DATA),
    ("a.tsv", b"q\ta\n", DATA),
    ("a.jsonl", b'{"instruction": "q", "output": "a"}\n', DATA),
    ("a.json", b'[{"instruction": "q", "output": "a"}]', DATA),
    ("b.json", b'{"train": [{"instruction": "q"}]}', DATA),
    ("a.parquet", b"PAR1" + bytes(50), DATA),
    ("a.gguf", b"GGUF" + bytes(50), "is a model, not a config"),
    ("a.safetensors", bytes(8) + b"{}", "is a model, not a config"),
    ("a.pdf", b"%PDF-1.7", "is no config"),
    ("a.zip", office("a.csv"), "is no config"),
    ("a.png", b"\x89PNG\r\n", "is no config"),
    ("a.jpg", b"\xff\xd8\xff\xe0", "is no config"),
    ("a.gz", b"\x1f\x8b\x08", "is no config"),
]


@pytest.mark.parametrize(("name", "data", "words"), OTHERS, ids=[f"{name}-{number}" for number, (name, _, _) in enumerate(OTHERS)])
def test_what_is_no_config_is_called_by_its_name(tmp_path, command, name, data, words):
    file = tmp_path / name
    file.write_bytes(data)
    code, _, err = command("train", "text", file)
    assert code == 2 and err.startswith(f"{file}: {words}") and "Traceback" not in err and len(err.splitlines()) == 1
    if words == DATA:
        assert f"`loraforge init text --data {file}`" in err


def test_a_large_table_is_a_table_and_no_large_config(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"q,a\n" * 500_000)
    with pytest.raises(ConfigError, match=DATA):
        read(tmp_path / "a.csv")


def test_json_with_keys_is_a_config(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"seed": 3, "export": ["peft"]}), encoding="utf-8")
    assert {key: value.value for key, value in read(tmp_path / "c.json").values.items()} == {"seed": 3, "export": ["peft"]}


def test_a_folder_names_the_configs_in_it_or_says_where_it_belongs(tmp_path):
    with pytest.raises(ConfigError, match="`loraforge init --data .*` makes one"):
        read(tmp_path)
    (tmp_path / "legal.yaml").write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"Name one of the configs in it: legal\.yaml"):
        read(tmp_path)


@pytest.mark.parametrize("typed", ["lgeal.yaml", "legal.yml", "legal"])
def test_a_missing_config_names_the_one_beside_it(tmp_path, typed):
    (tmp_path / "legal.yaml").write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read(Path(tmp_path / typed))
    assert f"Did you mean '{tmp_path / 'legal.yaml'}'?" in str(error.value)
