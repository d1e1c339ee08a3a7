# SPDX-License-Identifier: Apache-2.0
"""Automatic numbers of Word: as the questions' marks, and as part of answers."""

from __future__ import annotations

import pytest
from builders import office
from builders.text_data import load, problems

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def numbered(path, paragraphs, lists, heading=False):
    """A document whose paragraphs are texts, (list, level, text), or (0, 0, text) for a heading.

    Args:
        lists: for each list the (format, text) of its levels.
    """
    import docx
    from docx.oxml import parse_xml

    document = docx.Document()
    root = document.part.numbering_part.element
    for child in list(root):
        root.remove(child)
    for number, levels in enumerate(lists, 1):
        inner = "".join(
            f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/></w:lvl>'
            for i, (kind, text) in enumerate(levels)
        )
        root.append(parse_xml(f'<w:abstractNum {W} w:abstractNumId="{number}">{inner}</w:abstractNum>'))
    for number in range(1, len(lists) + 1):
        root.append(parse_xml(f'<w:num {W} w:numId="{number}"><w:abstractNumId w:val="{number}"/></w:num>'))
    for one in paragraphs:
        if isinstance(one, str):
            document.add_paragraph(one)
        elif not one[0]:
            document.add_heading(one[2], 1)
        else:
            number, level, text = one
            paragraph = document.add_paragraph(text)
            paragraph._p.get_or_add_pPr().append(parse_xml(f'<w:numPr {W}><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'))
    document.save(path)
    return path


def rows(path, **keys):
    return [(r.instruction, r.output) for r in load(path, **keys)[0]]


DECIMAL, CHINESE = ("decimal", "%1."), ("chineseCounting", "%1、")


@pytest.mark.parametrize("shape", [DECIMAL, CHINESE, ("decimal", "第%1问"), ("upperRoman", "%1)")])
def test_numbered_questions_with_the_paragraphs_below_them(tmp_path, shape):
    file = numbered(
        tmp_path / "d.docx", ["常见问题", (1, 0, "试用期多长？"), "六个月。", "见第十九条。", (1, 0, "能延长吗？"), "不能。"], [[shape]]
    )
    assert rows(file) == [("试用期多长？", "六个月。\n见第十九条。"), ("能延长吗？", "不能。")]
    records, notes = load(file)
    assert [r.where for r in records] == ["d.docx, paragraph 2", "d.docx, paragraph 5"]
    assert any("2 questions in numbered" in note for note in notes) and any("常见问题" in note for note in notes)


def test_a_list_style_is_a_number_too(tmp_path):
    import docx

    document = docx.Document()
    for text, style in (("一？", "List Number"), ("好。", None), ("二？", "List Number"), ("行。", None)):
        document.add_paragraph(text, style)
    document.save(tmp_path / "d.docx")
    assert rows(tmp_path / "d.docx") == [("一？", "好。"), ("二？", "行。")]


def test_headings_above_numbered_questions_are_titles_and_with_text_below_them_they_ask(tmp_path):
    body = [(0, 0, "合同"), (1, 0, "一？"), "好。", (0, 0, "婚姻"), (1, 0, "二？"), "行。"]
    file = numbered(tmp_path / "d.docx", body, [[DECIMAL]])
    assert rows(file) == [("一？", "好。"), ("二？", "行。")]
    body = [(0, 0, "怎样核对？"), "逐项看：", (1, 0, "有签名吗？"), "应当有。", (1, 0, "有日期吗？"), "也应当有。"]
    assert rows(numbered(tmp_path / "e.docx", body, [[DECIMAL]])) == [
        ("怎样核对？", "逐项看：\n1. 有签名吗？\n应当有。\n2. 有日期吗？\n也应当有。")
    ]


@pytest.mark.parametrize("step", ["先催告。", "再起诉"])
def test_steps_in_the_list_of_the_questions_stop_with_a_sentence(tmp_path, step):
    body = [(1, 0, "怎么办？"), "这样：", (1, 0, step), (1, 0, "多久？"), "三年。", (1, 0, "能延长吗？"), "能。"]
    [told] = problems(numbered(tmp_path / "d.docx", body, [[DECIMAL]]))
    assert "1 of 4 do not end in a question mark" in told and step in told and "paragraph 3" in told


