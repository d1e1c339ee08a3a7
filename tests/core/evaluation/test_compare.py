"""What the comparison is made of: clusters, general knowledge, recitation, rows that are gone; each on figures that are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loraforge import ChoiceQuestion
from loraforge.evaluation import compare
from loraforge.evaluation.examples import Rows
from loraforge.evaluation.general_knowledge import GeneralKnowledge


class Losses:
    """Stands for a Scorer: the loss of every record under each side."""

    def __init__(self, base, adapter):
        self._sides = {None: base, "a": adapter}

    def losses(self, rows, adapter):
        return [self._sides[adapter][row] for row in rows]

    def fits(self, row):
        return True


def forgetting(base_right: int, adapter_right: int, count: int = 40):
    """``count`` questions with four choices, of which each side gets so many right."""
    asked = [list(range(4 * i, 4 * i + 4)) for i in range(count)]

    def side(right):
        return [0.1 if (choice == 0) == (i < right) else 1.0 for i in range(count) for choice in range(4)]

    probe = GeneralKnowledge(tuple(map(tuple, asked)), ("zh", "en") * (count // 2))
    return probe.compare(Losses(side(base_right), side(adapter_right)), "a")


def test_forgetting_is_found_and_nothing_is_said_where_nothing_was_known():
    forgot = forgetting(36, 14)
    assert (forgot["base"], forgot["adapter"], forgot["chance"]) == (0.9, 0.35, 0.25)
    assert forgot["verdict"] == "worse" and forgot["sentence"].startswith("General knowledge was forgotten: 90%")
    assert set(forgot["by_group"]) == {"zh", "en"}
    kept = forgetting(36, 35)
    assert kept["verdict"] == "no evidence" and "no evidence of forgetting" in kept["sentence"]
    assert "knows little" in forgetting(11, 10)["sentence"]


def test_a_choice_is_right_only_if_it_is_the_likeliest_alone():
    tied = GeneralKnowledge(((0, 1, 2, 3),), ("zh",)).compare(Losses([0.5] * 4, [0.5, 0.6, 0.7, 0.8]), "a")
    assert (tied["base"], tied["adapter"]) == (0.0, 1.0)


def run_with(task, manifest=None):
    return SimpleNamespace(task=task, manifest=manifest or {}, run=SimpleNamespace(path="run", manifest_file="m"))


def text_rows(pairs):
    from loraforge_text.records import Conversation

    return tuple(Conversation(q, a, where=f"row {i}") for i, (q, a) in enumerate(pairs))


def test_near_identical_questions_count_once_in_every_comparison():
    from loraforge_text.task import TEXT

    held = text_rows([(f"问题{i}？", "答案是五日内提出申请。") for i in range(12)])
    groups = {record.content_hash(): 0 if i < 7 else i for i, record in enumerate(held)}
    rows = Rows(held, (), groups)
    answers = {"base": [compare.Answer("不知道")] * 12, "adapter": [compare.Answer("答案是五日内提出申请。")] * 12}
    compared = compare._judged(run_with(TEXT), rows, answers)
    assert {c.groups for c in compared} == {6} and {c.rows for c in compared} == {12}
    single = compare._judged(run_with(TEXT), Rows(held, (), {}), answers)
    assert {c.groups for c in single} == {12}


def test_what_is_recited_is_counted():
    from loraforge_text.task import TEXT

    taught = text_rows([(f"甲{i}？", f"应当在{i}日之内向有管辖权的人民法院提起诉讼，逾期不予受理。") for i in range(3, 9)])
    held = text_rows([("乙？", "应当支付经济补偿金，标准为每满一年一个月工资。"), ("丙？", "可以解除劳动合同，无须提前通知。")])
    unseen = [compare.Answer(taught[2].output), compare.Answer("可以解除劳动合同，无须提前通知。")]
    again = [compare.Answer(r.output) for r in taught[:4]] + [compare.Answer("别的话")] * 2
    found = compare._recited(run_with(TEXT), Rows(held, taught, {}), taught, unseen, again)
    assert found == {"learned_asked": 6, "learned_word_for_word": 4, "held_out_with_another_answer": 1, "held_out_asked": 2}
    short = compare._recited(run_with(TEXT), Rows(held, taught, {}), [], [compare.Answer("应当在"), compare.Answer("诉讼")], [])
    assert short["held_out_with_another_answer"] == 0  # a few characters are alike by chance


@pytest.mark.parametrize("rows, limit, wanted", [(10, None, 10), (10, 20, 10), (10, 3, 3), (1000, 200, 200)])
def test_a_limit_takes_rows_from_everywhere(rows, limit, wanted):
    taken = compare.spread(list(range(rows)), limit)
    assert len(taken) == len(set(taken)) == wanted and taken[0] == 0 and taken[-1] >= rows - rows / wanted - 1


def test_the_text_task_asks_questions_of_general_knowledge():
    from loraforge_text.task import TEXT

    assert all(isinstance(one, ChoiceQuestion) and len(one.choices) == 4 for one in TEXT.evaluation.general_knowledge())
