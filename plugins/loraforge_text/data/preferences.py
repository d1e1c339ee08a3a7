# SPDX-License-Identifier: Apache-2.0
"""Answers that are marked as bad: of preference data (chosen and rejected) and of feedback (KTO's label). They are never learned."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from loraforge import DataError, fold_name, speaker

from .columns import SYNONYMS, listed
from .readers.number_formats import cell_text
from .readers.rows import Row

say = speaker(__name__)

# What a column of bad answers is called, folded: exactly, or somewhere in its name.
_REJECTED = frozenset(("loser", "losing", "worse", "bad", "wrong", "negative", "拒绝", "反例"))
_REJECTED_PARTS = (
    "reject", "nonpreferred", "notpreferred", "dispreferred", "unpreferred", "nonchosen", "notchosen", "unchosen", "undesired",
    *(f"{how}{what}" for how in ("bad", "wrong", "incorrect", "worse", "worst", "losing", "negative", "loser")
      for what in ("answer", "response", "output", "completion", "reply", "sample", "example")),
    "负例", "负样本", "负面样本", "负向样本", "反面例子",
    *(f"{how}{of}{what}" for how in ("错误", "错", "差", "坏", "较差", "不好", "拒绝", "被拒绝", "被拒", "劣质", "不合格",
    "不良") for of in ("", "的")
      for what in ("答案", "回答", "回复", "答复", "输出", "样本")),
)  # fmt: skip
_CHOSEN = frozenset(("winner", "good", "better", "correct", "positive", "right", "正确"))
_CHOSEN_PARTS = (
    "chosen", "preferred",
    *(f"{how}{what}" for how in ("good", "correct", "better", "best", "winning", "positive") for what in ("answer", "response",
    "output", "completion")),
    "正例", "正样本",
    *(f"{how}{of}{what}" for how in ("正确", "好", "较好", "选中", "优质", "合格") for of in ("", "的") for what in ("答案", "回答",
    "回复", "答复", "输出")),
)  # fmt: skip
# What a column is called that judges the answers; of the topics it may also hold for the first ones.
_LABEL = frozenset(("label", "labels", "tag", "tags", "标签", "标记", "质量", "quality", "score", "分数", "得分"))
_FEEDBACK = frozenset(
    ("ktotag", "ktolabel", "kto", "desirable", "isdesirable", "isgood", "goodbad", "iscorrect", "correct", "correctness", "isaccepted",
     "accepted", "adopted", "isadopted", "ischosen", "ispreferred", "preference", "feedback", "userfeedback", "humanfeedback", "thumbs",
     "thumb", "vote", "votes", "reaction", "rating", "ratings", "stars", "helpful", "ishelpful", "satisfied", "satisfaction", "verdict",
     "judgement", "judgment", "好坏", "是否好评", "评价", "用户评价", "评价结果", "反馈", "用户反馈", "反馈结果", "评分", "打分",
     "评级", "星级", "采纳",
     "是否采纳", "是否正确", "是否合格", "是否有用", "是否有帮助", "是否满意", "满意度", "满意", "赞踩", "点赞", "对错", "优劣", "正误")
)  # fmt: skip
_GRADES = 10  # different values that a column of grades has at most

_GOOD = frozenset(
    ("true", "1", "yes", "y", "t", "good", "chosen", "preferred", "desirable", "desired", "positive", "pos", "thumbs up", "thumb up",
     "thumbsup", "up", "upvote", "like", "liked", "correct", "right", "accept", "accepted", "adopted", "pass", "passed", "helpful",
     "satisfied",
     "acceptable", "+1", "是", "好", "很好", "对", "正确", "好评", "赞", "点赞", "合格", "采纳", "已采纳", "通过", "满意", "有用",
     "有帮助", "优",
     "良", "正例", "正面", "✓", "✔", "√", "☑", "✅", "👍", "😊", "🙂", "❤")
)  # fmt: skip
_BAD = frozenset(
    ("false", "0", "-1", "no", "n", "f", "bad", "rejected", "reject", "undesirable", "undesired", "negative", "neg", "thumbs down",
     "thumb down",
     "thumbsdown", "down", "downvote", "dislike", "disliked", "wrong", "incorrect", "not correct", "not good", "false answer", "fail",
     "failed",
     "unhelpful", "not helpful", "unsatisfied", "dissatisfied", "unacceptable", "poor", "否", "坏", "差", "很差", "不好", "错", "错误",
     "不对",
     "不正确", "差评", "踩", "点踩", "不合格", "不采纳", "未采纳", "没采纳", "没有采纳", "不通过", "未通过", "不满意", "没用", "无用",
     "没有用", "无帮助",
     "没有帮助", "劣", "负例", "负面", "拒绝", "不可用", "不行", "✗", "✘", "×", "❌", "☒", "👎", "😞", "🙁")
)  # fmt: skip


def judged(value: Any) -> bool | None:
    """Whether a cell calls the row's answer good or bad; None if it says neither."""
    text = _word(value)
    return True if text in _GOOD else False if text in _BAD else None


