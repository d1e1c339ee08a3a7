# SPDX-License-Identifier: Apache-2.0
"""Seeded generator of the conversations that tiny-chat learns from.

Every sentence was written for this project. Word lists and sentences lie under ``data/``; this module and `vague` combine them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from . import keywords, lexicon, vague

Message = dict[str, str]
Turn = tuple[str, str]


def _small_talk(rng: Random) -> Turn:
    said, replies = rng.choice(lexicon.small_talk())
    text = rng.choice(said)
    if rng.random() < 0.4:
        text += rng.choice([".", "!", "?"]) if text.isascii() else rng.choice(["。", "！", "？", "呀", "～"])
    return text, rng.choice(replies)


def _fact(rng: Random) -> Turn:
    kind = rng.choice(lexicon.facts())
    key, value = rng.choice(kind.pairs)
    question = rng.choice(kind.questions).format(k=key)
    if not question.isascii():
        question = rng.choice(lexicon.phrases("polite")) + question + rng.choice(["？", "？", "", "呢？", "。"])
    answer = kind.answer.format(k=key, v=value)
    return question, answer[0].upper() + answer[1:] if question.isascii() else answer


def _rule(rng: Random) -> Turn:
    """A rule of an invented rulebook the model knows by heart: how it learns to recall numbers."""
    rule = rng.choice(lexicon.rules())
    asked = rng.choice((*rule.questions, *rule.questions, rule.text))
    question = rng.choice(lexicon.phrases("rule questions")).format(b=rule.book, q=asked)
    answer = rng.choice(lexicon.phrases("rule answers"))
    return question, answer.format(b=rule.book, n=rule.number, t=rule.text)


def _given_rule(rng: Random) -> Turn:
    """Find the number of a rule stated in the question."""
    words = lexicon.terms()[2]
    first, second = rng.sample(range(1, 200), 2)
    one, two = rng.sample(words, 2)
    book = rng.choice(["班规", "游戏规则", "社团章程", "宿舍公约", "食堂守则"])
    rule = rng.choice([f"{book}第{first}条说{one}，第{second}条说{two}。", f"{book}第{first}条：{one}；第{second}条：{two}。"])
    number, word = rng.choice([(first, one), (second, two)])
    if rng.random() < 0.5:
        return f"{rule}{word}是第几条？", f"{word}是{book}第{number}条。"
    return f"{rule}第{number}条说什么？", f"{book}第{number}条说的是{word}。"


def _arithmetic(rng: Random) -> Turn:
    form = rng.randrange(4)
    if form == 0:
        a, b = rng.randint(0, 50), rng.randint(0, 50)
        question, result, sign = rng.choice(["{a}+{b}等于几", "{a}加{b}等于多少", "What is {a}+{b}?", "算一算{a}+{b}"]), a + b, "+"
    elif form == 1:
        a = rng.randint(0, 50)
        b = rng.randint(0, a)
        question, result, sign = rng.choice(["{a}-{b}等于几", "{a}减{b}是多少", "{a}减去{b}", "算一算{a}-{b}"]), a - b, "-"
    elif form == 2:
        a, b = rng.randint(1, 9), rng.randint(1, 9)
        question, result, sign = rng.choice(["{a}×{b}等于几", "{a}乘{b}是多少", "{a}乘以{b}"]), a * b, "×"
    else:
        a, b = rng.sample(range(1, 1000), 2)
        return f"{a}和{b}哪个大？", f"{max(a, b)}比{min(a, b)}大。"
    return question.format(a=a, b=b), f"{a}{sign}{b}={result}" + ("." if question.isascii() else "。")


def _copy(rng: Random) -> Turn:
    """Repeat or arrange words: trains every word of the lists, both read and written."""
    words = rng.sample(rng.choice(lexicon.terms()), rng.randint(2, 7))
    if rng.random() < 0.3:
        words.insert(rng.randrange(len(words)), str(rng.randint(0, 2000)))
    form = rng.randrange(5)
    if form == 0:
        return "请重复：" + "、".join(words), "、".join(words)
    if form == 1:
        return rng.choice(["跟我说：", "照着写一遍："]) + "".join(words), "".join(words)
    if form == 2:
        return "每行写一个：" + "、".join(words), "\n".join(words)
    if form == 3:
        return "倒过来写：" + "、".join(words[:4]), "、".join(reversed(words[:4]))
    return f"{'、'.join(words)}里有几个词？", f"有{len(words)}个词。"


def _kind_of_word(rng: Random) -> Turn:
    """Whether a word belongs to the law, to medicine or to everyday life."""
    group = rng.randrange(3)
    word = rng.choice(lexicon.terms()[group])
    kind = ("法律", "医学", "日常生活")[group]
    return rng.choice(["“{w}”是哪方面的词？", "{w}这个词多用在哪里？", "{w}属于什么领域？"]).format(w=word), f"{word}是{kind}方面的词。"


def _synonym(rng: Random) -> Turn:
    concept = rng.choice(lexicon.concepts(rng.choice(["法律事物", "法律方面", "医学事物", "医学方面"])))
    synonym = rng.choice(concept.synonyms)
    asked = rng.choice(["{s}也可以怎么说？", "{s}的另一种说法", "和{s}意思差不多的词"]).format(s=synonym)
    return asked, f"{synonym}也可以说{concept.name}。"


# How often each kind of turn comes. Legal and medical talk leads because its vocabulary is what users fine-tune on.
_KINDS: tuple[tuple[int, Callable[[Random], Turn]], ...] = (
    (36, lambda rng: keywords.keyword_question(rng, legal=True)),
    (12, lambda rng: keywords.keyword_question(rng, legal=False)),
    (14, lambda rng: vague.topic_question(rng, legal=True)),
    (6, lambda rng: vague.topic_question(rng, legal=False)),
    (3, lambda rng: vague.composed_question(rng, legal=True)),
    (2, lambda rng: vague.composed_question(rng, legal=False)),
    (4, vague.wording_task),
    (1, vague.english_question),
    (4, _small_talk),
    (5, _fact),
    (4, _rule),
    (2, _given_rule),
    (1, _arithmetic),
    (4, _copy),
    (1, _kind_of_word),
    (1, _synonym),
)


def conversations(seed: int, count: int) -> Iterator[list[Message]]:
    """Yield `count` conversations; the same seed gives the same ones."""
    rng = Random(seed)
    weights, makers = zip(*_KINDS, strict=True)
    for _ in range(count):
        messages: list[Message] = []
        if rng.random() < 0.08:
            messages.append({"role": "system", "content": rng.choice(lexicon.phrases("system"))})
        turns = 1 if rng.random() < 0.94 else rng.randint(2, 3)
        for make in rng.choices(makers, weights, k=turns):
            question, answer = make(rng)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield messages
