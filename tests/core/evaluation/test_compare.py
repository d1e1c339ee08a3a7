# SPDX-License-Identifier: Apache-2.0
"""What the comparison is made of: clusters, general knowledge, recitation, rows that are gone; each on figures that are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loraforge import ChoiceQuestion, RunError, Span
from loraforge.evaluation import compare
from loraforge.evaluation.examples import Rows, fair_order
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


# --- the whole comparison, on a task of strings and a scorer of numbers ----------------------------------------------------------


class Item:
    """A row: its number is its hash, its question and its place."""

    def __init__(self, name: str) -> None:
        self.name, self.where = name, f"row {name}"

    def content_hash(self) -> str:
        return self.name


def items(names: str) -> tuple[Item, ...]:
    return tuple(map(Item, names))


class Scorer:
    """Losses by side and row: 1 for the base, 2 for the adapter, 3 for the earlier one, plus a tenth of the row's place in the alphabet."""

    def __init__(self, opened, planned, adapters, records) -> None:
        assert planned == "planned"
        self.records, self.adapters = records, adapters
        opened.scorers.append(self)
        self.done = 0

    def fits(self, row):
        return self.records[row].name != "z"

    def losses(self, rows, adapter):
        side = {None: 1.0, "mine": 2.0, compare._EARLIER: 3.0}[adapter]
        for _ in rows:
            self.done += 1
            self.watch(self.done)
        return [side + 0.1 * "abcdefghijklmnopqrstuvwxyz".index(self.records[row].name) for row in rows]


@pytest.fixture
def evaluated(monkeypatch):
    """Evaluates a run that holds out these rows; what was asked of the model is in ``asked``, what was told in ``ticks``."""

    def go(rows: Rows, limit=None, manifest=None, draw=True, parent=None, minutes=0, before=None, repeats=(), **evaluation):
        asked, ticks = [], []
        usual = SimpleNamespace(
            headline="length", truth=(), compare=None, general_knowledge=lambda: (), lower_is_better=("badness",), overlap=None,
            generation=lambda records: {"max_tokens": len(records)},
            judge=lambda record, answer: {"length": len(answer) / 10, "badness": len(answer) / 20} | ({"odd": 1.0} if record.name in "ace" else {}),
        )  # fmt: skip
        task = SimpleNamespace(
            name="text", items="questions", evaluation=SimpleNamespace(**{**vars(usual), **evaluation}),
            question=lambda record: f"{record.name}?", answer=lambda record: record.name * 3,
        )  # fmt: skip

        class Model:
            def generate(self, prompts, adapter, **settings):
                asked.append((prompts, adapter, settings))
                if before is not None:
                    before(len(asked))
                return [compare.Answer(f"{prompts[0]} {'good answer' if adapter else 'bad'}", repeats=prompts[0] in repeats)]

        opened = SimpleNamespace(
            task=task, manifest=manifest or {}, scorers=[],
            run=SimpleNamespace(path="run", config_file="config", manifest_file="manifest"),
            template=SimpleNamespace(render=lambda record: [Span(f"{record.name}:"), Span("answer", learn=True)]),
            adapters=lambda: {"mine": "the adapter"}, inference_model=lambda adapters: Model() if adapters == {"mine": "the adapter"} else None,
        )  # fmt: skip

        def planned(host, name, file, paths, exporting):
            assert (host, name, file, paths, exporting) == ("host", "text", "config", False, False)
            return "planned"

        def found(host, given, plan, wanted):
            assert (host, given, plan, wanted) == ("host", opened, "planned", limit)
            return rows

        monkeypatch.setattr(compare, "make_plan", planned)
        monkeypatch.setattr(compare, "find_rows", found)
        monkeypatch.setattr(compare, "parent_of", lambda start: parent)
        monkeypatch.setattr(compare, "_read", lambda folder: f"read from {folder}")
        monkeypatch.setattr("loraforge.evaluation.scoring.Scorer", Scorer)
        measured: list = []
        tell = {"measured": lambda done, total: measured.append((done, total)), "draw": draw, "minutes": minutes}
        result = compare.evaluate("host", opened, limit, lambda done, total: ticks.append((done, total)), **tell)
        return SimpleNamespace(result=result, asked=asked, ticks=ticks, measured=measured, opened=opened)

    return go