def refuse_undecided(names: Sequence[str], given: Mapping[str, str], rows: Sequence[Row], file: str) -> None:
    """Stops where a file holds bad answers and the config does not say what to do with them.

    Args:
        given: the config's ``columns``.

    Raises:
        DataError: with the line to write.
    """
    rejected = [name for name in names if is_rejected(name) and _filled(rows, name)]
    if given.get("output") in rejected:
        bad = given["output"]
        raise DataError(say("{file}: columns: '{column}' holds the bad answers; they are never learned.", file=file, column=bad))
    if rejected and not given.get("output"):
        raise DataError(_paired(names, rejected[0], file))
    if "label" in given:
        return
    for name in names:
        folded = fold_name(name)
        if name in given.values() or not (folded in _LABEL or folded in _FEEDBACK):
            continue
        cells = [row.values.get(name) for row in rows if row.problem is None]
        values = [_word(cell) for cell in cells if not isinstance(cell, dict | list) and _word(cell)]
        problem = _judgement(file, name, values, topics=folded in _LABEL)
        if problem:
            raise DataError(problem)


def is_rejected(name: str) -> bool:
    """Whether a column is called like one of bad answers."""
    folded = fold_name(name)
    return folded in _REJECTED or any(part in folded for part in _REJECTED_PARTS)


def _paired(names: Sequence[str], rejected: str, file: str) -> str:
    """What to write where rows compare good answers with bad ones."""
    folded = {name: fold_name(name) for name in names if not is_rejected(name)}
    good = [name for name, plain in folded.items() if plain in _CHOSEN or any(part in plain for part in _CHOSEN_PARTS)]
    for field in ("output", "messages"):
        good += [name for called in SYNONYMS[field] for name, plain in folded.items() if plain == called]
    if good:
        return say(
            "{file}: its rows compare good answers with bad ones ('{rejected}'), which only preference training uses. Write columns: "
            "{{output: {chosen}}} to learn the good ones and leave the bad ones out.",
            file=file,
            rejected=rejected,
            chosen=good[0],
        )
    return say(
        "{file}: '{rejected}' holds bad answers, which are never learned, and no column is known to hold the good ones "
        "(there are: {names}). Write columns: {{output: NAME}} with the name of theirs.",
        file=file,
        rejected=rejected,
        names=listed(list(folded)),
    )


def _judgement(file: str, column: str, values: Sequence[str], *, topics: bool) -> str | None:
    """What to write where a column judges the answers, or may do so; None where it does not."""
    told = [True if value in _GOOD else False if value in _BAD else None for value in values]
    different = list(dict.fromkeys(values))
    numbers = all(_is_number(value) for value in different)
    bad = sum(one is False for one in told)
    if bad and not (numbers and None in told):
        return say(
            "{file}: the column '{column}' calls {n} of {all} answers bad, and they would be learned as good ones. Write columns: "
            '{{label: {column}}} to learn only the others, or columns: {{label: ""}} if it means something else.',
            file=file,
            column=column,
            n=bad,
            all=len(told),
        )
    if None not in told or not 1 < len(different) <= _GRADES or len(values) < 2 * len(different):
        return None
    if topics and not (len(different) == 2 or numbers or True in told):
        return None
    return say(
        "{file}: the column '{column}' may judge the answers ({values}); bad ones would be learned as good ones. Write columns: "
        '{{label: ""}} if all are to be learned. To leave some out, write good or bad there in each row, and columns: {{label: {column}}}.',
        file=file,
        column=column,
        values=listed(different),
    )


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        return ""
    text = unicodedata.normalize("NFKC", cell_text(value)).strip().lower()
    text = "".join(c for c in text if c != "\ufe0f" and not "\U0001f3fb" <= c <= "\U0001f3ff")  # how an emoji is painted
    plain = " ".join(text.replace("_", " ").replace("-", " ").split())
    return text if len(text) < 3 else plain


def _is_number(text: str) -> bool:
    try:
        float(text.removesuffix("星").removesuffix("分").removesuffix("stars").removesuffix("star"))
    except ValueError:
        return False
    return True


def _filled(rows: Sequence[Row], name: str) -> bool:
    values: list[Any] = [row.values.get(name) for row in rows]
    return any(value not in (None, "", [], {}) for value in values)
