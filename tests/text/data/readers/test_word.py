# SPDX-License-Identifier: Apache-2.0
"""Word documents."""

from __future__ import annotations

import pytest
from builders import office
from builders.text_data import load, problems
from builders.text_data import write as write_text

HEAD = ["问题", "答案"]


def rows(path, **keys):
    return [(r.instruction, r.output) for r in load(path, **keys)[0]]


def test_tables_with_a_header_and_those_that_go_on(tmp_path):
    file = office.docx(
        tmp_path / "d.docx",
        ["说明", [HEAD, ["一？", "好。\n第二行"]], [["二？", "行。"]], [["甲", "乙", "丙"]], [["题目", *HEAD], ["1", "三？", "好"]]],
    )
    with pytest.raises(Exception, match="could all be"):
        load(office.docx(tmp_path / "e.docx", [[["题目", *HEAD], ["1", "三？", "好"]]]))
    made, notes = load(file, columns={"instruction": "问题"})
    assert [(r.instruction, r.output) for r in made] == [("一？", "好。\n第二行"), ("二？", "行。"), ("三？", "好")]
    assert made[0].where == "d.docx, table 1, row 2" and made[1].where == "d.docx, table 2, row 1"
    assert any("1 table without the columns" in n for n in notes) and any("1 paragraph of text" in n and "说明" in n for n in notes)


def test_a_title_row_and_cells_merged_downwards(tmp_path):
    import docx

    file = office.docx(tmp_path / "d.docx", [[["法律问答", ""], HEAD, ["一？", "同一个。"], ["二？", ""]]])
    document = docx.Document(file)
    table = document.tables[0]
    table.cell(0, 0).merge(table.cell(0, 1))
    table.cell(2, 1).merge(table.cell(3, 1))
    document.save(file)
    assert rows(file) == [("一？", "同一个。"), ("二？", "同一个。")]


@pytest.mark.parametrize("blocks", [["问：一？", "答：好。", "第二段", "问：二？", "答：行。"], ["Q: 一？", "A: 好。", "第二段", "Q: 二？", "A: 行。"],
                                    [(1, "一？"), "好。", "第二段", (1, "章"), (2, "二？"), "行。"]])  # fmt: skip
def test_paragraphs_and_headings(tmp_path, blocks):
    file = office.docx(tmp_path / "d.docx", blocks)
    assert rows(file) == [("一？", "好。\n第二段"), ("二？", "行。")]
    assert load(file)[0][0].where == "d.docx, paragraph 1"


def test_tracked_changes_read_as_accepted(tmp_path):
    import docx
    from docx.oxml import parse_xml

    file = office.docx(tmp_path / "d.docx", ["问：一？", "答："])
    document = docx.Document(file)
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    paragraph = document.paragraphs[1]._p
    paragraph.append(parse_xml(f'<w:del {w} w:id="1" w:author="a"><w:r><w:delText>旧</w:delText></w:r></w:del>'))
    paragraph.append(parse_xml(f'<w:ins {w} w:id="2" w:author="a"><w:r><w:t>新的</w:t></w:r></w:ins>'))
    document.save(file)
    assert rows(file) == [("一？", "新的")]


def test_beside_tables_a_document_counts_only_if_it_holds_questions(tmp_path):
    write_text(tmp_path / "a.csv", "问题,答案\n一？,答\n")
    office.docx(tmp_path / "合同.docx", [(1, "第一条 总则"), "本合同……", (1, "第二条 期限"), "一年。"])
    records, notes = load(tmp_path)
    assert len(records) == 1 and any("合同.docx" in note and "not read" in note for note in notes)
    office.docx(tmp_path / "问答.docx", ["问：二？", "答：好。"])
    assert len(load(tmp_path)[0]) == 2


@pytest.mark.parametrize("kind", ["cut", "noise", "empty", "a workbook"])
def test_damaged_documents_end_in_a_sentence(tmp_path, kind):
    whole = office.docx(tmp_path / "w.docx", ["问：一？"]).read_bytes()
    book = office.xlsx(tmp_path / "w.xlsx", [HEAD]).read_bytes()
    (tmp_path / "d.docx").write_bytes(
        {"cut": whole[:-900], "noise": b"PK\x03\x04" + bytes(range(256)), "empty": b"", "a workbook": book}[kind]
    )
    assert "d.docx: is no readable Word file (.docx)" in problems(tmp_path / "d.docx")[0]


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    import sys

    file = office.docx(tmp_path / "d.docx", ["问：一？"])
    monkeypatch.setitem(sys.modules, "docx", None)
    assert "pip install 'loraforge[office]'" in problems(file)[0]
    write_text(tmp_path / "a.csv", "问题,答案\n一？,答\n")
    records, notes = load(tmp_path)
    assert len(records) == 1 and any("d.docx" in note or "loraforge[office]" in note for note in notes)


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def changed(path, change):
    """The document with its body changed by ``change(document, body)``."""
    import docx

    document = docx.Document(path)
    change(document, document.element.body)
    document.save(path)
    return path


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_a_section_row_over_all_columns_is_no_example(tmp_path, columns):
    head = [*HEAD, "备注", "日期"][:columns]
    file = office.docx(tmp_path / "d.docx", [[head, ["第一章", *[""] * (columns - 1)], ["一？", "好", "x", "y"][:columns]]])
    changed(file, lambda document, _: document.tables[0].cell(1, 0).merge(document.tables[0].cell(1, columns - 1)))
    records, notes = load(file)
    assert [(r.instruction, r.output) for r in records] == [("一？", "好")] and any("headings" in n and "第一章" in n for n in notes)