HELD = Rows(items("acegikmo"), items("bd"), {}, all_held=10, missing=1)


def test_losses_answers_and_what_is_shown(evaluated):
    made = evaluated(HELD)
    result = made.result
    assert {k: result[k] for k in ("run", "examples", "held_out", "missing", "step", "headline")} == {
        "run": "run", "examples": 8, "held_out": 10, "missing": 1, "step": None, "headline": "length",
    }  # fmt: skip
    assert result["losses"] == {"base": pytest.approx(1.7), "adapter": pytest.approx(2.7)}
    assert result["memorisation"] == {"loss_learned": pytest.approx(2.2), "loss_held_out": pytest.approx(2.7)}
    by = {c["measure"]: c for c in result["comparisons"]}
    assert list(by) == ["loss", "length", "badness", "odd"]
    assert (by["loss"]["base"], by["loss"]["adapter"], by["loss"]["verdict"], by["loss"]["lower_is_better"]) == (
        pytest.approx(1.7),
        pytest.approx(2.7),
        "worse",
        True,
    )
    # "a: bad" has 6 characters, "a: good answer" 14.
    assert (by["length"]["base"], by["length"]["adapter"], by["length"]["verdict"]) == (pytest.approx(0.6), pytest.approx(1.4), "better")
    assert (by["badness"]["verdict"], by["badness"]["rows"], by["odd"]["rows"]) == ("worse", 8, 3)
    assert result["rows"][1] == {
        "where": "row c",
        "sha256": "c",
        "group": -2,
        "alike": -2,
        "answer_learned": False,
        "question": "c?",
        "reference": "ccc",
        "base": "c: bad",
        "adapter": "c: good answer",
        "ended": {"base": "stop", "adapter": "stop"},
    }
    assert [row["where"] for row in result["rows"]] == [f"row {c}" for c in "acegikmo"]
    order = [HELD.heldout[i].name for i in fair_order(HELD.heldout, ())]
    assert made.asked == [
        *(([f"{c}:"], side, {"max_tokens": 10}) for c in order for side in (None, "mine")),
        *(([f"{c}:"], "mine", {"max_tokens": 10}) for c in "bd"),
    ]
    assert made.ticks == [(i, 18) for i in range(19)]
    assert [one[:20] for one in result["sentence"]] == [
        "The adapter is neare",
        "Worse than the base:",
        "Worse than the base:",
        "1 of the 10 held-out",
        "8 of 10 held-out exa",
    ]
    assert " length: " in result["sentence"][0] and " loss: " in result["sentence"][1] and " badness: " in result["sentence"][2]
    kept = compare.summary(result)
    assert kept.keys() == result.keys() - {"rows", "run"} and all(kept[key] is result[key] for key in kept)


def test_the_verdict_is_about_what_was_never_learned(evaluated):
    """Rows a, c, e are other wordings of what was learned; the adapter's losses are one higher everywhere."""
    mixed = Rows(items("acegikm"), HELD.learned, {}, 7, 0, known=frozenset("ace"), question={"a": 0, "c": 0})
    result = evaluated(mixed).result
    assert result["parts"] == {"new": 4, "reworded": 3} and result["examples"] == 7
    new, other = ({c["measure"]: c for c in result[key]} for key in ("comparisons", "reworded"))
    assert list(new) == ["loss", "length", "badness"] and list(other) == ["loss", "length", "badness", "odd"]
    assert {c["rows"] for c in new.values()} == {4} and {c["rows"] for c in other.values()} == {3}
    assert new["loss"]["base"] == pytest.approx(1 + (6 + 8 + 10 + 12) / 40) and other["loss"]["base"] == pytest.approx(1 + (0 + 2 + 4) / 30)
    assert "4 questions compared" in result["sentence"][0]
    assert any("about the 4 questions whose answer was never learned; 3 more ask" in line for line in result["sentence"])
    assert [(row["alike"], row["answer_learned"]) for row in result["rows"][:4]] == [(0, True), (0, True), (-3, True), (-4, False)]
    assert result["losses"]["base"] == pytest.approx(1.6), "over all of them"


