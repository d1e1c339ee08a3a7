# SPDX-License-Identifier: Apache-2.0
"""What an expert wrote into a sheet, cell by cell: limits of where things are looked for, and what each verdict means."""

from __future__ import annotations

import openpyxl
import pytest

from loraforge import RunError
from loraforge.evaluation import grades
from loraforge.evaluation.grades import Grade, GradedFile
from loraforge.evaluation.review_sheet import digest

HEADERS = {"number": "No.", "question": "Question", "a": "Answer A", "b": "Answer B", "a_ok": "A ok?", "b_ok": "B ok?", "better": "Better", "remarks": "Remarks"}  # fmt: skip
NUMBER = "LF-" + "0123456789abcdef"


def key_row(number: int, a: str = "adapter", texts=("q", "x", "y"), id_: str | None = None) -> dict:
    sha = dict(zip(("question", "a", "b"), map(digest, texts), strict=True))
    return {
        "number": number,
        "id": id_ or f"id{number}",
        "where": f"row {number}",
        "a": a,
        "b": "base" if a == "adapter" else "adapter",
        "sha256": sha,
    }


def write(path, lines, *, top: int = 3, left: int = 0, number: str | None = NUMBER, number_row: int = 1, name=("Your name:", "Li")) -> None:
    """A sheet as an office program may have left it: headings in row ``top``, ``left`` columns further right."""
    book = openpyxl.Workbook()
    page = book.active
    for offset, text in enumerate(name):
        page.cell(1, 2 + offset).value = text
    if number:
        page.cell(number_row, 40).value = number
    for column, title in enumerate(HEADERS.values()):
        page.cell(top, 1 + left + column).value = title
    for line, cells in enumerate(lines, 1):
        for column, value in enumerate(cells):
            page.cell(top + line, 1 + left + column).value = value
    book.save(path)


def read(path, rows, problems=None) -> GradedFile:
    return grades.read_file(
        path, {NUMBER: {"headers": HEADERS, "name": "Your name:", "rows": rows}}, path, [] if problems is None else problems
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", 1.0),
        ("是", 1.0),
        ("√", 1.0),
        ("partly", 0.5),
        (0.5, 0.5),
        ("一半", None),
        ("no", 0.0),
        ("×", 0.0),
        (1, 1.0),
        (0, 0.0),
        (True, 1.0),
    ],
)
def test_what_a_verdict_is_worth(tmp_path, written, value):
    problems: list[str] = []
    write(tmp_path / "r.xlsx", [(1, "q", "x", "y", written, "yes")])
    found = read(tmp_path / "r.xlsx", [key_row(1)], problems)
    if value is None:
        assert problems == [f"r.xlsx: Sheet!E4: '{written}' is not understood. Write yes, partly or no."]
    else:
        assert found.grades == {"id1": Grade(base=1.0, adapter=value, better=(value > 1.0) - (value < 1.0), remark="")} and not problems


@pytest.mark.parametrize(
    ("side", "a_ok", "b_ok", "better", "grade"),
    [
        ("adapter", "yes", "no", None, Grade(0.0, 1.0, 1, "")),
        ("adapter", "no", "yes", None, Grade(1.0, 0.0, -1, "")),
        ("base", "yes", "no", None, Grade(1.0, 0.0, -1, "")),
        ("base", "no", "partly", None, Grade(0.0, 0.5, 1, "")),
        ("base", "no", "no", None, Grade(0.0, 0.0, 0, "")),
        ("adapter", "yes", "no", "B", Grade(0.0, 1.0, -1, "")),
        ("adapter", "no", "yes", "A", Grade(1.0, 0.0, 1, "")),
        ("base", "yes", "yes", "A", Grade(1.0, 1.0, -1, "")),
        ("base", "yes", "yes", "b", Grade(1.0, 1.0, 1, "")),
        ("base", "yes", "no", "same", Grade(1.0, 0.0, 0, "")),
    ],
)
def test_verdicts_and_preferences_go_to_their_side(tmp_path, side, a_ok, b_ok, better, grade):
    write(tmp_path / "r.xlsx", [(1.0, "q", "x", "y", a_ok, b_ok, better)])
    assert read(tmp_path / "r.xlsx", [key_row(1, side)]).grades == {"id1": grade}