@pytest.mark.parametrize("wide", [0, 1])
@pytest.mark.parametrize("rows_too", [False, True])
def test_a_header_over_two_columns_of_the_grid_is_one_column(tmp_path, wide, rows_too):
    cells = [["问题", "", "答案"], ["一？", "", "好"]] if wide == 0 else [["问题", "答案", ""], ["一？", "好", ""]]
    file = office.docx(tmp_path / "d.docx", [cells])

    def merge(document, _):
        for row in (0, 1)[: 1 + rows_too]:
            document.tables[0].cell(row, wide).merge(document.tables[0].cell(row, wide + 1))

    assert rows(changed(file, merge)) == [("一？", "好")]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("blocks", [["问：一？", "答：好。"], [[HEAD, ["一？", "好。"]]], [(1, "一？"), "好。"]])
def test_what_stands_in_content_controls_is_read(tmp_path, blocks, depth):
    from docx.oxml import parse_xml

    def wrap(_, body):
        for block in [child for child in body if not child.tag.endswith("sectPr")]:
            for _ in range(depth):
                control = parse_xml(f"<w:sdt {W}><w:sdtPr/><w:sdtContent/></w:sdt>")
                block.addprevious(control)
                control[1].append(block)
                block = control

    assert rows(changed(office.docx(tmp_path / "d.docx", blocks), wrap)) == [("一？", "好。")]


@pytest.mark.parametrize("part", ["tr", "tc"])
def test_rows_and_cells_in_content_controls_are_read(tmp_path, part):
    from docx.oxml import parse_xml

    def wrap(_, body):
        for one in list(body.iter(f"{{{W[9:-1]}}}{part}")):
            control = parse_xml(f"<w:sdt {W}><w:sdtPr/><w:sdtContent/></w:sdt>")
            one.addprevious(control)
            control[1].append(one)

    assert rows(changed(office.docx(tmp_path / "d.docx", [[HEAD, ["一？", "好。"]]]), wrap)) == [("一？", "好。")]


def test_a_table_in_an_answer_is_kept_as_text(tmp_path):
    def nest(document, _):
        inner = document.tables[0].cell(1, 1).add_table(2, 2)
        for cell, text in zip(inner._cells, ("年限", "月数", "一年", "两个月"), strict=True):
            cell.text = text

    file = changed(office.docx(tmp_path / "d.docx", [[HEAD, ["一？", "见表："]]]), nest)
    assert rows(file) == [("一？", "见表：\n年限 | 月数\n一年 | 两个月")]


@pytest.mark.parametrize("asked", [(1, "一？"), "问：一？"])
def test_a_table_below_a_question_in_the_text_is_kept(tmp_path, asked):
    begin = "答：见表：" if isinstance(asked, str) else "见表："
    file = office.docx(tmp_path / "d.docx", [asked, begin, [["年限", "月数"], ["一年", "两个月"]], "以上。"])
    assert rows(file) == [("一？", "见表：\n年限 | 月数\n一年 | 两个月\n以上。")]


def test_a_header_that_is_repeated_is_no_example(tmp_path):
    assert rows(office.docx(tmp_path / "d.docx", [[HEAD, ["一？", "好"], HEAD, ["二？", "行"]]])) == [("一？", "好"), ("二？", "行")]


def test_cells_under_no_column_are_said(tmp_path):
    from docx.oxml import parse_xml

    def add(_, body):
        body.findall(f".//{{{W[9:-1]}}}tr")[1].append(parse_xml(f"<w:tc {W}><w:p><w:r><w:t>多出</w:t></w:r></w:p></w:tc>"))

    _, notes = load(changed(office.docx(tmp_path / "d.docx", [[HEAD, ["一？", "好"]]]), add))
    assert any("cells under no column are not used: 多出" in note for note in notes)