def test_a_list_of_its_own_in_an_answer_keeps_its_numbers(tmp_path):
    body = [(1, 0, "怎么办？"), "分两步：", (2, 0, "催告"), (2, 1, "书面"), (2, 0, "起诉"), (1, 0, "多久？"), "三年。"]
    file = numbered(tmp_path / "d.docx", body, [[DECIMAL], [("decimal", "（%1）"), ("lowerLetter", "%2)")]])
    assert rows(file) == [("怎么办？", "分两步：\n（1）催告\na) 书面\n（2）起诉"), ("多久？", "三年。")]


def test_marked_questions_and_cells_keep_the_numbers_of_lists_and_the_letters_of_choices(tmp_path):
    body = ["问：选哪个？", (1, 0, "一个月"), (1, 0, "两个月"), "答：理由：", (2, 0, "甲"), (2, 0, "乙")]
    file = numbered(tmp_path / "d.docx", body, [[("upperLetter", "%1.")], [CHINESE]])
    assert rows(file) == [("选哪个？\nA. 一个月\nB. 两个月", "理由：\n一、甲\n二、乙")]


# What Word shows for the n-th paragraph of such a list (ISO/IEC 29500-1, 17.18.59).
@pytest.mark.parametrize(
    ("kind", "shown"),
    [("decimal", {1: "1", 12: "12"}), ("decimalZero", {3: "03"}), ("lowerLetter", {1: "a", 26: "z", 27: "aa"}), ("upperRoman", {4: "IV", 9: "IX", 14: "XIV"}),
     ("chineseCountingThousand", {1: "一", 10: "十", 12: "十二", 20: "二十", 21: "二十一"}), ("decimalEnclosedCircle", {1: "①", 10: "⑩"}),
     ("ideographTraditional", {2: "乙"}), ("lowerRoman", {8: "viii"}), ("cardinalText", {2: "2"})],
)  # fmt: skip
def test_formats_of_numbers(tmp_path, kind, shown):
    last = max(shown)
    body = ["问：一？", "答：好", *((1, 0, f"x{i}") for i in range(1, last + 1))]
    lines = rows(numbered(tmp_path / "d.docx", body, [[(kind, "%1.")]]))[0][1].split("\n")[1:]
    assert {n: lines[n - 1] for n in shown} == {n: f"{text}. x{n}" for n, text in shown.items()}


def test_lower_levels_begin_anew_and_name_the_upper_ones_and_bullets_are_nothing(tmp_path):
    body = ["问：一？", "答：好", *((1, level, "x") for level in (0, 1, 1, 0, 1)), (2, 0, "y")]
    file = numbered(tmp_path / "d.docx", body, [[("decimal", "%1"), ("decimal", "%1.%2")], [("bullet", "•")]])
    assert rows(file)[0][1] == "好\n1 x\n1.1 x\n1.2 x\n2 x\n2.1 x\ny"


def test_a_list_that_begins_anew_and_one_that_is_broken(tmp_path):
    import docx
    from docx.oxml import parse_xml

    file = numbered(tmp_path / "d.docx", ["问：一？", "答：好", (1, 0, "x"), (2, 0, "y"), (9, 0, "z")], [[DECIMAL], [DECIMAL]])
    document = docx.Document(file)
    second = document.part.numbering_part.element.findall("{*}num")[1]
    second.find("{*}abstractNumId").set("{http://schemas.openxmlformats.org/wordprocessingml/2006/main}val", "1")
    second.append(parse_xml(f'<w:lvlOverride {W} w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>'))
    document.save(file)
    assert rows(file)[0][1] == "好\n1. x\n5. y\nz"


def test_a_document_beside_tables_that_only_numbers_its_paragraphs_is_a_letter(tmp_path):
    file = numbered(tmp_path / "d.docx", [(1, 0, "甲方同意。"), "签字", (1, 0, "乙方同意。"), "签字"], [[DECIMAL]])
    assert "holds no questions and answers" in problems(file)[0]
    office.xlsx(tmp_path / "f.xlsx", [["问题", "答案"], ["一？", "答"]])
    assert len(load(tmp_path)[0]) == 1
