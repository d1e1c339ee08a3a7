# SPDX-License-Identifier: Apache-2.0
"""Text in the encodings of five languages is told apart, in files of a few lines; what cannot be told stops the run."""

from __future__ import annotations

import pytest
from builders.text_data import load, problems, write

TABLES = {
    "gb18030": ["问题,答案\n试用期工资怎么算？,不低于百分之八十。\n", "问题,答案\n离婚？,协议。\n", "instruction,output\n房子漏水？,找物业。\n",
                "问题,答案\n嗳气、噎膈、呃逆怎么区分？,嗳气是胃气上逆；呃逆是膈肌痉挛；噎膈是吞咽梗阻。\n",
                "问题,答案\n囊肿？,腺样囊性癌\n鼾症？,睡眠呼吸暂停综合征，见于肥胖者。\n", "问题,答案\n“通知”要书面吗？,要——《劳动合同法》第40条。\n",
                "question,answer\nWhat is 当归?,A herb (Angelica sinensis).\n", "问题,答案\n姓名？,䶮䲟\n谁？,李䶮是律师，他代理了这个案件。\n"],
    "big5": ["問題,答案\n試用期薪資怎麼算？,不低於百分之八十。\n", "問題,答案\n離婚？,協議。\n", "instruction,output\n房子漏水？,找物業。\n",
             "問題,答案\n感冒了怎麼辦？,多喝水，注意休息。\n押金不退？,向法院起訴。\n", "問題,答案\n「契約」與『合約』？,同義。\n", "問題,答案\n佢喺邊度返工？,喺恒生銀行裏面做嘢。\n"],
    "cp932": ["質問,回答\n試用期間の給料は？,八割以上です。\n", "question,answer\n風邪をひいたら？,水を飲んで休みましょう。\n", "q,a\nカルテとは？,診療録。\n"],
    "euc_jp": ["質問,回答\n試用期間の給料は？,八割以上です。\n", "question,answer\n風邪をひいたら？,水を飲んで休みましょう。\n", "q,a\nカルテとは？,診療録。\n"],
    "cp949": ["question,answer\n수습 기간 급여는 얼마입니까?,최저임금의 구십 퍼센트 이상입니다. 근로계약서를 확인하세요.\n"],
    "cp1252": ["question,answer\nWhat’s the notice period?,Thirty days – in writing.\n", "q,a\nQu’est-ce que c’est?,Le délai de préavis est d’un mois.\n",
               "q,a\nWie lange ist die Kündigungsfrist?,Vier Wochen für Beschäftigte. Größe egal.\n", "q,a\nPrice?,€5\n", "q,a\n¿Cuánto?,Un año\n"],
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in TABLES.items() for text in texts])
def test_each_is_read_as_what_it_is_and_a_piece_is_shown(tmp_path, encoding, text):
    names = text.split("\n")[0].split(",")
    data = "big5hkscs" if encoding == "big5" else encoding
    records, notes = load(write(tmp_path / "d.csv", text, data), columns={"instruction": names[0], "output": names[1]})
    rows = [(r.instruction, r.output) for r in records]
    assert rows == [tuple(line.split(",", 1)) for line in text.strip().split("\n")[1:]]
    assert encoding.upper() in notes[0] and any(c > "\x7f" and c in notes[0] for c in text)


@pytest.mark.parametrize("language", ["gb18030", "big5", "cp932", "cp949", "cp1252"])
def test_the_corpus_that_is_shipped_never_reads_as_another(language):
    """Windows of running text, 40 characters each, from what Python itself knows how to encode."""
    from loraforge import decode_text

    text = "".join(TABLES[language]).replace("\n", " ") * 2
    for start in range(0, len(text) // 2, 7):
        piece = text[start : start + 40]
        if sum(c > "\x7f" for c in piece) >= (8 if language != "cp1252" else 3):
            data = piece.encode("big5hkscs" if language == "big5" else language)
            assert decode_text(data, "auto", lambda note: None, "x") == piece


def test_what_cannot_be_told_stops_with_the_lines_to_choose_from(tmp_path):
    found = problems(write(tmp_path / "d.csv", "q,a\nПривет мир?,Это ответ на вопрос.\n", "cp1251"))
    assert "cannot be told for sure" in found[0] and "encoding: cp1252 → " in found[0]
    [record] = load(tmp_path / "d.csv", encoding="cp1251")[0]
    assert record.output == "Это ответ на вопрос."


@pytest.mark.parametrize("line", [1, 2, 25, 31])
@pytest.mark.parametrize("encoding", ["gb18030", "big5", "utf-8"])
def test_a_bad_byte_names_its_own_line(tmp_path, line, encoding):
    lines = ("問題,答案\n" + "找律師,不低於百分之八十。\n" * 30).encode(encoding).split(b"\n")
    lines[line - 1] = lines[line - 1][:-1] + b"\xff" + lines[line - 1][-1:] if encoding == "utf-8" else b"\xff" + lines[line - 1]
    (tmp_path / "d.csv").write_bytes(b"\n".join(lines))
    assert f"d.csv:{line}: " in problems(tmp_path / "d.csv")[0]


def test_characters_of_private_use_never_pass(tmp_path):
    text = "問題,答案\n骨折怎麼辦？,石膏固定。\n醫師說：「多休息」？,是。\n"
    file = write(tmp_path / "d.csv", text, "big5")
    found = problems(file, encoding="gb18030")
    assert "d.csv:" in found[0] and ("no script knows" in found[0] or "is not text" in found[0])


@pytest.mark.parametrize("encoding", ["utf-32", "utf-16", "utf-8-sig", "utf-32-le", "utf-32-be"])
def test_byte_order_marks(tmp_path, encoding):
    text = "问题,答案\n一？,好\n"
    assert [r.output for r in load(write(tmp_path / "d.csv", "\ufeff" + text if encoding[-2:] in ("le", "be") else text, encoding))[0]] == [
        "好"
    ]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("iso2022_jp", TABLES["cp932"][0]),
        ("iso2022_jp_ext", "q,a\nﾃｽﾄ？,はい\n"),
        ("iso2022_kr", TABLES["cp949"][0]),
        ("hz", TABLES["gb18030"][1]),
    ],
)
def test_encodings_that_look_like_ascii(tmp_path, encoding, text):
    names = text.split("\n")[0].split(",")
    records, notes = load(write(tmp_path / "d.csv", text, encoding), columns={"instruction": names[0], "output": names[1]})
    assert [(r.instruction, r.output) for r in records] == [tuple(line.split(",", 1)) for line in text.strip().split("\n")[1:]]
    assert any(f"read as {encoding.upper()[:10]}" in note for note in notes)


def test_escapes_that_are_no_encoding_stop(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"q,a\nx?,\x1b$B~~~\x1b(B\n")
    assert "is not text in UTF-8, ISO-2022-JP" in problems(tmp_path / "d.csv")[0]
    assert load(write(tmp_path / "e.csv", "q,a\nx?,see ~{home}~ and \x1b[1mbold\n"))[0][0].output == "see ~{home}~ and \x1b[1mbold"


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "cp1253"])
def test_where_nothing_fits_others_are_named(tmp_path, encoding):
    text = "q,a\nΚαλημέρα?,Αυτή είναι η απάντηση.\n" if encoding == "cp1253" else "q,a\nПривет мир?,Это ответ на вопрос.\n"
    assert "or another, such as cp1251 or koi8-r" in problems(write(tmp_path / "d.csv", text, encoding))[0]
