# SPDX-License-Identifier: Apache-2.0
"""Every way of writing answers and reasoning that published templates have; the prompt is that of transformers itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders.mechanics import MECHANICS
from builders.published_templates import make_base, oracle, published
from loraforge_text.base_files import read_base
from loraforge_text.families.encoding import examine, only_read, tokenizer_of
from loraforge_text.records import Conversation, Message, TextKeys
from loraforge_text.templates.builtin import AutoTemplate
from loraforge_text.templates.prompting import PINNED_DATE

from loraforge import DataError, KeySet, LoraForgeError, RunConfig, prompt_of

FIELD = (Message("user", "Q1"), Message("assistant", "A1", reasoning="T1"))
ROWS = {
    "inline": Conversation("Q1", "<think>\nT1\n</think>\n\nA1", where="r"),
    "half": Conversation("Q1", "T1\n</think>\nA1", where="r"),
    "field": Conversation("Q1", "A1", messages=FIELD, where="r"),
}
TURNS = Conversation("Q3", "A3", history=(("Q1", "A1"), ("Q2", "A2")), where="r")


@pytest.fixture(params=list(MECHANICS))
def mechanics(request):
    return MECHANICS[request.param]


@pytest.fixture
def folder(mechanics, tmp_path):
    return make_base(tmp_path / "base", mechanics.jinja, mechanics.stops, mechanics.special)


def prepared(folder, *records, reasoning=None, system=None):
    config = RunConfig(train_data_dir=".", base_model=str(folder))
    return AutoTemplate().prepare(
        config, KeySet({RunConfig: config, TextKeys: TextKeys(reasoning=reasoning, system_prompt=system)}), records
    )


def learned(spans):
    return [span.text for span in spans if span.learn]


def served(folder, template, *said):
    messages = [{"role": role, "content": text} for role, text in said]
    return oracle(folder, messages, True, template.prompting.kwargs, PINNED_DATE)


def test_a_row_without_reasoning(mechanics, folder):
    row = Conversation("Q1", "A1", where="r")
    template = prepared(folder, row)
    spans = template.render(row)
    assert prompt_of(spans).endswith(mechanics.plain[0]) and learned(spans) == [mechanics.plain[1]]
    assert prompt_of(spans) == served(folder, template, ("user", "Q1"))
    assert examine(tokenizer_of(folder), read_base(folder), row, spans, 512)[1] is None


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_a_row_with_reasoning(mechanics, folder, row):
    if mechanics.thinking is None:
        if row.messages:
            with pytest.raises(DataError, match="reasoning: drop"):
                prepared(folder, row)
        else:
            template = prepared(folder, row)
            assert learned(template.render(row)) == [mechanics.plain[1].replace("A1", row.output)]
            assert "learned as they have it" in template.reason
        return
    template = prepared(folder, row)
    spans = template.render(row)
    assert prompt_of(spans).endswith(mechanics.thinking[0]) and learned(spans) == [mechanics.thinking[1]]
    assert prompt_of(spans) == served(folder, template, ("user", "Q1"))
    assert mechanics.kwargs.items() <= template.prompting.kwargs.items()
    assert examine(tokenizer_of(folder), read_base(folder), row, spans, 512)[1] is None


@pytest.mark.parametrize(
    "answer", ["end", "e", "<", "|", "1", "assistant", "think", "final", "endoftext", "> <", "[INST", "return|>", "是\n\n否", "a<b>c"]
)
def test_short_answers_that_stand_in_marks_too(mechanics, folder, answer):
    row = Conversation("Q1", answer, where="r")
    thinks = Conversation("Q1", f"<think>{answer} T1 {answer}</think>{answer}", where="r")
    assert learned(prepared(folder, row).render(row)) == [mechanics.plain[1].replace("A1", answer)]
    if mechanics.thinking is not None:
        wanted = mechanics.thinking[1].replace("A1", answer).replace("T1", f"{answer} T1 {answer}")
        assert learned(prepared(folder, thinks).render(thinks)) == [wanted]


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_reasoning_that_is_dropped_leaves_a_row_without(mechanics, folder, row):
    template = prepared(folder, row, reasoning="drop")
    assert learned(template.render(row)) == [mechanics.plain[1]] and "is left out" in template.reason
    without = Conversation("Q1", "A1", where="r")
    assert template.prompting.kwargs == prepared(folder, without).prompting.kwargs


def test_reasoning_that_is_wanted_is_learned_everywhere(mechanics, folder):
    template = prepared(folder, ROWS["field"], reasoning="learn")
    text = learned(template.render(ROWS["field"]))[0]
    assert text.count("T1") == 1 and text.index("T1") < text.index("A1")
    assert template.recall(template.describe()).render(ROWS["field"]) == template.render(ROWS["field"])


def test_rows_of_both_kinds(mechanics, folder):
    plain = Conversation("Q1", "A1", where="r")
    template = prepared(folder, ROWS["inline"], plain)
    assert learned(template.render(plain))[0].count("A1") == 1
    if template.prompting.form.opened:
        assert "1 answer has no reasoning" in template.reason


def test_earlier_answers_are_learned_where_they_stay_as_they_were(mechanics, folder):
    template = prepared(folder, TURNS)
    spans = template.render(TURNS)
    whole = "".join(span.text for span in spans)
    said = [("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2"), ("user", "Q3")]
    assert prompt_of(spans) == whole[: -len(learned(spans)[-1])] == served(folder, template, *said)
    assert only_read(TURNS, spans) == mechanics.read
    for number, text in enumerate(learned(spans)[::-1]):
        assert text == mechanics.plain[1].replace("A1", f"A{3 - number}")
        before = whole[: whole.index(text)]
        if number:  # it follows what is asked at that time
            assert before == served(folder, template, *said[: -2 * number])


def test_an_answer_that_is_not_learned_is_context(mechanics, folder):
    messages = (Message("user", "Q1"), Message("assistant", "A1", learn=False), Message("user", "Q2"), Message("assistant", "A2"))
    row = Conversation("Q2", "A2", messages=messages, where="r")
    template = prepared(folder, row)
    spans = template.render(row)
    assert learned(spans) == [mechanics.plain[1].replace("A1", "A2")]
    assert prompt_of(spans) == served(folder, template, ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"))


def test_a_system_message(mechanics, folder):
    row = Conversation("Q1", "A1", system="SYS", where="r")
    template = prepared(folder, row)
    spans = template.render(row)
    assert prompt_of(spans) == served(folder, template, ("system", "SYS"), ("user", "Q1"))
    assert learned(spans) == [mechanics.plain[1]]


@pytest.mark.skipif("LORAFORGE_TEMPLATES" not in os.environ, reason="LORAFORGE_TEMPLATES names no folder of published chat templates")
def test_published_templates(tmp_path):
    """All templates of a folder. They are others' work, so that none is kept here."""
    refused: dict[str, str] = {}
    wrong: list[str] = []
    rows = {"plain": Conversation("Q1", "A1", where="r"), "turns": TURNS, **ROWS}
    for number, (name, jinja) in enumerate(published(Path(os.environ["LORAFORGE_TEMPLATES"]))):
        folder = make_base(tmp_path / str(number), jinja)
        for kind, row in rows.items():
            try:
                template = prepared(folder, row)
                spans = template.render(row)
            except LoraForgeError as error:
                assert "reasoning" in str(error) if kind == "field" else "prompt_template" in str(error), (name, kind, str(error))
                if kind == "plain":
                    refused[name] = str(error)
                    break
                continue
            said = [(role, text) for pair in row.history for role, text in zip(("user", "assistant"), pair, strict=True)]
            if prompt_of(spans) != served(folder, template, *said, ("user", row.instruction)):
                wrong.append(f"{name}, {kind}: prompt")
            last = learned(spans)[-1]
            answer, thought = f"A{1 + len(row.history)}", "T1" if kind in ROWS else ""
            if last.count(answer) != 1 or last.count("T1") != len(thought) // 2 or last.find("T1") > last.index(answer):
                wrong.append(f"{name}, {kind}: {last!r}")
            if problem := examine(tokenizer_of(folder), read_base(folder), row, spans, 100_000)[1]:
                wrong.append(f"{name}, {kind}: {problem}")
    assert not wrong
    assert len(refused) <= (number + 1) * 5 / 70, refused
