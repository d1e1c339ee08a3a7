# SPDX-License-Identifier: Apache-2.0
"""Questions and answers in running text."""

from __future__ import annotations

import pytest
from builders.text_data import load, problems, write

MARKED = {
    "问：": "问：一？\n答：好。\n第二行。\n\n问：二？\n答：行。\n",
    "Q:": "Q: 一？\nA: 好。\n第二行。\n\nQ: 二？\nA: 行。\n",
    "numbered": "Q1: 一？\nA1: 好。\n第二行。\nQ2: 二？\nA2: 行。\n",
    "numbers before": "1. 问：一？\n答：好。\n第二行。\n2. 问：二？\n答：行。\n",
    "brackets": "【问】一？\n【答】好。\n第二行。\n【问】二？\n【答】行。\n",
    "bold": "**Q:** 一？\n\n**A:** 好。\n第二行。\n\n**Q:** 二？\n\n**A:** 行。\n",
    "bold over all": "**Q: 一？**\n\nA: 好。\n第二行。\n\n**Q: 二？**\n\nA: 行。\n",
    "list": "- **问**：一？\n- **答**：好。\n第二行。\n- **问**：二？\n- **答**：行。\n",
    "words": "Question: 一？\nAnswer: 好。\n第二行。\nQuestion: 二？\nAnswer: 行。\n",
    "a question of two lines": "问题：\n一？\n答案：\n好。\n第二行。\n问题：二？\n答案：行。\n",
}


@pytest.mark.parametrize("name", ["d.txt", "d.md"])
@pytest.mark.parametrize("shape", MARKED)
def test_marked_questions(tmp_path, name, shape):
    records, _ = load(write(tmp_path / name, MARKED[shape]))
    assert [(r.instruction, r.output) for r in records] == [("一？", "好。\n第二行。"), ("二？", "行。")]
    assert records[0].where.startswith(f"{name}, line ")


def test_headings_of_markdown(tmp_path):
    text = "# 劳动法问答\n\n序言。\n\n## 试用期最长多久？\n\n六个月。\n\n- 一年以下：一个月\n\n```\n# 不是标题\n```\n\n## 第二章\n\n### 可以辞职吗？ ##\n可以。\n"
    records, notes = load(write(tmp_path / "faq.md", text))
    assert [(r.instruction, r.output, r.where) for r in records][1:] == [
        ("试用期最长多久？", "六个月。\n\n- 一年以下：一个月\n\n```\n# 不是标题\n```", "faq.md, line 5"), ("可以辞职吗？", "可以。", "faq.md, line 17"),
    ]  # fmt: skip
    assert any("3 headings are taken for questions" in note for note in notes) and any("第二章" in note for note in notes)


def test_text_that_belongs_to_no_question_is_named(tmp_path):
    _, notes = load(write(tmp_path / "d.txt", "某律所编写\n问：一？\n答：好。\n"))
    assert any("1 line belongs to no question" in note and "某律所编写" in note for note in notes)


def test_an_unanswered_question_is_a_bad_row(tmp_path):
    assert problems(write(tmp_path / "d.txt", "问：一？\n问：二？\n答：好。\n"))[0] == "d.txt, line 1: 'output' is empty."


def test_a_letter_is_no_data(tmp_path):
    assert "no questions and answers" in problems(write(tmp_path / "d.txt", "尊敬的客户：\n您好。\n"))[0]
    write(tmp_path / "f" / "a.csv", "问题,答案\n一？,答\n")
    records, notes = load(write(tmp_path / "f" / "notes.md", "# 说明\n这是一封信。\n").parent)
    assert len(records) == 1 and any("not read: notes.md" in note for note in notes)


@pytest.mark.parametrize("mark", ["A. ", "A、 ", "A．  ", "A: ", "A："])
@pytest.mark.parametrize("answered", [False, True])
def test_the_choices_of_an_exam_are_no_answers(tmp_path, mark, answered):
    choices = f"{mark}一个月\n{mark.replace('A', 'B')}两个月"
    asked = f"问：试用期？\n{choices}\n答：选 B。\n" if not answered else f"问：试用期？\n答：选 B，见：\n{choices}\n"
    [first, second], _ = load(write(tmp_path / "d.txt", f"{asked}问：二？\n答：行。\n"))
    choices = choices.strip()
    expected = (f"试用期？\n{choices}", "选 B。") if not answered else ("试用期？", f"选 B，见：\n{choices}")
    assert (first.instruction, first.output) == expected and second.output == "行。"