@pytest.fixture
def clock(monkeypatch):
    from loraforge.evaluation import asking

    made = SimpleNamespace(now=0.0, monotonic=lambda: made.now)
    monkeypatch.setattr(asking, "time", made)
    return made


def test_what_was_not_answered_in_time_counts_nowhere(evaluated, clock):
    """Twenty seconds an answer, two minutes: three of eight questions are answered by both."""
    made = evaluated(HELD, minutes=2, before=lambda number: setattr(clock, "now", 20.0 * number))
    result, some = made.result, sorted(fair_order(HELD.heldout, ())[:3])
    assert result["cut"] == {"answered": 3, "of": 9, "again": 0, "minutes": 2} and result["examples"] == len(result["rows"]) == 3
    assert [row["where"] for row in result["rows"]] == [HELD.heldout[i].where for i in some]
    assert {c["rows"] for c in result["comparisons"] if c["measure"] != "odd"} == {3}
    mean = sum("abcdefghijklmnopqrstuvwxyz".index(HELD.heldout[i].name) for i in some) / 30
    assert result["losses"] == {"base": pytest.approx(1 + mean), "adapter": pytest.approx(2 + mean)}
    assert "learned_asked" not in result["memorisation"] or result["memorisation"]["learned_asked"] == 0
    told = [line for line in result["sentence"] if "eval_minutes" in line]
    assert told and told[0].startswith("3 of 9 held-out questions were answered by both within 2 minutes")
    assert not any("were asked;" in line for line in result["sentence"])


def test_where_nothing_was_answered_in_time_only_losses_are_compared(evaluated, clock):
    result = evaluated(HELD, minutes=0.1, before=lambda number: setattr(clock, "now", 20.0 * number)).result
    assert [c["measure"] for c in result["comparisons"]] == ["loss"] and result["rows"] == [] and result["cut"]["answered"] == 0
    assert any(line.startswith("No question was answered by both within 0.1 minutes") for line in result["sentence"])


def test_time_that_is_up_among_the_learned_questions_is_told(evaluated, clock):
    result = evaluated(HELD, minutes=5.5, overlap=lambda a, b: 0.0, before=lambda number: setattr(clock, "now", 20.0 * number)).result
    assert result["cut"] == {"answered": 8, "of": 8, "again": 1, "minutes": 5.5} and result["memorisation"]["learned_asked"] == 1
    assert any("1 of them were answered" in line for line in result["sentence"])


def test_without_a_budget_it_is_the_same_twice(evaluated):
    assert evaluated(HELD).result == evaluated(HELD).result == evaluated(HELD, minutes=60).result


def test_answers_that_only_repeat_themselves_are_counted_and_marked(evaluated):
    result = evaluated(HELD, repeats=("c:", "e:")).result
    assert result["repeating"] == {"base": 2, "adapter": 2}
    assert result["rows"][1]["ended"] == {"base": "repetition", "adapter": "repetition"}
    assert any(line.startswith("Answers that only repeated themselves") for line in result["sentence"])


def test_where_nothing_new_was_held_out_nothing_can_be_told(evaluated):
    result = evaluated(Rows(items("acegikm"), HELD.learned, {}, 7, 0, known=frozenset("acegikm"))).result
    assert result["comparisons"] == [] and len(result["reworded"]) == 4 and result["parts"] == {"new": 0, "reworded": 7}
    assert result["sentence"][0].startswith("Whether the adapter is better cannot be told: nothing new was held out.")
    assert not any("better than" in line or "worse than the base" in line for line in result["sentence"])


