"""Questions and answers in running text: marked (问：… 答：…), or as headings with what stands below them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loraforge import DataError, speaker

from .rows import Reading, Row, Source, Table, some_of

say = speaker(__name__)

_NUMBER = r"(?:[(（]?(?:\d{1,4}|[一二三四五六七八九十百]{1,4})[)）.．、:：]\s*)?"
_QUESTION = r"(?:问题|提问|咨询|客户问|用户问|问|Question|Q)"
_ANSWER = r"(?:答案|回答|答复|解答|律师答|医生答|答|Answer|A)"


def _mark(word: str) -> re.Pattern[str]:
    # 问：  Q1:  **Q:**  3. 问：  【问】  Q. (with a space)  - **A**:
    return re.compile(
        rf"^\s*(?:[-*+>]\s+)?(?:\*\*|__)?\s*{_NUMBER}(?:[【\[]\s*{word}\s*\d{{0,4}}\s*[】\]]\s*[:：]?|{word}\s*\d{{0,4}}\s*(?:\*\*|__)?\s*(?:[:：]|[.．、](?=\s)))\s*",
        re.IGNORECASE,
    )


# A. begins an answer, or is the first of the choices of an exam.
_LETTER = re.compile(rf"^\s*(?:[-*+>]\s+)?(?:\*\*|__)?\s*{_NUMBER}([QAB])\s*\d{{0,4}}\s*(?:\*\*|__)?\s*([:：.．、])", re.IGNORECASE)
_ASKS, _ANSWERS = _mark(_QUESTION), _mark(_ANSWER)
_DOTS = ".．、"
_BOLD = re.compile(r"^(?:\*\*|__)\s*|\s*(?:\*\*|__)$")
_INTERROGATIVE = re.compile(
    r"[?？]\s*$|吗|如何|怎么|怎样|什么|多久|多少|是否|能否|可否|哪|为何|几|谁|^(?:how|what|when|why|who|which|where|can|may|is|are|do|does|should|must)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Line:
    """A paragraph.

    Attributes:
        number: its line or paragraph, from 1.
        level: of a heading 1 to 9; 0 for running text.
    """

    number: int
    text: str
    level: int = 0


@dataclass
class _Pair:
    number: int
    question: list[str]
    answer: list[str] = field(default_factory=list)
    answered: bool = False


def read_questions(
    source: Source, lines: Sequence[Line], reading: Reading, place: Callable[[int], str], *, only_questions: bool = False
) -> list[Table]:
    """The questions and answers of a text.

    Args:
        place: what the line or paragraph of a number is called.
        only_questions: take headings for questions only if most of them read like one.

    Raises:
        DataError: if there are none.
    """
    marked = sum(bool(_ASKS.match(line.text)) for line in lines)
    pairs, left = _marked(lines) if marked else _headed(lines)
    if not marked and only_questions and sum(bool(_INTERROGATIVE.search(pair.question[0])) for pair in pairs) * 2 < len(pairs):
        pairs = []
    if not pairs:
        raise DataError(
            say(
                "{path}: holds no questions and answers that can be told apart. Write 问：… and 答：… (or Q: and A:) before them, "
                "make each question a heading, or use a table with the columns instruction and output.",
                path=source.path,
            )
        )
    if not marked:
        reading.note(
            say("{file}: {n} headings are taken for questions, and what stands below them for answers", file=source.name, n=len(pairs))
        )
    if left:
        reading.note(
            say(
                "{file}: {n} lines belong to no question and are not used: {words}",
                file=source.name,
                n=len(left),
                words=some_of(left),
            )
        )
    rows = [Row(place(pair.number), {"instruction": "\n".join(pair.question).strip(), "output": _joined(pair.answer)}) for pair in pairs]
    return [Table(source.name, rows)]


def _marked(lines: Sequence[Line]) -> tuple[list[_Pair], list[str]]:
    pairs: list[_Pair] = []
    left: list[str] = []
    dotted = any((letter := _LETTER.match(line.text)) and letter[1] in "Qq" and letter[2] in _DOTS for line in lines)
    for place, line in enumerate(lines):
        asks, answers = _ASKS.match(line.text), _ANSWERS.match(line.text)
        if answers and _is_choice(lines, place, dotted, bool(pairs) and pairs[-1].answered):
            answers = None
        if asks:
            pairs.append(_Pair(line.number, [_unmarked(line.text, asks)]))
        elif answers and pairs:
            current = pairs[-1]
            current.answered = True
            current.answer.append(_unmarked(line.text, answers))
        elif pairs and not line.level:
            current = pairs[-1]
            if current.answered:
                current.answer.append(line.text)
            elif line.text.strip():
                current.question.append(line.text.strip())
        elif line.text.strip():
            left.append(line.text.strip())
    return pairs, left


def _is_choice(lines: Sequence[Line], place: int, dotted: bool, answered: bool) -> bool:
    """Whether a line that an answer could begin is the first choice of an exam: ``A. one month``, and ``B. two months`` below it."""
    letter = _LETTER.match(lines[place].text)
    if letter is None:
        return False
    if letter[2] in _DOTS and (answered or not dotted):
        return True
    below = next((line.text for line in lines[place + 1 :] if line.text.strip()), "")
    second = _LETTER.match(below)
    return second is not None and second[1] in "Bb" and second[2] == letter[2]


def _unmarked(text: str, mark: re.Match[str]) -> str:
    rest = text[mark.end() :].strip()
    bold = mark[0].lstrip("-*+> \t") != mark[0].strip() or "**" in mark[0] or "__" in mark[0]
    return _BOLD.sub("", rest) if bold and (rest.count("**") % 2 or rest.count("__") % 2) else rest


def _headed(lines: Sequence[Line]) -> tuple[list[_Pair], list[str]]:
    """Headings with text below them. One that only has other headings below it is a section's."""
    pairs: list[_Pair] = []
    left: list[str] = []
    for line in lines:
        if line.level:
            pairs.append(_Pair(line.number, [_BOLD.sub("", line.text.strip())]))
        elif pairs:
            pairs[-1].answer.append(line.text)
        elif line.text.strip():
            left.append(line.text.strip())
    full = [pair for pair in pairs if _joined(pair.answer)]
    left += [pair.question[0] for pair in pairs if not _joined(pair.answer)]
    return full, left


def _joined(lines: Sequence[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip()


def text_lines(text: str) -> list[Line]:
    """The lines of a plain text."""
    return [Line(number, line) for number, line in enumerate(text.splitlines(), 1)]


def markdown_lines(text: str) -> list[Line]:
    """The lines of a Markdown file with the levels of its headings; what stands in a fenced block is no heading."""
    found: list[Line] = []
    fenced = False
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        heading = None if fenced else re.match(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$", line)
        found.append(Line(number, heading[2], len(heading[1])) if heading else Line(number, line))
    return found
