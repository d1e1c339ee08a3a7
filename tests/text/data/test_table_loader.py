# SPDX-License-Identifier: Apache-2.0
"""Every layout of questions and answers; every bad row by file and row, all at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders.text_data import load, problems, write
from loraforge_text.data.columns import map_columns

from loraforge import DataError

Q, A = "试用期工资怎么算？", "不低于百分之八十。"


# --- formats -----------------------------------------------------------------------------------------------------------------


def excel(path: Path, rows: list[list]) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolon", "fullwidth", "jsonl", "json", "json-wrapped", "xlsx"])
def test_every_format_gives_the_same_records(tmp_path, kind):
    rows = [(Q, A), ("带,逗号和\n换行的问题？", '答："是"。')]
    objects = [{"instruction": q, "output": a} for q, a in rows]

    def table(separator: str) -> str:
        def cell(text: str) -> str:
            return '"' + text.replace('"', '""') + '"'

        return "\n".join(separator.join(map(cell, row)) for row in [("instruction", "output"), *rows]) + "\n"

    made = {
        "csv": lambda: write(tmp_path / "d.csv", table(",")),
        "tsv": lambda: write(tmp_path / "d.tsv", table("\t")),
        "semicolon": lambda: write(tmp_path / "d.csv", table(";")),
        "fullwidth": lambda: write(tmp_path / "d.csv", table("；")),
        "jsonl": lambda: write(tmp_path / "d.jsonl", "\n".join(json.dumps(o, ensure_ascii=False) for o in objects)),
        "json": lambda: write(tmp_path / "d.json", json.dumps(objects)),
        "json-wrapped": lambda: write(tmp_path / "d.json", json.dumps({"version": 1, "data": objects})),
        "xlsx": lambda: excel(tmp_path / "d.xlsx", [["instruction", "output"], *map(list, rows)]),
    }[kind]()
    records, _ = load(made)
    assert [(r.instruction, r.output) for r in records] == rows


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8", None), ("utf-8-sig", "UTF-8-SIG"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16-LE"), ("utf-16-be", "UTF-16-BE"),
                           ("gb18030", "GB18030"), ("gbk", "GB18030")],
)  # fmt: skip
def test_encodings_are_recognised_and_the_decision_is_shown(tmp_path, encoding, said):
    text = f"instruction,output\n{Q},{A}\nWhat is the notice period?,Thirty days in writing.\n"
    records, notes = load(write(tmp_path / "metadata.csv", text, encoding))
    assert (records[0].instruction, records[0].output) == (Q, A)
    assert (notes == []) if said is None else (said in notes[0] and "metadata.csv" in notes[0])


def test_a_named_encoding_is_used_and_a_wrong_one_explained(tmp_path):
    file = write(tmp_path / "d.csv", "instruction,output\n試用期？,薪資。\n", "big5")
    assert load(file, encoding="big5")[0][0].output == "薪資。"
    assert "no encoding 'bigfive'" in problems(file, encoding="bigfive")[0]
    assert "d.csv:2: is not text in utf-8" in problems(file, encoding="utf-8")[0]


def test_excel_numbers_and_days_as_people_see_them(tmp_path):
    import datetime

    file = excel(
        tmp_path / "d.xlsx", [["问题", "答案"], ["几年？", 20], ["哪天？", datetime.datetime(2021, 1, 1)], [None, None], ["是否？", 1.5]]
    )
    assert [r.output for r in load(file)[0]] == ["20", "2021-01-01", "1.5"]


def test_only_the_first_filled_sheet_and_that_is_said(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "封面"
    for name in ("问答", "备注"):
        sheet = book.create_sheet(name)
        sheet.append(["问题", "答案"])
        sheet.append([name, "x"])
    book.save(tmp_path / "d.xlsx")
    records, notes = load(tmp_path / "d.xlsx")
    assert records[0].instruction == "问答" and any("问答" in n and "备注" in n for n in notes)


# --- columns -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("question", "answer"), ("prompt", "response"), ("问题", "答案"), ("提问", "回复"), ("Question ", "ANSWER"),
                                   ("query", "completion"), ("指令", "输出"), ("客户 问题", "标准答案")])  # fmt: skip
def test_usual_names_are_mapped_and_reported(tmp_path, names):
    file = write(tmp_path / "d.csv", f"{names[0]},{names[1]}\n{Q},{A}\n")
    if names[0] == "客户 问题":
        assert "no column is the instruction" in problems(file)[0]
        return
    records, notes = load(file)
    assert (records[0].instruction, records[0].output) == (Q, A)
    assert any("-> instruction" in note and "-> output" in note for note in notes)


def test_columns_maps_any_other(tmp_path):
    file = write(tmp_path / "d.csv", f"客户说,律师说,备注\n{Q},{A},王\n")
    records, notes = load(file, columns={"instruction": "客户说", "output": "律师说"})
    assert records[0].output == A and any("not used: 备注" in note for note in notes)
    assert "there is no column '律师'" in problems(file, columns={"instruction": "客户说", "output": "律师"})[0]
    assert "'antwort' is no field" in problems(file, columns={"antwort": "律师说"})[0]


def test_two_columns_for_one_field_must_be_decided():
    with pytest.raises(DataError, match=r"the columns 'question', 'query' could all be 'instruction'"):
        map_columns(["question", "query", "answer"], {}, "d.csv")
    assert map_columns(["instruction", "question", "output"], {}, "d.csv")["instruction"] == "instruction"


def test_alpaca_sharegpt_and_openai_shapes(tmp_path):
    rows = [
        {"instruction": "翻译", "input": "你好", "output": "Hello"},
        {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "1"}, {"from": "gpt", "value": "2"},
                           {"from": "human", "value": "3"}, {"from": "gpt", "value": "4"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "5"}]}, {"role": "assistant", "content": "6"}]},
        {"instruction": "7", "output": "8", "history": [["a", "b"]]},
    ]  # fmt: skip
    for row, expected in zip(
        rows,
        [("翻译\n你好", "Hello", (), None), ("3", "4", (("1", "2"),), "S"), ("5", "6", (), None), ("7", "8", (("a", "b"),), None)],
        strict=True,
    ):
        record = load(write(tmp_path / "d.jsonl", json.dumps(row)))[0][0]
        assert (record.question, record.output, record.history, record.system) == expected


def test_messages_in_a_cell_of_a_table(tmp_path):
    cell = json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]).replace('"', '""')
    assert load(write(tmp_path / "d.csv", f'messages\n"{cell}"\n'))[0][0].output == "a"


def test_the_articles_columns(tmp_path):
    file = write(tmp_path / "metadata.csv", f"instruction,output,prompt_template\n{Q},{A},[INST]{{instruction}}[/INST]\n")
    assert load(file)[0][0].prompt_template == "[INST]{instruction}[/INST]"


# --- files -------------------------------------------------------------------------------------------------------------------


def test_metadata_wins_in_a_folder_and_the_rest_is_named(tmp_path):
    for name in ("metadata.csv", "other.jsonl"):
        write(
            tmp_path / name, f"instruction,output\n{Q},{name}\n" if name.endswith("csv") else json.dumps({"instruction": Q, "output": name})
        )
    records, notes = load(tmp_path)
    assert [r.output for r in records] == ["metadata.csv"] and any("other.jsonl" in note for note in notes)
    assert load(tmp_path, metadata=str(tmp_path / "other.jsonl"))[0][0].output == "other.jsonl"


def test_all_data_files_without_metadata(tmp_path):
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, f"instruction,output\n{name},{A}\n")
    write(tmp_path / "notes.txt", "not data")
    assert [r.where for r in load(tmp_path)[0]] == ["a.csv, row 2", "b.csv, row 2"]


def test_an_empty_folder_says_what_to_put_there(tmp_path):
    assert "metadata.csv with the columns instruction and output" in problems(tmp_path)[0]


# --- bad rows ----------------------------------------------------------------------------------------------------------------

BAD = f'instruction,output\n{Q},{A}\n,{A}\n{Q},\n{Q},{A},多余\n"{Q},{A}\n'


def test_all_bad_rows_by_file_and_row(tmp_path):
    found = problems(write(tmp_path / "d.csv", BAD))
    assert found[0] == "d.csv, row 3: 'instruction' is empty."
    assert found[1] == "d.csv, row 4: 'output' is empty."
    assert found[2].startswith("d.csv, row 5: has 3 cells, but the header has 2 columns.")
    assert found[3].startswith("d.csv, row 6: the quotes do not match")
    assert found[4].startswith("Bad rows: 4. on_bad_row: skip")


def test_skipping_names_what_it_skipped(tmp_path):
    records, notes = load(write(tmp_path / "d.csv", BAD), on_bad_row="skip")
    assert len(records) == 1 and len([n for n in notes if n.startswith("skipped: d.csv, row")]) == 4


def test_bad_rows_of_several_files_come_together(tmp_path):
    write(tmp_path / "a.jsonl", '{"instruction": "q", "output": "a"}\n{broken\n[1]\n')
    write(tmp_path / "b.json", "{")
    write(tmp_path / "c.csv", "foo,bar\n1,2\n")
    write(tmp_path / "d.csv", "instruction,instruction\n1,2\n")
    text = "\n".join(problems(tmp_path))
    for part in (
        "a.jsonl, line 2: is not valid JSON",
        "a.jsonl, line 3: is no object",
        "b.json:1: is not valid JSON",
        "c.csv: no column is the",
        "d.csv: the column 'instruction' occurs twice",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("messages", "words"),
    [([], "is empty|expected"), ([{"role": "user", "content": "q"}], "ending with the assistant; found user"),
     ([{"role": "user", "content": "q"}, {"role": "narrator", "content": "a"}], "role 'narrator' is unknown"),
     ([{"role": "user", "content": ""}, {"role": "assistant", "content": "a"}], "message 1: the text is empty"),
     ("nonsense", "not valid JSON"), ([1], "message 1: expected a role")],
)  # fmt: skip
def test_conversations_that_cannot_be_learned(tmp_path, messages, words):
    import re

    found = problems(write(tmp_path / "d.jsonl", json.dumps({"messages": messages})))
    assert re.search(words, found[0]), found


@pytest.mark.parametrize(("template", "words"), [("[INST]{question}[/INST]", "no {instruction}"), ("{instruction} {evil.__class__}", None),
                                                 ("{instruction}{name}", "unknown placeholder {name}")])  # fmt: skip
def test_row_templates_are_checked(tmp_path, template, words):
    file = write(tmp_path / "d.jsonl", json.dumps({"instruction": Q, "output": A, "prompt_template": template}))
    if words is None:
        from loraforge_text.templates.inline import fill

        record = load(file)[0][0]
        assert fill(record.prompt_template, record) == f"{Q} {{evil.__class__}}"  # never evaluated
    else:
        assert words in problems(file)[0]


def test_a_broken_excel_file(tmp_path):
    (tmp_path / "d.xlsx").write_bytes(b"PK\x03\x04 not really")
    assert "is no readable Excel file" in problems(tmp_path / "d.xlsx")[0]


def test_records_know_where_they_stand_and_are_equal_by_content(tmp_path):
    write(tmp_path / "a.csv", f"instruction,output\n{Q},{A}\n{Q},{A}\n")
    one, two = load(tmp_path / "a.csv")[0]
    assert one == two and one.content_hash() == two.content_hash() and one.where != two.where


# --- the split ---------------------------------------------------------------------------------------------------------------


def test_the_split_stays_when_rows_are_appended_and_has_about_the_wanted_size(tmp_path):
    from loraforge_text.task import TEXT

    from loraforge.data.splitting import HELD_OUT, fingerprinter
    from loraforge.data.splitting import split as split_

    def split(records, ratio):
        return split_([fingerprinter(TEXT)(record) for record in records], ratio).of(HELD_OUT)

    text = "instruction,output\n" + "".join(f"问题{i:04d}？,答案{i}。\n" for i in range(300))
    records, _ = load(write(tmp_path / "d.csv", text))
    held = split(records, 0.2)
    assert 40 <= len(held) <= 80
    assert split(records[:200], 0.2) == {i for i in held if i < 200}
    assert split(records, 0) == frozenset() and len(split(records[:3], 0.01)) == 1
    assert split([*records, *records], 0.2) == held | {i + 300 for i in held}  # equal rows never on both sides


# --- making metadata.csv -----------------------------------------------------------------------------------------------------


def test_metadata_makes_one_clean_csv_of_what_one_has(tmp_path, command):
    (tmp_path / "in").mkdir()
    excel(
        tmp_path / "in" / "a.xlsx",
        [["问题", "答案", "审核人", "是否通过", "豁免"], ["一？", '带"引号"，和\n换行', "李", "不通过", "hedging"]],
    )
    write(
        tmp_path / "in" / "b.jsonl",
        json.dumps(
            {"messages": [{"role": "user", "content": str(i)} if i % 2 else {"role": "assistant", "content": str(i)} for i in (1, 2, 3, 4)]}
        ),
    )
    code, out, _ = command("metadata", tmp_path / "in", "--out", tmp_path / "out" / "metadata.csv")
    assert code == 0 and "2 rows, columns instruction, output, history, reviewer, approved, waive" in out
    before, _ = load(tmp_path / "in")
    after, notes = load(tmp_path / "out" / "metadata.csv")
    assert [r.review for r in before] == [r.review for r in after] and before[0].review.approved is False
    assert before == after and any("UTF-8-SIG" in note for note in notes)
    code, _, err = command("metadata", tmp_path / "in", "--out", tmp_path / "out" / "metadata.csv")
    assert code == 2 and "exists already" in err


def test_metadata_lists_bad_rows_and_maps_columns(tmp_path, command):
    file = write(tmp_path / "d.csv", "客户说,律师说\n一？,答。\n,答。\n")
    code, _, err = command("metadata", file)
    assert code == 2 and "no column is the instruction" in err
    code, _, err = command("metadata", file, "--columns", "instruction=客户说", "--columns", "output=律师说")
    assert code == 2 and "d.csv, row 3: '客户说' is empty." in err and not (tmp_path / "metadata.csv").exists()
    code, out, _ = command("metadata", file, "--columns", "instruction=客户说", "--columns", "output=律师说", "--skip", "--json")
    assert code == 0 and json.loads(out)["rows"] == 1 and "skipped: d.csv, row 3" in "".join(json.loads(out)["notes"])


# --- files, and rows of one file, that name the same things differently -------------------------------------------------------

NAMES = [("question", "answer"), ("instruction", "output"), ("prompt", "completion"), ("问题", "答案"), ("query", "response")]


def json_lines(*rows) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.mark.parametrize("one", NAMES)
@pytest.mark.parametrize("other", NAMES)
def test_rows_that_name_a_field_differently(tmp_path, one, other):
    rows = [{asked: f"问{i}", answered: f"答{i}", "input": "料"} for i, (asked, answered) in enumerate([one, other, one, other])]
    made, notes = load(write(tmp_path / "d.jsonl", json_lines(*rows)))
    assert [(m.instruction, m.output, m.input) for m in made] == [(f"问{i}", f"答{i}", "料") for i in range(4)]
    assert sum("no row has both" in note for note in notes) == (0 if one == other else 2)


def test_two_names_that_one_row_has_both_stay_doubtful(tmp_path):
    rows = [{"question": "问", "query": "问二", "output": "答"}, {"query": "问", "output": "答"}]
    assert "could all be 'instruction'" in problems(write(tmp_path / "d.jsonl", json_lines(*rows)))[0]


@pytest.mark.parametrize(
    "columns", [{"instruction": "客户问", "output": "律师答"}, {"instruction": "客户问", "output": "律师答", "system": "身份"}]
)
def test_columns_hold_for_the_files_that_have_them(tmp_path, columns):
    write(tmp_path / "a.jsonl", json_lines({"instruction": "一", "output": "甲"}))
    write(tmp_path / "b.csv", "客户问,律师答\n二,乙\n")
    if "system" in columns:
        write(tmp_path / "c.csv", "问题,答案,身份\n三,丙,律师\n")
    made, _ = load(tmp_path, columns=columns)
    assert [(m.instruction, m.output) for m in made] == [("一", "甲"), ("二", "乙"), ("三", "丙")][: len(made)] and len(made) == len(
        columns
    )
    assert made[-1].system == ("律师" if "system" in columns else None)


def test_a_column_that_no_file_has_is_an_error(tmp_path):
    write(tmp_path / "a.jsonl", json_lines({"instruction": "一", "output": "甲"}))
    write(tmp_path / "b.csv", "问题,答案\n二,乙\n")
    assert all("there is no column '身份'" in told for told in problems(tmp_path, columns={"system": "身份"}))


@pytest.mark.parametrize("tool", ["天平", "手术刀；镊子", "Excel"])
def test_a_column_of_other_tools_is_not_used(tmp_path, tool):
    made, notes = load(write(tmp_path / "d.csv", f"问题,答案,工具\n一,甲,{tool}\n二,乙,\n"))
    assert len(made) == 2 and not made[0].tools and any("not used: 工具" in note for note in notes)


@pytest.mark.parametrize("broken", ['"[{""name"": "', '"{}"', '"[1]"'])
def test_tools_that_are_badly_written_are_bad_rows(tmp_path, broken):
    assert "expected a list of tools" in problems(write(tmp_path / "d.csv", f"问题,答案,工具\n一,甲,{broken}\n"))[0]


def test_bad_rows_are_counted_once(tmp_path):
    file = write(tmp_path / "d.csv", "问题,答案,备注\n,,x\n一,甲,\n,,y\n")
    assert problems(file)[-1].startswith("Bad rows: 2.")


@pytest.mark.parametrize("kind", ["csv", "json", "xlsx"])
@pytest.mark.parametrize("twice", ["备注", "答案", "思考"])
def test_a_name_that_occurs_twice_matters_where_it_is_used(tmp_path, kind, twice):
    table = (
        [["问题", "答案", twice, twice], ["一", "甲", "左", "右"]] if twice != "答案" else [["问题", "答案", "答案"], ["一", "甲", "乙"]]
    )
    file = tmp_path / f"d.{kind}"
    if kind == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in table:
            book.active.append(row)
        book.save(file)
    else:
        write(file, json.dumps(table) if kind == "json" else "\n".join(map(",".join, table)))
    if twice == "备注":
        [made], notes = load(file)
        assert made.output == "甲" and any("not used: 备注, 备注 (2)" in note for note in notes)
    else:
        assert f"the column '{twice}' occurs twice" in problems(file)[0]


@pytest.mark.parametrize(("question", "answer"), [("問題", "答案"), ("諮詢問題", "標準答案"), ("提問", "回覆"), ("用戶問題", "輸出")])
def test_column_names_in_traditional_writing(tmp_path, question, answer):
    path = write(tmp_path / "a.csv", f"{question},{answer}\n契約如何解釋？,依約定辦理。\n".replace(",", ";"), "big5")
    made, notes = load(path)
    assert [(one.instruction, one.output) for one in made] == [("契約如何解釋？", "依約定辦理。")]
    assert any("BIG5" in note for note in notes)


@pytest.mark.parametrize("mark", ["\t", ",", ";"])
def test_a_table_that_is_called_a_text_is_read_as_a_table(tmp_path, mark):
    made, _ = load(write(tmp_path / "a.txt", f"问题{mark}答案\n{Q}{mark}{A}\n"))
    assert [(one.instruction, one.output) for one in made] == [(Q, A)]
    assert "holds no questions and answers" in problems(write(tmp_path / "b.txt", f"{Q}{mark}{A}\n"))[0]


def test_a_column_that_rows_stand_together_by(tmp_path):
    path = write(tmp_path / "d.csv", f"instruction,output,Patient ID,备注\n{Q},{A}, p1 ,x\n问二？,答二,,y\n")
    records, notes = load(path)
    assert [one.group for one in records] == [None, None] and any("not used: Patient ID, 备注" in note for note in notes)
    for name in ("Patient ID", "patientid"):
        records, notes = load(path, split_by=name)
        assert [one.group for one in records] == ["p1", None] and any("not used: 备注" in note for note in notes)
    assert records[0] == load(path)[0][0] and "group" not in records[0].content(), "it is not part of what the row says"
    assert problems(path, split_by="topic") == [
        "split_by: there is no column 'topic'. It takes answer, question, auto, or one of the columns: instruction, output, Patient ID, 备注."
    ]