@pytest.mark.parametrize(
    ("held", "told"),
    [(Rows((), (), {}), "nothing was held out"), (Rows((), items("a"), {}, all_held=3, missing=3), "none of the run's held-out")],
)
def test_nothing_to_compare_by_is_said(evaluated, held, told):
    with pytest.raises(RunError, match=told):
        evaluated(held)


@pytest.mark.parametrize(
    ("missing", "all_held", "limit", "told"),
    [(0, 8, None, []), (2, 10, None, ["2 of the 10"]), (0, 10, 8, ["8 of 10"]), (1, 10, 8, ["1 of the 10", "8 of 10"])],
)
def test_rows_that_were_not_asked_are_told(evaluated, missing, all_held, limit, told):
    found = evaluated(Rows(HELD.heldout, (), {}, all_held, missing), limit).result
    lines = [line for line in found["sentence"] if "held-out" in line and not line.startswith("The adapter is nearer")]
    assert len(lines) == len(told) and all(line.startswith(start) for line, start in zip(lines, told, strict=True))
    assert found["memorisation"] == {"loss_learned": None, "loss_held_out": pytest.approx(2.7)}


@pytest.mark.parametrize(
    ("chosen", "told"),
    [({"by": "held-out loss", "of": 5}, True), ({"by": "promote", "of": 2}, True), ({"by": "promote"}, True), ({"by": "held-out loss", "of": 1}, False),
     ({"by": "last step", "of": 5}, False), ("held-out loss", False), (None, False)],
)  # fmt: skip
def test_a_step_that_was_chosen_on_these_examples_is_told(evaluated, chosen, told):
    chosen = {**chosen, "step": 40} if isinstance(chosen, dict) else chosen
    result = evaluated(HELD, manifest={"chosen": chosen}).result
    assert any("chosen on these same examples" in line for line in result["sentence"]) is told
    assert result["step"] == (40 if isinstance(chosen, dict) else None)


def test_a_headline_that_no_row_has_leaves_the_loss(evaluated):
    assert " loss: " in evaluated(HELD, headline="nothing").result["sentence"][0]
    result = evaluated(HELD, headline=None).result
    assert (
        result["headline"] == "loss" and " loss: " in result["sentence"][0] and sum(" loss: " in line for line in result["sentence"]) == 1
    )


@pytest.mark.parametrize("draw", [True, False])
def test_a_task_that_makes_its_own_comparison(evaluated, draw):
    figures = []

    def own(opened, records, limit, tick):
        figures.append(("".join(r.name for r in records), limit))
        return {"figure": 1}

    made = evaluated(HELD, 7, draw=draw, compare=own)
    assert made.result.get("figures") == ({"figure": 1} if draw else None) and figures == ([("acegikmobd", 7)] if draw else [])
    assert made.result["rows"] == [] and not made.asked and [c["measure"] for c in made.result["comparisons"]] == ["loss"]


def test_questions_of_general_knowledge_that_fit_are_asked(evaluated):
    questions = tuple(SimpleNamespace(choices=items(choices), group=group) for choices, group in (("ab", "x"), ("zb", "x"), ("ca", "y")))
    result = evaluated(HELD, general_knowledge=lambda: questions).result
    assert (result["quiz"]["base"], result["quiz"]["rows"], set(result["quiz"]["by_group"])) == (0.5, 2, {"x", "y"})
    assert result["quiz"]["sentence"] in result["sentence"]
    assert "quiz" not in evaluated(HELD, general_knowledge=lambda: questions[1:2]).result


