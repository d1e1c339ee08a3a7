# SPDX-License-Identifier: Apache-2.0
"""Blind judging: nothing in the sheet tells which answer is whose, and what comes back is counted as it was meant."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter

import openpyxl
import pytest

from loraforge import RunError
from loraforge.evaluation.review import read_grades, report_lines, write_sheet


def make_rows(n: int = 12) -> list[dict]:
    return [
        {
            "where": f"metadata.csv:{i + 2}",
            "group": None,
            "question": f"第{i}问：能否要求补偿？",
            "reference": f"可以，见第{i}条。",
            "base": f"也许可以 {i}",
            "adapter": f"可以，依据第{i}条",
        }
        for i in range(n)
    ]


@pytest.fixture
def sheet(tmp_path):
    """Writes a sheet and returns (its path, its keys, its id, the key of every row by number)."""

    def make(rows=None, name="review.xlsx"):
        path, keys = tmp_path / name, tmp_path / "run" / "review_keys.json"
        known = set(json.loads(keys.read_text(encoding="utf-8"))["sheets"]) if keys.exists() else set()
        rows = make_rows() if rows is None else rows
        assert write_sheet(path, rows, keys, "runs/legal") == len(rows)
        sheets = json.loads(keys.read_text(encoding="utf-8"))["sheets"]
        (number,) = set(sheets) - known
        return path, keys, number, {row["number"]: row for row in sheets[number]["rows"]}

    return make


def fill(path, key, judge, better=None, name=None, target=None):
    """Fills a sheet as a person would who knows (we do) which answer is whose: judge(number, side) -> what is typed."""
    book = openpyxl.load_workbook(path)
    page = book.worksheets[0]
    if name:
        page["C1"] = name
    for line in page.iter_rows(min_row=4):
        number = line[0].value
        line[5].value, line[6].value = judge(number, key[number]["a"]), judge(number, key[number]["b"])
        if better:
            line[7].value = better(number)
    book.save(target or path)
    return target or path


def adapter_is_right(number, side):
    return "yes" if side == "adapter" else "no"


# --- the sheet ---------------------------------------------------------------------------------------------------------------


def test_the_sheet_holds_every_text_once_and_what_to_fill_in(sheet):
    path, _, number, key = sheet()
    book = openpyxl.load_workbook(path)
    page, guide = book.worksheets
    assert [c.value for c in page[3]] == [
        "No.", "Question", "Reference answer", "Answer A", "Answer B", "A factually accurate?", "B factually accurate?", "Better answer", "Remarks",
    ]  # fmt: skip
    for row, line in zip(make_rows(), page.iter_rows(min_row=4), strict=True):
        assert (line[1].value, line[2].value) == (row["question"], row["reference"])
        assert (line[3].value, line[4].value) == (row[key[line[0].value]["a"]], row[key[line[0].value]["b"]])
        assert line[3].alignment.wrap_text and page.row_dimensions[line[0].row].height >= 20
    lists = {str(v.sqref): v.formula1 for v in page.data_validations.dataValidation}
    assert lists == {"F4:G15": '"yes,partly,no"', "H4:H15": '"A,B,same"'}
    assert page.freeze_panes == "B4" and page.print_title_rows == "$3:$3" and page["I1"].value == number
    texts = [c.value for c in guide["A"] if c.value]
    assert len(texts) % 2 == 0 and texts[0] == "评判说明" and texts[len(texts) // 2] == "How to judge"
    assert all(re.search("[\u4e00-\u9fff]", t) for t in texts[: len(texts) // 2])


def test_headings_and_choices_speak_the_users_language(sheet, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    path, keys, _, key = sheet()
    page = openpyxl.load_workbook(path).worksheets[0]
    assert page["F3"].value == "A 的事实是否准确？" and page.data_validations.dataValidation[0].formula1 == '"是,部分,否"'
    fill(path, key, lambda n, side: "是" if side == "adapter" else "否")
    monkeypatch.setenv("LORAFORGE_LANG", "en")  # written in China, read in London
    assert read_grades(path, keys)["wins"] == 12


def test_nothing_in_the_file_tells_which_answer_is_whose(sheet):
    path, keys, number, key = sheet(make_rows(40))
    with zipfile.ZipFile(path) as file:
        everything = "\n".join(f"{name}\n{file.read(name).decode('utf-8', 'replace')}" for name in file.namelist())
    sheet_only = re.sub(r"<si>.*?</si>", "", everything, flags=re.S)  # the guide speaks of a base model
    for word in ("adapter", '"base"', "base,", "runs/legal", "metadata.csv", *(row["id"] for row in key.values())):
        assert word not in sheet_only, word
    for row in key.values():
        assert not any(digest in everything for digest in row["sha256"].values())
    assert number in everything and keys.name not in everything
    looks = {(line[3].style_id, line[4].style_id) for line in openpyxl.load_workbook(path).worksheets[0].iter_rows(min_row=4)}
    assert len(looks) == 1


def test_the_hidden_order_is_balanced_and_new_each_time(sheet):
    orders = []
    for i in range(6):
        key = sheet(make_rows(40), f"{i}.xlsx")[3]
        order = "".join(row["a"][0] for row in key.values())
        assert Counter(order) == {"a": 20, "b": 20} and all({r["a"], r["b"]} == {"base", "adapter"} for r in key.values())
        assert "ab" * 20 != order != "ba" * 20
        orders.append(order)
    assert len(set(orders)) == 6
    odd = Counter(sheet(make_rows(1), f"odd{i}.xlsx")[3][1]["a"] for i in range(30))
    assert len(odd) == 2, "one row: the coin falls on both sides"


@pytest.mark.parametrize(
    "text", ['=HYPERLINK("http://evil","x")', "+1+1", "-2+3|cmd", "@SUM(A1)", "\t=1", "#N/A", "＝1", "1", "TRUE", "=1"]
)
def test_texts_never_become_formulas(sheet, text):
    row = {**make_rows(1)[0], "question": text, "reference": text, "base": text, "adapter": text + " "}
    path, keys, _, key = sheet([row])
    for cell in openpyxl.load_workbook(path).worksheets[0][4][1:5]:
        assert cell.data_type == "s" and cell.value.strip() == text.strip()
        assert bool(cell.quotePrefix) == (text.strip()[0] in "=+-@＝")
    with zipfile.ZipFile(path) as file:
        assert "<f>" not in file.read("xl/worksheets/sheet1.xml").decode()
    assert read_grades(fill(path, key, lambda n, s: "yes"), keys)["graded"] == 1


def test_what_a_cell_cannot_hold_is_shown_and_not_lost(sheet):
    row = {**make_rows(1)[0], "base": "a\x00b\x0bc\ufffe\ud800\r\nd", "adapter": "很" * 40_000}
    path, keys, _, key = sheet([row, {**make_rows(2)[1], "base": ""}])
    line = openpyxl.load_workbook(path).worksheets[0][4]
    texts = {line[3].value, line[4].value}
    assert "a␀b␋c\ufffd\ufffd\nd" in texts and any(t.endswith("(cut here: a cell holds no more)") and len(t) < 32_767 for t in texts)
    assert "(the answer is empty)" in [c.value for c in openpyxl.load_workbook(path).worksheets[0][5]]
    assert read_grades(fill(path, key, adapter_is_right), keys)["graded"] == 2


def test_a_sheet_is_never_overwritten_and_keys_are_kept(sheet, tmp_path):
    path, keys, number, key = sheet()
    fill(path, key, adapter_is_right)
    filled = path.read_bytes()
    with pytest.raises(
        RunError, match="review.xlsx exists already and may hold somebody's verdicts. Choose another name, or read it with --grade"
    ):
        write_sheet(path, make_rows(), keys, "runs/legal")
    with pytest.raises(RunError, match="let its name end in .xlsx"):
        write_sheet(tmp_path / "review.csv", make_rows(), keys, "runs/legal")
    assert path.read_bytes() == filled
    sheet(name="second.xlsx")
    assert read_grades(path, keys)["files"][0]["sheet"] == number, "a second sheet leaves the first one's key"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["review.xlsx", "run", "second.xlsx"], "nothing half-written stays"


def test_a_sheet_without_its_key_is_never_left_behind(tmp_path):
    (tmp_path / "run").write_text("a file where the run's folder should be", encoding="utf-8")
    with pytest.raises(RunError, match="cannot write to"):
        write_sheet(tmp_path / "review.xlsx", make_rows(), tmp_path / "run" / "keys.json", "x")
    assert not (tmp_path / "review.xlsx").exists()


# --- what comes back ---------------------------------------------------------------------------------------------------------


def test_grades_are_counted_for_the_right_side(sheet):
    path, keys, _, key = sheet()
    verdict = {"adapter": lambda n: "no" if n == 1 else "yes", "base": lambda n: {1: "yes", 2: "partly", 3: "yes"}.get(n, "no")}
    fill(path, key, lambda n, side: verdict[side](n), name="王医生")
    found = read_grades(path, keys)
    assert found["accuracy"]["adapter"]["mean"] == pytest.approx(11 / 12) and found["accuracy"]["base"]["mean"] == pytest.approx(2.5 / 12)
    assert (found["wins"], found["losses"], found["ties"]) == (10, 1, 1), "without a preference, the better verdict wins"
    assert found["comparison"]["difference"] == pytest.approx(8.5 / 12) and found["comparison"]["verdict"] == "better"
    assert found["accuracy"]["adapter"]["low"] < 11 / 12 < found["accuracy"]["adapter"]["high"] <= 1
    assert (found["questions"], found["graded"], found["ungraded"], found["run"]) == (12, 12, 0, "runs/legal")
    assert found == read_grades(path, keys) and json.loads(json.dumps(found)) == found
    lines = report_lines(found)
    assert lines[0] == "12 of 12 questions graded, by 王医生." and found["sentence"] in lines
    assert "  Better answer: adapter 10 (83%), base 1 (8%), neither 1 (8%)." in lines
    assert any(line.startswith("  factual accuracy, adapter: 91.7% (95% interval ") for line in lines)


def test_other_wordings_of_what_was_learned_have_figures_of_their_own(sheet):
    rows = [{**row, "answer_learned": i < 4} for i, row in enumerate(make_rows(20))]
    path, keys, _, key = sheet(rows)
    learned = {number for number, row in key.items() if int(row["where"].split(":")[1]) < 6}
    found = read_grades(fill(path, key, lambda n, side: "yes" if n in learned and side == "adapter" else "no"), keys)
    assert len(learned) == 4 and found["graded"] == 20
    assert found["accuracy"]["adapter"]["mean"] == 0 and found["comparison"]["rows"] == 16 and found["comparison"]["verdict"] != "better"
    assert found["reworded"]["accuracy"]["adapter"]["mean"] == 1 and found["reworded"]["comparison"]["rows"] == 4
    lines = report_lines(found)
    assert any("adapter (never learned): 0.0%" in line for line in lines)
    assert any("adapter (learned in other words): 100.0%" in line for line in lines)


def test_with_nothing_new_the_graders_verdict_cannot_be_told(sheet):
    path, keys, _, key = sheet([{**row, "answer_learned": True} for row in make_rows()])
    found = read_grades(fill(path, key, adapter_is_right), keys)
    assert "cannot be told" in found["sentence"] and not found["comparison"] and found["reworded"]["comparison"]["verdict"] == "better"
    assert any("learned in other words" in line for line in report_lines(found))


def test_near_identical_questions_count_once(sheet):
    rows = [{**row, "group": i // 3} for i, row in enumerate(make_rows())]
    path, keys, _, key = sheet(rows)
    found = read_grades(fill(path, key, adapter_is_right), keys)
    assert found["comparison"]["groups"] == 4 and found["comparison"]["verdict"] == "no evidence"
    assert found["accuracy"]["adapter"] == {"mean": pytest.approx(11 / 12, abs=0.1), "low": None, "high": None}
    lines = report_lines(found)
    assert sum("(too few questions for an interval)" in line for line in lines) == 2 and not any("95%" in line for line in lines)


def test_a_stated_preference_counts_more_than_the_verdicts(sheet):
    path, keys, _, key = sheet()
    fill(path, key, lambda n, side: "yes", better=lambda n: {1: "same", 2: "一样"}.get(n, "A" if key[n]["a"] == "base" else "Ｂ"))
    found = read_grades(path, keys)
    assert (found["wins"], found["losses"], found["ties"]) == (0, 10, 2) and found["comparison"]["verdict"] == "no evidence"


@pytest.mark.parametrize(
    "yes, no, partly",
    [("Ｙ", "Ｎ", "部分"), ("√", "×", "partially"), ("对。", " 错 ", "部分 正确"), ("正确", "错误", 0.5), (True, False, "0.5"), (1, 0, "半对"), ("✓", "✗", "Part"), ("是", "否", "PARTLY"), ("ｙｅｓ", "不正确", "部分准确")],
)  # fmt: skip
def test_the_words_of_people_are_understood(sheet, yes, no, partly):
    path, keys, _, key = sheet()
    found = read_grades(fill(path, key, lambda n, side: yes if side == "adapter" else no if n % 2 else partly), keys)
    assert (found["accuracy"]["adapter"]["mean"], found["accuracy"]["base"]["mean"]) == (1.0, 0.25)


def test_everything_that_is_not_understood_is_named_by_its_cell_at_once(sheet):
    path, keys, _, key = sheet()
    fill(path, key, adapter_is_right, better=lambda n: "C" if n == 5 else None)
    book = openpyxl.load_workbook(path)
    book.worksheets[0]["F4"], book.worksheets[0]["G6"] = "maybe", "x"
    book.save(path)
    with pytest.raises(RunError) as caught:
        read_grades(path, keys)
    assert caught.value.problems == (
        "review.xlsx: Review!F4: 'maybe' is not understood. Write yes, partly or no.",
        "review.xlsx: Review!G6: 'x' is not understood. Write yes, partly or no.",
        "review.xlsx: Review!H8: 'C' is not understood. Write A, B or same.",
    )


def test_rows_may_be_sorted_and_deleted_and_columns_inserted(sheet):
    path, keys, _, key = sheet()
    fill(path, key, lambda n, side: "yes" if (side == "adapter") == (n > 3) else "no")
    book = openpyxl.load_workbook(path)
    page = book.worksheets[0]
    lines = [[c.value for c in line] for line in page.iter_rows(min_row=4)]
    for target, line in zip(page.iter_rows(min_row=4), lines[::-1], strict=True):
        for cell, value in zip(target, line, strict=True):
            cell.value = value
    page.delete_rows(4, 2)  # the last two questions
    page.insert_cols(3)
    page.insert_rows(1, 2)
    page["C3"] = "my notes"
    book.create_sheet("Notes", 0)
    book.save(path)
    found = read_grades(path, keys)
    assert (found["graded"], found["wins"], found["losses"]) == (10, 7, 3)
    assert "review.xlsx: questions that are no longer in the sheet: 2." in report_lines(found)


def test_a_sheet_that_lost_its_numbers_is_recognised_by_its_texts(sheet):
    path, keys, _, key = sheet()
    fill(path, key, adapter_is_right)
    book = openpyxl.load_workbook(path)
    book.worksheets[0].delete_cols(1)
    book.save(path)
    assert read_grades(path, keys)["wins"] == 12


def test_edited_texts_are_not_counted_and_named(sheet):
    path, keys, _, key = sheet()
    fill(path, key, adapter_is_right)
    book = openpyxl.load_workbook(path)
    page = book.worksheets[0]
    page["B4"] = page["B4"].value + "（改）"
    page["D6"], page["E6"] = page["E6"].value, page["D6"].value  # swapped: the worst of all edits
    page["C8"] = "a better reference: the answers are what was judged"
    page["D9"] = page["D9"].value.replace(" ", "\n ")  # what an office program does to blanks is no edit
    book.save(path)
    found = read_grades(path, keys)
    assert (found["graded"], found["wins"], found["files"][0]["missing"]) == (10, 10, 0)
    cells = "review.xlsx: Review!B4, review.xlsx: Review!D6, review.xlsx: Review!E6"
    assert f"Not counted, because the text is not the one that was shown (edited?): {cells}." in report_lines(found)


def test_a_row_that_was_copied_is_named_and_not_counted_twice(sheet):
    path, keys, _, key = sheet()
    fill(path, key, adapter_is_right)
    book = openpyxl.load_workbook(path)
    book.worksheets[0].append([c.value for c in book.worksheets[0][4]])
    book.save(path)
    with pytest.raises(RunError, match=r"Review!B16: the same question stands at review.xlsx: Review!B4 too. Delete one"):
        read_grades(path, keys)


def test_two_rows_with_equal_texts_are_two_rows(sheet):
    path, keys, _, key = sheet([make_rows(1)[0], make_rows(1)[0]])
    if key[1]["a"] == key[2]["a"]:
        pytest.fail("two rows are balanced: one of each order")
    assert read_grades(fill(path, key, adapter_is_right), keys)["graded"] == 2


def test_empty_and_half_empty_rows_are_counted_apart(sheet):
    path, keys, _, key = sheet()
    fill(path, key, lambda n, side: None if n in (1, 2) or (n == 3 and side == key[3]["b"]) else adapter_is_right(n, side))
    found = read_grades(path, keys)
    assert (found["graded"], found["ungraded"], found["files"][0]["blank"], found["files"][0]["incomplete"]) == (
        9,
        3,
        2,
        ["review.xlsx: Review!G6"],
    )
    text = "\n".join(report_lines(found))
    assert "questions without verdicts: 2." in text and "only one of the two answers is judged; empty: review.xlsx: Review!G6." in text


def test_a_sheet_that_nobody_filled_says_so(sheet):
    path, keys, _, _ = sheet()
    with pytest.raises(RunError, match="No question is graded yet: fill in the yellow cells"):
        read_grades(path, keys)


def test_equal_answers_are_judged_once_and_alike(sheet):
    rows = [{**row, "base": "同样", "adapter": "同样"} for row in make_rows(6)] + make_rows(12)[6:]
    path, keys, _, key = sheet(rows)
    fill(
        path,
        key,
        lambda n, side: ("yes" if side == key[n]["a"] else None) if n <= 6 else adapter_is_right(n, side),
        better=lambda n: "A" if n == 1 else None,
    )
    found = read_grades(path, keys)
    assert (found["graded"], found["wins"], found["ties"], found["accuracy"]["base"]["mean"]) == (12, 6, 6, 0.5)
    fill(path, key, lambda n, side: "yes" if side == "base" else "no")
    with pytest.raises(RunError, match=r"Review!G4: both answers are the same text, and the verdicts differ"):
        read_grades(path, keys)


def test_several_graders_are_averaged_and_their_agreement_is_told(sheet, tmp_path):
    path, keys, _, key = sheet()
    one = fill(path, key, adapter_is_right, name="李律师", target=tmp_path / "li.xlsx")
    two = fill(path, key, lambda n, side: adapter_is_right(n, side) if n > 3 else "no", target=tmp_path / "zhao.xlsx")
    found = read_grades([one, two], keys)
    # 24 answers: they differ on 3; by chance they would agree on (12 * 9 + 12 * 15) / 24**2 = 0.5.
    assert found["agreement"] == {"answers": 24, "share": 21 / 24, "kappa": pytest.approx(0.75)}
    assert found["accuracy"]["adapter"]["mean"] == pytest.approx((9 + 3 * 0.5) / 12) and found["graded"] == 12 and found["wins"] == 12
    lines = report_lines(found)
    assert lines[0] == "12 of 12 questions graded, by 李律师, zhao." and "The graders agree on 88% of 24 answers." in lines
    assert "  Cohen's kappa: 0.75 (1: always; 0: no more than by chance)." in lines
    assert read_grades(one, keys)["agreement"] is None


def test_graders_of_two_sheets_of_one_run_meet_on_the_same_questions(sheet):
    path, keys, _, key = sheet()
    other, _, _, other_key = sheet(name="other.xlsx")
    found = read_grades([fill(path, key, adapter_is_right), fill(other, other_key, adapter_is_right)], keys)
    assert found["questions"] == found["graded"] == 12 and found["agreement"]["share"] == 1.0 and found["wins"] == 12


def test_files_that_are_no_sheet_of_this_run_are_refused_all_at_once(sheet, tmp_path):
    path, keys, number, key = sheet()
    (tmp_path / "text.xlsx").write_text("no zip", encoding="utf-8")
    openpyxl.Workbook().save(tmp_path / "empty.xlsx")
    headless = fill(path, key, adapter_is_right, target=tmp_path / "headless.xlsx")
    book = openpyxl.load_workbook(headless)
    book.worksheets[0]["F3"] = "fine?"
    book.save(headless)
    with pytest.raises(RunError) as caught:
        read_grades([tmp_path / "gone.xlsx", tmp_path / "text.xlsx", tmp_path / "empty.xlsx", headless], keys)
    gone, text, empty, lost = caught.value.problems
    assert "there is no such file" in gone and "without a password" in text and "is nowhere in it" in empty
    assert "no column is headed 'A factually accurate?'" in lost
    foreign = tmp_path / "other" / "keys.json"
    write_sheet(tmp_path / "foreign.xlsx", make_rows(), foreign, "runs/other")
    with pytest.raises(RunError, match=f"review sheet {number} is not in .*keys.json, so it belongs to another run"):
        read_grades(path, foreign)
    with pytest.raises(RunError, match="no review sheet was written for this run. Write one with --sheet"):
        read_grades(path, tmp_path / "none.json")
    keys.write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read"):
        read_grades(path, keys)


def test_the_number_survives_in_the_files_properties(sheet):
    path, keys, _, key = sheet()
    fill(path, key, adapter_is_right)
    book = openpyxl.load_workbook(path)
    book.worksheets[0]["I1"] = None
    book.save(path)
    assert read_grades(path, keys)["graded"] == 12


def test_remarks_come_back_with_their_rows(sheet):
    path, keys, _, key = sheet()
    fill(path, key, adapter_is_right, name="李")
    book = openpyxl.load_workbook(path)
    book.worksheets[0]["I5"] = "引用了已废止的条文"
    book.save(path)
    items = {item["where"]: item for item in read_grades(path, keys)["items"]}
    assert items["metadata.csv:3"]["remarks"] == {"李": "引用了已废止的条文"} and items["metadata.csv:2"]["remarks"] == {}


def test_three_graders_have_a_share_and_no_kappa(sheet, tmp_path):
    path, keys, _, key = sheet()
    wrong = {"one": 0, "two": 3, "three": 6}  # each calls so many of the adapter's answers wrong, the first ones
    files = [
        fill(
            path, key, lambda n, side, few=few: adapter_is_right(n, side) if n > few else "no", name=name, target=tmp_path / f"{name}.xlsx"
        )
        for name, few in wrong.items()
    ]
    found = read_grades(files, keys)
    # Of three pairs with 24 answers each: one and two differ on 3, one and three on 6, two and three on 3.
    assert found["agreement"] == {"answers": 72, "share": pytest.approx(60 / 72), "kappa": None}
    assert found["accuracy"]["adapter"]["mean"] == pytest.approx((3 * 1 / 3 + 3 * 2 / 3 + 6) / 12)
    assert [item["graders"] for item in found["items"]] == [3] * 12
