# SPDX-License-Identifier: Apache-2.0
"""Questions whose answers take up their key words: an open vocabulary, so that looking back at the question is the only way to answer.

A model that has learned this finds the subject of a question however it is asked, of subjects that it never met too. That is what a
few hundred examples can build on. The statements are as empty as those of `vague`.
"""

from __future__ import annotations

from functools import cache
from random import Random

from . import lexicon, vague

# What a statement says of one key word with regard to another; it claims nothing.
_RELATIONS = (
    "涉及{b}",
    "与{b}有关",
    "要结合{b}来看",
    "要看{b}的情况",
    "和{b}的关系",
    "会影响{b}",
    "属于{b}的范围",
    "应当考虑{b}",
    "离不开{b}",
    "关系到{b}",
)
_LINKS = (
    "",
    "的",
    "和",
    "与",
    "，",
    "，还有",
    "之后",
    "的时候",
    "涉及",
    "方面的",
    "以后，",
    "但是",
    "，因为",
    "要不要",
    "算不算",
    "能不能有",
)
_VERBS = ("遇到", "问起", "碰到", "说到", "在办", "为了", "收到", "想要", "不同意", "没有", "签了", "打听")


@cache
def _characters() -> tuple[str, ...]:
    """The characters of all word lists, each as often as it occurs."""
    return tuple(character for words in lexicon.terms()[:2] for word in words for character in word)


@cache
def _words(legal: bool) -> tuple[str, ...]:
    """Words of one field: those of the list, and the names and short wordings of its topics."""
    topics = lexicon.topics("legal_topics.txt" if legal else "medical_topics.txt")
    names = (text for topic in topics for text in (topic.name, topic.name, *topic.wordings) if len(text) <= 8)
    return (*lexicon.terms()[0 if legal else 1], *names)


def _key_word(rng: Random, legal: bool) -> str:
    """A word of the field; now and then one that does not exist, which can only be read off the question."""
    if rng.random() < 0.25:
        return "".join(rng.choice(_characters()) for _ in range(rng.choice((2, 2, 3, 4))))
    word = rng.choice(_words(legal))
    return word + rng.choice(lexicon.terms()[0 if legal else 1]) if rng.random() < 0.15 else word


def _question(rng: Random, words: list[str], legal: bool) -> str:
    """A question around the key words, which keep their order only sometimes."""
    said = words if rng.random() < 0.7 else words[::-1]
    what = rng.choice(_LINKS).join(said)
    after = rng.choice(lexicon.phrases("legal endings" if legal else "medical endings"))
    form = rng.random()
    if form < 0.4:
        return rng.choice(lexicon.phrases("openings")) + what + after
    if form < 0.75:
        return vague.story(rng, what, after)
    who, place, time = (rng.choice(lexicon.phrases(kind)) for kind in ("people", "places", "times"))
    return rng.choice(
        (f"{who}{time}{rng.choice(_VERBS)}{what}{after}", f"{time}{who}在{place}{rng.choice(_VERBS)}{what}{after}", f"{what}，{who}{after}")
    )


def keyword_question(rng: Random, legal: bool) -> tuple[str, str]:
    """A question, and an answer that begins with a statement of its key words."""
    words = [_key_word(rng, legal) for _ in range(rng.choice((1, 2, 2, 3)))]
    empty = rng.choice(lexicon.phrases("vague"))
    advice = rng.choice(lexicon.phrases("legal advice" if legal else "medical advice"))
    first, last = words[0], words[-1]
    # The subject comes first: the very first word of the answer has to be found in the question.
    if len(words) == 1:
        start = rng.choice((f"{first}的问题，", first, f"{first}的事", f"{first}方面，"))
    else:
        middle = "、".join(words[1:-1])
        relation = rng.choice(_RELATIONS).format(b=last)
        start = rng.choice((f"{first}{relation}，", f"{first}的{last}", f"{first}和{last}，", f"{first}{middle}{relation}。"))
        if middle and middle not in start:
            start += f"还有{middle}，"
    return _question(rng, words, legal), start + empty + advice