def test_the_hold_out_of_the_earlier_run_is_measured_with_both_adapters(evaluated):
    parent = SimpleNamespace(adapter="its/adapter", run=SimpleNamespace(path="its"))
    rows = Rows(HELD.heldout, HELD.learned, {}, 7, 0, items("bdzfhjl"), (0, 1, 2, 3, 4, 5, 5))
    made = evaluated(rows, parent=parent)
    earlier = made.result["earlier"]
    assert made.opened.scorers[0].adapters == {"mine": "the adapter", compare._EARLIER: "read from its/adapter"}
    assert (earlier["run"], earlier["examples"], earlier["rows"], earlier["groups"]) == ("its", 6, 6, 5), "z does not fit"
    assert made.measured == [(i, 30) for i in range(31)], "both sides of 8 and of the 6 that fit, and 2 learned ones"
    mean = sum("abcdefghijklmnopqrstuvwxyz".index(c) for c in "bdfhjl") / 60
    assert (earlier["base"], earlier["adapter"], earlier["lower_is_better"]) == (pytest.approx(3 + mean), pytest.approx(2 + mean), True)
    line = next(line for line in made.result["sentence"] if "of the earlier run" in line)
    assert line.startswith(
        f"The 6 held-out examples of the earlier run: loss {3 + mean:.3f} with its adapter, {2 + mean:.3f} now; this shows no evidence"
    )
    without = evaluated(HELD, parent=parent)
    assert without.opened.scorers[0].adapters == {"mine": "the adapter"} and "earlier" not in without.result


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("worse", "part of what was learned then is lost"), ("better", "is better than before"), ("no evidence", "no evidence of a change")],
)
def test_the_earlier_run_in_words(verdict, said):
    assert said in compare._earlier_sentence({"examples": 3, "base": 1.0, "adapter": 2.0, "verdict": verdict})


@pytest.mark.parametrize(
    ("to_taught", "to_reference", "length", "stolen"),
    [(0.9, 0.5, 10, 1), (0.89, 0.5, 10, 0), (0.95, 0.95, 10, 0), (1.0, 0.5, 9, 0), (1.0, 0.99, 10, 1)],
)
def test_where_reciting_begins(to_taught, to_reference, length, stolen):
    """As long as ten characters, nine tenths of another row's answer, and more of that than of its own reference."""
    task = SimpleNamespace(
        answer=lambda record: record.name,
        evaluation=SimpleNamespace(overlap=lambda text, other: {"t": to_taught, "r": to_reference}.get(other, 0.0)),
    )
    found = compare._recited(run_with(task), Rows(items("r"), items("tu"), {}), [], [compare.Answer("x" * length)], [])
    assert found == {"learned_asked": 0, "learned_word_for_word": 0, "held_out_with_another_answer": stolen, "held_out_asked": 1}
    same = compare._recited(run_with(task), Rows(items("t"), items("t"), {}), [], [compare.Answer("x" * 20)], [])
    assert same["held_out_with_another_answer"] == 0, "the same answer was taught: it is right"


@pytest.mark.parametrize(("overlap", "count"), [(0.95, 2), (0.94, 0)])
def test_what_counts_as_known_by_heart(overlap, count):
    task = SimpleNamespace(
        answer=lambda record: record.name, evaluation=SimpleNamespace(overlap=lambda text, other: overlap if text in "ab" else 0.0)
    )
    found = compare._recited(run_with(task), Rows((), items("abc"), {}), items("abc"), [], [compare.Answer("x")] * 3)
    assert (found["learned_asked"], found["learned_word_for_word"]) == (3, count)


def test_recited_answers_are_told_with_their_number(evaluated):
    made = evaluated(HELD, overlap=lambda text, other: 1.0 if other == "bbb" and text.startswith(("c", "e")) else 0.0)
    assert made.result["memorisation"]["held_out_with_another_answer"] == 2
    assert "Recited: 2 of 8 held-out questions got, almost word for word, the answer to another question." in made.result["sentence"]
    assert made.result["memorisation"]["learned_asked"] == 2
    many = Rows(HELD.heldout, items("abcdefghijklmnopqrstuvwxy"), {}, 7)
    assert evaluated(many, overlap=lambda text, other: 0.0).result["memorisation"]["learned_asked"] == 20