@pytest.mark.parametrize(
    ("a_ok", "b_ok", "better", "where"),
    [("yes", None, None, "F4"), (None, "no", "A", "E4"), (None, None, "A", "E4"), (None, None, None, None)],
)
def test_half_of_a_judgement_is_named_and_none_is_counted(tmp_path, a_ok, b_ok, better, where):
    write(tmp_path / "r.xlsx", [(1, "q", "x", "y", a_ok, b_ok, better), (2, "p", "x", "y", "yes", "no")])
    found = read(tmp_path / "r.xlsx", [key_row(1), key_row(2, texts=("p", "x", "y"))])
    assert found.grades.keys() == {"id2"} and found.blank == (where is None)
    assert found.incomplete == ([f"r.xlsx: Sheet!{where}"] if where else [])


@pytest.mark.parametrize(
    ("a_ok", "b_ok", "better", "grade"),
    [("yes", None, None, 1.0), (None, "no", None, 0.0), ("no", "no", "A", 0.0), (None, None, "A", None), (None, None, None, None)],
)
def test_equal_answers_need_one_verdict_and_no_preference(tmp_path, a_ok, b_ok, better, grade):
    write(tmp_path / "r.xlsx", [(1, "q", "x", "x", a_ok, b_ok, better)])
    found = read(tmp_path / "r.xlsx", [key_row(1, texts=("q", "x", "x"))])
    assert (
        found.grades == ({"id1": Grade(grade, grade, 0, "")} if grade is not None else {})
        and found.blank == (grade is None)
        and not found.incomplete
    )


@pytest.mark.parametrize(
    ("top", "number_row", "told"),
    [(30, 20, None), (3, 21, "this is no review sheet"), (31, 1, "no column is headed 'Question', 'Answer A'")],
)
def test_how_far_down_headings_and_number_are_looked_for(tmp_path, top, number_row, told):
    write(tmp_path / "r.xlsx", [(1, "q", "x", "y", "yes", "no")], top=top, number_row=number_row, left=2)
    if told:
        with pytest.raises(RunError, match=told):
            read(tmp_path / "r.xlsx", [key_row(1)])
    else:
        assert read(tmp_path / "r.xlsx", [key_row(1)]).grades["id1"].better == 1


@pytest.mark.parametrize("number", ["LF-0123456789abcde", "LF-0123456789abcdef0", "LF-0123456789ABCDEF", "see LF-0123456789abcdef", None])
def test_what_is_no_number_of_a_sheet(tmp_path, number):
    write(tmp_path / "r.xlsx", [], number=number)
    with pytest.raises(RunError, match="this is no review sheet"):
        read(tmp_path / "r.xlsx", [])


@pytest.mark.parametrize(
    ("name", "grader"),
    [
        (("Your name:", "Li"), "Li"),
        (("Your name:", None, " Wu "), "Wu"),
        (("Your name:", None, None, "far"), "r"),
        (("Your name:",), "r"),
        (("Name", "Li"), "r"),
    ],
)
def test_the_name_stands_beside_its_label(tmp_path, name, grader):
    write(tmp_path / "r.xlsx", [], name=name)
    assert read(tmp_path / "r.xlsx", []).grader == grader
    # Headings in the first row: the name can only stand there.
    write(tmp_path / "r.xlsx", [], name=(), top=1)
    assert read(tmp_path / "r.xlsx", []).grader == "r"


def test_a_name_below_the_headings_is_an_answer(tmp_path):
    write(tmp_path / "r.xlsx", [(1, "Your name:", "Wu", "y", "yes", "no")], name=())
    assert read(tmp_path / "r.xlsx", [key_row(1, texts=("Your name:", "Wu", "y"))]).grader == "r"


