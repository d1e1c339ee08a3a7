# SPDX-License-Identifier: Apache-2.0
"""Questions and answers in running text: marked (问：… 答：…), or as headings with what stands below them."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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
# A mark within a line: behind a blank or the end of a sentence.
_INNER = re.compile(rf"(?<=[\s。？?！!；;…”\"』」)）])(?:(?P<ask>{_QUESTION})|{_ANSWER})\s*\d{{0,4}}\s*[:：]", re.IGNORECASE)
_WRITTEN = re.compile(r"\s*(?:\*\*|__)?(?P<number>[(（]?(?:\d{1,4}|[一二三四五六七八九十百]{1,4})(?:[)）.．、](?!\d)|[)）][.．、]))\s*")
_ALL_BOLD = re.compile(r"\s*(?:\*\*|__)((?:(?!\*\*|__).)+[?？])\s*(?:\*\*|__)\s*$")  # a question in bold type, as others write headings
_ENDS_ASKING = re.compile(r"[?？][\s\"”’』」)）*_]*$")
_BOLD = re.compile(r"^(?:\*\*|__)\s*|\s*(?:\*\*|__)$")
_INTERROGATIVE = re.compile(
    r"[?？]\s*$|吗|如何|怎么|怎样|什么|多久|多少|是否|能否|可否|哪|为何|几|谁|^(?:how|what|when|why|who|which|where|can|may|is|are|do|does|should|must)\b",
    re.IGNORECASE,
)


def numbered(label: str, text: str) -> str:
    """A paragraph with its number, as a document shows it: ``1. text``, ``一、text``."""
    return f"{label} {text}" if label and label[-1].isascii() else f"{label}{text}"


@dataclass(frozen=True)
class Line:
    """A paragraph.

    Attributes:
        number: its line or paragraph, from 1.
        level: of a heading 1 to 9; 0 for running text.
        label: the automatic number in front of it, which stands in no text.
        list: what the numbered paragraphs of one list have in common; empty where it has no number.
    """

    number: int
    text: str
    level: int = 0
    label: str = ""
    list: str = ""

    @property
    def shown(self) -> str:
        """The text with its number."""
        return numbered(self.label, self.text)


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
    lines = _parted(lines)
    marked = sum(bool(_ASKS.match(line.text)) for line in lines)
    told = ""
    if marked:
        pairs, left = _marked(lines)
    else:
        pairs, left = _headed(lines)
        asking = sum(bool(_INTERROGATIVE.search(pair.question[0])) for pair in pairs)
        if only_questions and asking * 2 < len(pairs):
            pairs = []
        items = _asking_items(lines) if asking * 2 < len(pairs) or not pairs else []
        if items:
            _refuse_doubtful(source, lines, items, place)
            pairs, left = _listed(lines, items)
            told = say(
                "{file}: {n} questions in numbered or bold lines are read, and what stands below them as answers",
                file=source.name,
                n=len(pairs),
            )
        else:
            told = say(
                "{file}: {n} headings are taken for questions, and what stands below them for answers", file=source.name, n=len(pairs)
            )
    if not pairs:
        raise DataError(
            say(
                "{path}: holds no questions and answers that can be told apart. Write 问：… and 答：… (or Q: and A:) before them, "
                "make each question a heading, or use a table with the columns instruction and output.",
                path=source.path,
            )
        )
    if told:
        reading.note(told)
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
                current.answer.append(line.shown)
            elif line.text.strip():
                current.question.append(line.shown.strip())
        elif line.text.strip():
            left.append(line.text.strip())
    return pairs, left


def _parted(lines: Sequence[Line]) -> list[Line]:
    """The lines, with those parted that hold a question and its answer, or several: 问：… 答：… in one paragraph.

    Only where they take turns, and the line below does not begin with the answer: then the marks inside are quoted.
    """
    made: list[Line] = []
    for place, line in enumerate(lines):
        asks, answers = _ASKS.match(line.text), _ANSWERS.match(line.text)
        begins = asks or answers
        inner = list(_INNER.finditer(line.text, begins.end())) if begins else []
        turns = ("q" if asks else "a") + "".join("q" if mark["ask"] else "a" for mark in inner)
        below = next((below.text for below in lines[place + 1 :] if below.text.strip()), "") if inner else ""
        takes_turns = "qq" not in turns and "aa" not in turns
        if not inner or not takes_turns or (turns[-1] == "q") != bool(_ANSWERS.match(below)) or _choices(line.text):
            made.append(line)
            continue
        cuts = [0, *(mark.start() for mark in inner), len(line.text)]
        made += [replace(line, text=line.text[a:b].strip()) for a, b in itertools.pairwise(cuts)]
    return made


def _choices(text: str) -> bool:
    """Whether a line holds the choices of an exam: A: … B: …"""
    return re.search(r"(?:^|\s)A\s?[:：]", text) is not None and re.search(r"\sB\s?[:：]", text) is not None


def _item(line: Line) -> tuple[str, str]:
    """(list, text) of a numbered line: by its automatic number, or by the shape of a written one."""
    bold = _ALL_BOLD.match(line.text)
    if bold and not line.level and not line.list:
        return "**", bold[1].strip()
    if line.level or line.list:
        return ("", "") if line.level else (line.list, line.text.strip())
    found = _WRITTEN.match(line.text)
    if found is None:
        return "", ""
    shape = re.sub(r"\d+", "1", found["number"])
    return re.sub(r"[一二三四五六七八九十百]+", "一", shape), _BOLD.sub("", _BOLD.sub("", line.text[found.end() :].strip()))


def _asking_items(lines: Sequence[Line]) -> list[int]:
    """The places of the items of those numbered lists that ask: at least half of them end in a question mark, and have something below."""
    lists: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        if name := _item(line)[0]:
            lists.setdefault(name, []).append(at)
    chosen = [items for items in lists.values() if sum(bool(_ENDS_ASKING.search(_item(lines[at])[1])) for at in items) * 2 >= len(items)]
    places = sorted(at for items in chosen for at in items)
    ends = [*places, len(lines)][1:]
    answered = sum(any(line.text.strip() and not line.level for line in lines[at + 1 : end]) for at, end in zip(places, ends, strict=True))
    return places if answered * 2 > len(places) and _only_titles(lines, places) else []


def _only_titles(lines: Sequence[Line], items: Sequence[int]) -> bool:
    """Whether headings stand right above items only, and never above text of their own."""
    below_heading = False
    for at, line in enumerate(lines):
        if line.level:
            below_heading = True
        elif line.text.strip():
            if below_heading and at not in items:
                return False
            below_heading = False
    return True


def _refuse_doubtful(source: Source, lines: Sequence[Line], items: Sequence[int], place: Callable[[int], str]) -> None:
    """Stops where items of a list of questions are none: steps of an answer, or questions without their mark.

    Raises:
        DataError: naming them.
    """
    doubtful = [lines[at] for at in items if not _ENDS_ASKING.search(_item(lines[at])[1])]
    if doubtful:
        raise DataError(
            say(
                "{path}: its numbered paragraphs look like questions, but {n} of {all} do not end in a question mark, and may belong to an "
                "answer: {words} (the first: {where}). Write 问：… and 答：… before questions and answers, or give each question its mark.",
                path=source.path,
                n=len(doubtful),
                all=len(items),
                words=some_of([line.text.strip() for line in doubtful]),
                where=place(doubtful[0].number),
            )
        )


def _listed(lines: Sequence[Line], items: Sequence[int]) -> tuple[list[_Pair], list[str]]:
    """Numbered questions with what stands below them, up to the next one or a heading."""
    pairs: list[_Pair] = []
    left: list[str] = []
    asking, open_ = set(items), False
    for at, line in enumerate(lines):
        if at in asking:
            pairs.append(_Pair(line.number, [_item(line)[1]]))
            open_ = True
        elif line.level:
            open_ = False
            left.append(line.text.strip())
        elif open_:
            pairs[-1].answer.append(line.shown)
        elif line.text.strip():
            left.append(line.text.strip())
    for pair in pairs:
        pair.answer = textwrap.dedent("\n".join(pair.answer)).split("\n")  # Markdown indents what belongs to an item
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
            pairs[-1].answer.append(line.shown)
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


_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_SUMMARY = re.compile(r"^\s*(?:<details[^>]*>\s*)?<summary[^>]*>(.*?)</summary>\s*$", re.IGNORECASE)
_DETAILS = re.compile(r"^\s*</?details[^>]*>\s*$", re.IGNORECASE)


def markdown_lines(text: str) -> list[Line]:
    """The lines of a Markdown file with the levels of its headings (``#``, underlined, ``<summary>``); what stands in a fenced block is no
    heading, and comments are nothing."""
    found: list[Line] = []
    fenced = commented = False
    lines = text.splitlines()
    closed = len(re.findall(r"<!--.*?-->", text, re.DOTALL)) == text.count("<!--")
    front = next((n for n, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0) if lines[:1] == ["---"] else 0
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        if not fenced and closed:
            line, commented = _uncommented(line, commented)
        heading, summary = (None, None) if fenced else (_HEADING.match(line), _SUMMARY.match(line))
        above = found[-1] if found else None
        if not fenced and number > front + 1 and above and re.fullmatch(r" {0,3}(?:=+|-{2,})\s*", line) and _is_title(found, line):
            found[-1] = Line(above.number, above.text.strip(), 1 if "=" in line else 2)
            line = ""
        if heading:
            found.append(Line(number, heading[2], len(heading[1])))
        elif summary:
            found.append(Line(number, re.sub(r"<[^>]+>", "", summary[1]).strip(), 6))
        else:
            found.append(Line(number, "" if not fenced and _DETAILS.match(line) else line))
    return found


def _is_title(found: Sequence[Line], rule: str) -> bool:
    """Whether the last line is underlined: text of one line. Dashes may part two answers instead, but not below a question."""
    last, before = found[-1], found[-2] if len(found) > 1 else None
    alone = before is None or not before.text.strip() or before.level > 0
    plain = not last.level and re.match(r"\s{0,3}[^\s|>*+-]", last.text) and "|" not in last.text and not _ANSWERS.match(last.text)
    return bool(alone and plain and ("=" in rule or _ENDS_ASKING.search(last.text)))


def _uncommented(line: str, inside: bool) -> tuple[str, bool]:
    """(the line without its comments, whether one goes on below)."""
    kept = ""
    while line:
        mark = "-->" if inside else "<!--"
        before, found, line = line.partition(mark)
        kept += "" if inside else before
        inside = inside != bool(found)
    return kept, inside