def test_letters_with_a_dot_mark_answers_where_they_mark_questions(tmp_path):
    [first, second], _ = load(write(tmp_path / "d.txt", "Q. 一？\nA. 好。\nQ. 二？\nA. 行。\n"))
    assert (first.output, second.output) == ("好。", "行。")


@pytest.mark.parametrize("name", ["d.txt", "d.docx"])
@pytest.mark.parametrize(
    ("text", "read"),
    [("问：一？答：好。\n问：二？ 答：行。\n", [("一？", "好。"), ("二？", "行。")]),
     ("Q: One? A: Good.\nQ: Two?\tA: Fine.\n", [("One?", "Good."), ("Two?", "Fine.")]),
     ("问：一？答：好。问：二？答：行。\n", [("一？", "好。"), ("二？", "行。")]),
     ("问：一？\n答：好。问：二？\n答：行。\n", [("一？", "好。"), ("二？", "行。")]),
     ("1. 问：一？答：好。\n第二行。\n2. 问：二？答：行。\n", [("一？", "好。\n第二行。"), ("二？", "行。")]),
     ("问：他说“问：在吗？答：在。”怎么办？\n答：不必理会。\n", [("他说“问：在吗？答：在。”怎么办？", "不必理会。")]),
     ("问：选哪个？A：一 B：二\n答：B\n", [("选哪个？A：一 B：二", "B")]),
     ("问：对方书面回答：不同意，怎么办？\n答：起诉。\n", [("对方书面回答：不同意，怎么办？", "起诉。")])],
)  # fmt: skip
def test_a_question_and_its_answer_in_one_paragraph(tmp_path, name, text, read):
    from builders import office

    file = office.docx(tmp_path / name, text.split("\n")) if name == "d.docx" else write(tmp_path / name, text)
    assert [(r.instruction, r.output) for r in load(file)[0]] == read


@pytest.mark.parametrize("name", ["d.txt", "d.md"])
@pytest.mark.parametrize(
    "text",
    ["1. 一？\n好。\n第二行。\n\n2. 二？\n行。\n", "一、一？\n好。\n第二行。\n二、二？\n行。\n", "（1）一？\n好。\n第二行。\n（2）二？\n行。\n",
     "1. **一？**\n\n   好。\n   第二行。\n\n2. **二？**\n\n   行。\n", "1) 一？\n好。\n第二行。\n\n2) 二？\n行。\n"],
)  # fmt: skip
def test_numbered_questions(tmp_path, name, text):
    records, notes = load(write(tmp_path / name, text))
    assert [(r.instruction, r.output) for r in records] == [("一？", "好。\n第二行。"), ("二？", "行。")]
    assert any("2 questions in numbered" in note for note in notes)


def test_numbered_steps_among_numbered_questions_stop_with_a_sentence(tmp_path):
    text = "1. 怎么办？\n这样：\n1. 催告\n2. 起诉\n2. 多久？\n三年。\n3. 能延长吗？\n能。\n"
    [told] = problems(write(tmp_path / "d.txt", text))
    assert "2 of 5 do not end in a question mark" in told and "催告 / 2. 起诉" in told and "line 3" in told


@pytest.mark.parametrize(
    "text",
    ["# FAQ\n\n**一？**\n\n好。\n\n**二？**\n\n行。\n", "一？\n---\n\n好。\n\n二？\n-----\n行。\n", "一\n===\n好。\n\n二\n==\n行。\n",
     "<details><summary>一？</summary>\n\n好。\n\n</details>\n<details>\n<summary><b>二？</b></summary>\n\n行。\n</details>\n",
     "## 一？\n好。<!-- 待核\n还没 -->\n## 二？\n<!-- x -->行。\n", "---\ntitle: x\n---\n## 一？\n好。\n## 二？\n行。\n"],
)  # fmt: skip
def test_other_headings_of_markdown(tmp_path, text):
    records, _ = load(write(tmp_path / "d.md", text))
    assert [(r.instruction.rstrip("？"), r.output) for r in records] == [("一", "好。"), ("二", "行。")]


def test_lines_between_answers_bold_words_and_open_comments_are_no_headings(tmp_path):
    text = "## 一？\n好。\n\n末段。\n---\n\n**注意**\n\n完。 <!-- 未关\n## 二？\n行。\n"
    records, _ = load(write(tmp_path / "d.md", text))
    assert [r.output for r in records] == ["好。\n\n末段。\n---\n\n**注意**\n\n完。 <!-- 未关", "行。"]