def test_the_row_with_most_headings_is_the_heading(tmp_path):
    write(tmp_path / "r.xlsx", [(1, "q", "x", "y", "yes", "no")], top=5)
    book = openpyxl.load_workbook(tmp_path / "r.xlsx")
    book.create_sheet("before", 0)["A1"] = "Question"
    book.worksheets[1]["A2"] = " ｑuestion . "
    book.save(tmp_path / "r.xlsx")
    assert len(read(tmp_path / "r.xlsx", [key_row(1)]).grades) == 1


def test_twins_are_told_apart_by_their_numbers_and_then_in_order(tmp_path):
    rows = [key_row(1, "adapter"), key_row(2, "base"), key_row(3, "adapter")]
    write(
        tmp_path / "r.xlsx", [("2.0", "q", "x", "y", "yes", "no"), (None, "q", "x", "y", "yes", "no"), (9, "q", "x", "y", "yes", "partly")]
    )
    found = read(tmp_path / "r.xlsx", rows)
    assert {name: (g.base, g.adapter) for name, g in found.grades.items()} == {"id2": (1.0, 0.0), "id1": (0.0, 1.0), "id3": (0.5, 1.0)}
    assert found.missing == 0
    problems: list[str] = []
    write(tmp_path / "r.xlsx", [(1, "q", "x", "y", "yes", "no")] * 2)
    again = read(tmp_path / "r.xlsx", rows[:1], problems)
    assert (
        problems == ["r.xlsx: Sheet!B5: the same question stands at r.xlsx: Sheet!B4 too. Delete one of the two rows."]
        and len(again.grades) == 1
    )


def test_edited_rows_are_named_by_the_cells_that_changed(tmp_path):
    rows = [key_row(i, texts=(f"q{i}", f"x{i}", f"y{i}")) for i in range(1, 6)]
    lines = [(1, "q1 new", "x1", "y1", "yes", "no"), (2, "q2", "y2", "x2", "yes", "no"), (77, "q3", "x", "y3", "yes", "no"), (None,) * 6, (None, None, None, None, "yes")]  # fmt: skip
    write(tmp_path / "r.xlsx", lines)
    found = read(tmp_path / "r.xlsx", rows)
    assert found.edited == [f"r.xlsx: Sheet!{cell}" for cell in ("B4", "C5", "D5", "B6", "B8")]
    assert not found.grades and found.missing == 3, "3, 4 and 5 stand nowhere; 1 and 2 were touched"


def test_remarks_and_missing_columns(tmp_path):
    write(tmp_path / "r.xlsx", [(1, "q", "x", "y", "yes", "no", None, " good ")])
    assert read(tmp_path / "r.xlsx", [key_row(1)]).grades["id1"].remark == "good"
    book = openpyxl.load_workbook(tmp_path / "r.xlsx")
    book.active.delete_cols(7, 2)
    book.save(tmp_path / "r.xlsx")
    assert read(tmp_path / "r.xlsx", [key_row(1)]).grades["id1"] == Grade(0.0, 1.0, 1, "")


@pytest.mark.parametrize(
    ("value", "plain"),
    [(" Ｙ e s。", "yes"), ("A.", "a"), (2.0, "2"), (2.5, "2.5"), (None, ""), ("a,b;c:d!e?", "abcde"), ("0.5", "0.5"), ("是。", "是")],
)
def test_how_a_cell_is_read(value, plain):
    assert grades._plain(value) == plain


def test_a_sheet_that_unpacks_to_more_than_any_table_is_not_opened(tmp_path, monkeypatch):
    import zipfile

    from loraforge import LARGEST

    path = tmp_path / "r.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/worksheets/sheet1.xml", "w") as member:
        for _ in range(LARGEST // 10_000_000 + 1):
            member.write(b" " * 10_000_000)
    monkeypatch.setattr(openpyxl, "load_workbook", lambda *args, **options: pytest.fail("opened"))
    with pytest.raises(RunError, match="unpacks to 210 MB, more than the 200 MB that are read"):
        grades.read_file(path, {}, tmp_path / "keys", [])
