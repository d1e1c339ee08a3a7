# SPDX-License-Identifier: Apache-2.0
"""Legal and medical talk of the corpus: many wordings of each question, always a vague answer.

The answer first says in canonical words what the question is about. This teaches the model to find the subject in a question
however it is asked, which is what makes the model easy to fine-tune; what it says after that is as empty as it looks.
It may name a statute, never an article.
"""

from __future__ import annotations

from random import Random

from . import lexicon


def _answer(rng: Random, name: str, field: str, source: str, legal: bool) -> str:
    """A vague answer that names its subject. `source` is a statute."""
    vague = rng.choice(lexicon.phrases("vague"))
    advice = rng.choice(lexicon.phrases("legal advice" if legal else "medical advice"))
    hint = f"可以看看《{source}》等法律。" if legal else "可以先到全科门诊问一问。"
    forms = [
        f"关于{name}的问题，{vague}{hint}{advice}",
        f"{name}的问题，{vague}{advice}",
        f"{name}属于{field}方面的问题，{vague}{advice}",
        f"{name}{vague}{hint}{advice}",
        f"{name}是{field}问题，{vague}{advice}",
    ]
    if legal:
        forms.append(f"{name}在《{source}》等法律里有一般规定，{vague}{advice}")
        forms.append(f"{name}{vague}根据《{source}》等法律，{advice}")
    return rng.choice(forms)


def story(rng: Random, what: str, after: str) -> str:
    """A question wrapped into a small story of somebody, somewhere, some time."""
    return rng.choice(lexicon.phrases("stories")).format(
        time=rng.choice(lexicon.phrases("times")),
        who=rng.choice(lexicon.phrases("people")),
        place=rng.choice(lexicon.phrases("places")),
        age=rng.randint(5, 90),
        what=what,
        after=after,
        end=rng.choice(lexicon.phrases("story endings")),
    )


def _question(rng: Random, what: str, legal: bool) -> str:
    """One of very many ways to ask about `what`."""
    after = rng.choice(lexicon.phrases("legal endings" if legal else "medical endings"))
    if what.endswith(("吗", "谁", "多久", "多少", "哪里", "什么", "么办")):
        after = rng.choice(["", "？", "？"])
    if rng.random() < 0.45:
        return story(rng, what, after)
    return rng.choice(lexicon.phrases("openings")) + what + after


def topic_question(rng: Random, legal: bool) -> tuple[str, str]:
    """A question about a listed topic and its vague answer."""
    topic = rng.choice(lexicon.topics("legal_topics.txt" if legal else "medical_topics.txt"))
    what = rng.choice((topic.name, *topic.wordings, *topic.wordings))
    if rng.random() < 0.2:  # two wordings in one question, as people who explain themselves do
        what = what + "，" + rng.choice(topic.wordings)
    source = topic.sources[0] if rng.random() < 0.7 else rng.choice(topic.sources)
    return _question(rng, what, legal), _answer(rng, topic.name, topic.field, source, legal)


def composed_question(rng: Random, legal: bool) -> tuple[str, str]:
    """A question about some aspect of some thing, each named by any synonym; the answer uses the canonical words."""
    kind = "法律" if legal else "医学"
    thing, aspect = rng.choice(lexicon.concepts(kind + "事物")), rng.choice(lexicon.concepts(kind + "方面"))
    first, second = rng.choice((thing.name, *thing.synonyms)), rng.choice((aspect.name, *aspect.synonyms))
    joint = rng.choice(["", "的", "的事，", "这边，", "，"])
    what = first + joint + second if rng.random() < 0.8 else f"{second}，说的是{first}"
    name = f"{thing.name}的{aspect.name}"
    return _question(rng, what, legal), _answer(rng, name, kind, "民法典", legal)


def wording_task(rng: Random) -> tuple[str, str]:
    """Say it in other words, name the subject, or tell whether two sentences mean the same."""
    pool = lexicon.topics(rng.choice(["legal_topics.txt", "legal_topics.txt", "medical_topics.txt"]))
    topic, other = rng.choice(pool), rng.choice(pool)
    said, again = rng.sample((topic.name, *topic.wordings), 2)
    form = rng.randrange(4)
    if form == 0:
        return rng.choice(["换个说法：", "请换一种说法：", "用别的话说："]) + said, again + "。"
    if form == 1:
        asked = rng.choice(["这句话的主题是什么：", "用几个字概括：", "说的是哪方面的事："])
        return asked + said, f"主题是{topic.name}，属于{topic.field}。"
    if form == 2:
        return f"“{said}”和“{again}”是一回事吗？", f"是的，说的都是{topic.name}。"
    if other.name == topic.name:
        return f"“{said}”和“{again}”是一回事吗？", f"是的，说的都是{topic.name}。"
    return f"“{said}”和“{rng.choice(other.wordings)}”是一回事吗？", f"不是，一个是{topic.name}，一个是{other.name}。"


def english_question(rng: Random) -> tuple[str, str]:
    """A legal or medical question in English and its vague answer."""
    medical = rng.random() < 0.5
    thing = rng.choice(lexicon.phrases("english medical" if medical else "english legal"))
    question = rng.choice(lexicon.phrases("english questions"))
    advice = "Please ask a doctor." if medical else "Please ask a qualified lawyer."
    vague = rng.choice(["it depends on the situation.", "it is different in every case.", "there is no single answer."])
    return question.format(t=thing), f"About {thing}: {vague} {advice}"
