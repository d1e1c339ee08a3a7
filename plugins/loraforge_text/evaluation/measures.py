# SPDX-License-Identifier: Apache-2.0
"""What an answer is worth beside its reference, as figures. No model, no torch.

None of them knows the law or medicine: they compare wording and citations. Whether an answer is right is for experts to say.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import loraforge
from loraforge import Fingerprint, Lesson

from .citations import citations

if TYPE_CHECKING:
    from ..records import Conversation

# What says whether an answer is right, where the reference has something that can be right: the articles that it cites, the fields of a
# JSON object, an answer of a few words. Where too few have any, the headline is what every row has, and that is wording.
TRUTH = ("cites the right article", "fields right", "exact answer", "citation recall", "citation precision", "cites a wrong article")
HEADLINE = "character overlap"
LOWER_IS_BETTER = ("refuses", "never stops", "cites a wrong article")
_FEW_WORDS = 12  # characters of 汉字, or twice as many of others; a longer reference can be put in other words


def judge(record: Conversation, answer: str) -> Mapping[str, float]:
    """Scores of one answer, each 0 to 1; those of citations only where the reference cites.

    A plain string counts as an answer that the model ended by itself.
    """
    wanted, cited = citations(record.output), citations(answer)
    scores = {
        "equals the reference": float("".join(answer.split()) == "".join(record.output.split())),
        "character overlap": common_share(record.output, answer),
        # Who names an article that the reference names has answered, with whatever reservations.
        "refuses": float(declines(answer) and not declines(record.output) and not wanted & cited),
        "never stops": float(not getattr(answer, "stopped", True)),
    }
    if wanted:
        right = len(wanted & cited)
        scores["cites the right article"] = float(cited == wanted)
        scores["cites a wrong article"] = float(bool(cited - wanted))
        scores["citation precision"] = right / len(cited) if cited else 0.0
        scores["citation recall"] = right / len(wanted)
    fields = _fields(record.output)
    if fields:
        given = _fields(answer)
        scores["fields right"] = sum(name in given and given[name] == value for name, value in fields.items()) / len(fields)
    elif not wanted and _is_short(record.output):
        scores["exact answer"] = float(_bare(answer) == _bare(record.output))
    return scores


_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL | re.IGNORECASE)


def _fields(text: str) -> dict[str, object]:
    """The fields of a text that is one JSON object, in a code block or not; empty for any other."""
    fenced = _FENCED.search(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return {}
    return {name: fold(value) if isinstance(value, str) else value for name, value in found.items()} if isinstance(found, dict) else {}


def _is_short(text: str) -> bool:
    """Whether an answer is a label, a name, a number: a few words in one clause."""
    bare = _bare(text)
    width = sum(1 if ord(character) < 0x2E80 else 2 for character in bare)
    return 0 < width <= 2 * _FEW_WORDS and not re.search(r"[,;:。!?\n]|\.\s", unicodedata.normalize("NFKC", text.strip()).rstrip("。.!?"))


def _bare(text: str) -> str:
    return fold(text).strip("。.!?\"'“”‘’「」")


# --- wording ---------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """One writing of width and case, without white space."""
    return "".join(unicodedata.normalize("NFKC", text).lower().split())


def common_share(reference: str, answer: str) -> float:
    """F1 of the longest common subsequence of characters, 0 to 1: ROUGE-L (Lin 2004) with characters for words, beta 1.

    Unrelated answers do not reach 0: those of the legal sample about 0.24, English sentences about 0.4, because letters agree by chance.
    So compare two models by it, not two languages.
    """
    first, second = fold(reference), fold(answer)
    if not first and not second:
        return 1.0
    return 2 * subsequence(first, second) / (len(first) + len(second))


def subsequence(first: str, second: str) -> int:
    """The length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004): one column of the table is one integer, so that 2,000 × 2,000 characters take milliseconds.
    """
    masks: dict[str, int] = {}
    for position, character in enumerate(first):
        masks[character] = masks.get(character, 0) | 1 << position
    full = (1 << len(first)) - 1
    column = full
    for character in second:
        matched = column & masks.get(character, 0)
        column = ((column + matched) | (column - matched)) & full
    return len(first) - column.bit_count()


def overlap(text: str, other: str) -> float:
    """How much of ``text`` is the longest run of characters that ``other`` has too, 0 to 1. An empty text has nothing in common.

    The longest run that ends at a character is at most one longer than at the character before, so one search for each suffices.
    """
    mine, theirs = fold(text), fold(other)
    longest = 0
    for end in range(1, len(mine) + 1):
        if mine[end - longest - 1 : end] in theirs:
            longest += 1
    return longest / len(mine) if mine else 0.0


# --- refusals --------------------------------------------------------------------------------------------------------------

_MACHINE = r"(?:ai|人工智能|语言模型|大模型|聊天机器人|虚拟助手|智能助手|机器人)"
_CANNOT = r"(?:无法|不能|没法|没有办法|没办法|不可以|不便|不会|不方便|暂不|暂时不|不予|拒绝)"
_LACKS = rf"(?:{_CANNOT}|没有|不具备|不应|不宜)"
_KIND = rf"(?:助手|助理|模型|语言模型|系统|程序|机器人)*(?:,|我|本|(?={_LACKS}))"  # and not 作为人工智能产品的生产者
_HELP = (
    r"(?:回答|作答|解答|答复|回应|讨论|评论|协助|帮助|帮您|帮你|满足|完成(?:您|你|该|这)|处理(?:您|你|该|这)|理解(?:您|你|这)|"
    r"(?:提供|给出|给予|作出|做出|进行|生成)[^,。]{0,14}?(?:答案|回答|建议|意见|帮助|信息|内容|咨询|服务|诊断|方案|协助|解答|结论|判断))"
)
# 不能提供证据的, 法院拒绝回答的: such a clause is a condition in the law's own wording, not the speaker's excuse.
_CONDITION = r"(?![^,。;]{0,16}(?:的[,;:]|的$|的(?:人|情形|情况|一方|当事人)))"
_OPEN = r"^(?:(?:很|非常|十分|实在|真的?)?(?:抱歉|对不起|不好意思|遗憾|sorry)[^。]{0,8}?[,:!~]?)?(?:但|不过|目前|暂时|这里)?"
_CANT = r"(?:can't|cannot|can not|unable|not able|won't|do not|don't)"
_ASSIST = (
    r"(?:answer|provide|give|help(?! but)|assist|offer|discuss|comment|comply|respond|advise|diagnose|fulfil|engage|do that|do this|share)"
)
_UNWILLING = r"(?:not able|unable|not allowed|not qualified|must decline|decline|refuse)"
_DECLINES = tuple(
    re.compile(pattern)
    for pattern in (
        # (抱歉,) 我无法为您提供建议; without 我 only at the very beginning
        rf"(?<!自)(?:我(?![国方])|本助手|本模型|本系统)[^,。我]{{0,6}}?{_CANNOT}[^,。]{{0,12}}?{_HELP}{_CONDITION}",
        rf"{_OPEN}{_CANNOT}(?:为您|为你|向您|向你|对此|就此|给您|给你|替您|替你|直接|准确|继续)*{_HELP}{_CONDITION}",
        rf"(?:抱歉|对不起|不好意思|sorry)[^。]{{0,12}}?(?:我|(?:这个|该|此|您的|你的)问题)[^。]{{0,12}}?(?:{_LACKS}|不知道|不清楚|不了解)",
        rf"(?:作为|我(?:只)?是)[^。,]{{0,6}}?{_MACHINE}{_KIND}[^。]{{0,24}}?{_LACKS}",
        rf"{_OPEN}我(?:也|并|还)?(?:不知道|不清楚|不太清楚|不了解|不太了解|没有(?:足够|相关|这方面)|不具备|没有资格)",
        r"超出了?我的",
        r"(?:换|聊)(?:个|一个|点别的)?(?:别的)?话题",
        rf"^(?:i'm|i am|we're) ?(?:really |very |so |terribly )?(?:sorry|afraid)[^.]{{0,20}}?\b(?:i|we)(?:'m| am| are)? {_CANT}\b",
        rf"\b(?:i|we) (?:really |simply |just )?(?:can't|cannot|can not|won't|will not)(?: \w+){{0,2}}? {_ASSIST}",
        rf"\b(?:i|we)(?:'m|'re| am| are)? {_UNWILLING} to(?: \w+){{0,2}}? {_ASSIST}",
        rf"^(?:unable|not able) to {_ASSIST}",
        rf"\bas an? (?:\w+ ){{0,3}}?(?:ai|language model|chatbot|virtual assistant)\b[^.]*?\b(?:{_CANT}|not)\b",
        r"^(?:i'm sorry,? |sorry,? )?(?:but )?i (?:do not|don't) (?:know|have (?:enough|access|any|sufficient|the))",
    )
)
_POLITE = re.compile(
    r"^(?:您好|你好|谢谢|感谢|很高兴|(?:很|非常|十分)?(?:抱歉|对不起|遗憾|理解)|好的|当然|"
    r"hello|hi\b|hey|thank|i'm sorry|i am sorry|sorry|i understand)"
)


def declines(text: str) -> bool:
    """Whether an answer refuses to answer, in Chinese or English.

    Only its first sentence counts, after greetings and regrets: what stands behind an answer is a reservation. And only the speaker's own
    inability counts: a lawyer's 不能要求赔偿 is an answer.
    """
    folded = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("‘", "'")
    for sentence in _sentences(folded):
        if any(pattern.search(sentence) for pattern in _DECLINES):
            return True
        if not (_POLITE.search(sentence) and len(sentence) <= 40):
            return False
    return False


def _sentences(text: str) -> Iterable[str]:
    pieces = (piece.strip(" \t\"'“”*#>") for piece in re.split(r"[。!?\n]+|\.(?=\s|$)", text))
    return (re.sub(r"(?<=[^\x00-\x7f])\s+|\s+(?=[^\x00-\x7f])", "", piece) for piece in pieces if piece)


# --- the question, and room for its answer ---------------------------------------------------------------------------------

_SHORTEST, _LONGEST, _MARGIN = 32, 1024, 32


def generation(records: Sequence[Conversation]) -> Mapping[str, int]:
    """``max_tokens`` for answering records whose longest answer is known, between 32 and 1024.

    The bytes of the longest answer in UTF-8: no tokenizer needs more tokens. Ordinary ones need a third of that for 汉字 and a quarter for
    English, so an answer may be more than twice as long as the longest reference before it counts as one that never stops.
    """
    longest = max((len(record.output.encode("utf-8", "surrogatepass")) for record in records), default=0)
    return {"max_tokens": min(max(longest + _MARGIN, _SHORTEST), _LONGEST)}


# A question in the middle of a conversation counts for itself if it is as long as this; shorter ones (那怎么办) live on what came before.
_BY_ITSELF, _OPENING = 10, 5


def fingerprint(record: Conversation) -> Fingerprint:
    """What a row asks and teaches.

    The key is the question with all that it depends on, without width, case and punctuation: in another context it is another question.
    What is near-identical is told by the questions alone, each turn's for itself: with another system message, or after other turns, it is
    still the question that was learned. Only questions that say nothing by themselves (总结。) are held apart by their context.
    """
    question = letters(record.question)
    parts = record.context
    context = "\n".join(letters(part) for part in parts) if any(parts) else ""
    mark = hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest()[:16] if context else ""
    turns = [loraforge.bare_question(text) for text in (*(asked for asked, _ in record.history), record.question)]
    least = [_OPENING, *(_BY_ITSELF for _ in record.history)] if context else [0]
    views = [loraforge.character_pairs(turn) for turn, floor in zip(turns, least, strict=True) if len(turn) >= floor]
    first, *others = reversed(views or [loraforge.character_pairs(turns[-1], mark)])
    return Fingerprint(f"{context}\n{question}" if context else question, first, tuple(others), loraforge.FLOOR, lessons(record))


def lessons(record: Conversation) -> tuple[Lesson, ...]:
    """What a row teaches: its answers, or, where all of them are short, its last one."""
    said = [loraforge.lesson(text) for text in record.answers if text]
    return tuple(one for one in said if not one.short) or tuple(said[-1:])


def letters(text: str) -> str:
    """Only letters and digits, in one writing of width and case; the text itself where it has none."""
    return loraforge.fold(text) or text.strip()
