# SPDX-License-Identifier: Apache-2.0
"""Base and adapter on the same examples: losses, answers, what was forgotten, what is recited; with intervals and a plain sentence."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.lineage import parent_of
from ..errors import RunError
from ..messages import speaker
from ..plan import Plan, make_plan
from ..plugin_api.types import Answer, Record
from ..runs.opened import LoadedRun
from . import bootstrap
from .asking import Asked, Questioner
from .examples import Rows, fair_order, find_rows, spread, start_of
from .general_knowledge import GeneralKnowledge
from .judgement import LOSS, judge

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost
    from ..plugin_api.types import Adapter
    from .bootstrap import Comparison

say = speaker(__name__)

_SAMPLED = 20  # training questions asked again, to see whether their answers are known by heart
_RECITED = 0.9  # an answer that is, but for a tenth, one run of characters from another row's answer is recited
_LONG = 10  # characters; shorter answers are alike by chance
_COMPARED = 1000  # learned answers that are compared with each answer
_SIDES = ("base", "adapter")
_EARLIER = "the/earlier/run"  # no folder has such a name, so no other adapter is called that


def evaluate(
    host: PluginHost,
    opened: LoadedRun,
    limit: int | None,
    tick: Callable[[int, int], None],
    *,
    measured: Callable[[int, int], None] = lambda done, total: None,
    draw: bool = True,
    minutes: float = 0,
) -> dict[str, Any]:
    """Compares base and adapter on a run's held-out examples.

    Args:
        limit: at most so many examples.
        tick: called with (done, all) answers, (0, all) before the first.
        measured: called in the same way for the losses, which come first.
        draw: let tasks that do not judge answers one by one make their own comparison, which may take minutes.
        minutes: that the answers may take; 0: any. What was not answered by both sides by then counts nowhere.

    Returns:
        ``examples``, ``losses`` (means), ``comparisons`` (one per measure, see ``bootstrap.Comparison``) on the examples whose answer was
        never learned, ``reworded`` (the same for the others, which ask in other words for what was learned), ``parts`` (how many examples
        each has), ``verdict`` and ``headline`` (what it is about, of ``comparisons`` alone; see ``judgement.Judgement``), ``sentence``
        (both in words), ``figures`` (the task's own), ``quiz``, ``memorisation``, ``earlier`` (the hold-out of the run before),
        ``repeating`` (how many answers of each side were ended because they only repeated themselves), ``cut`` (where time was up: the
        questions that there were, ``of``, and ``minutes``; ``examples`` and all figures of them are then about those that were answered),
        and ``rows``: every question with both answers, what ended them, and the reference.

    Raises:
        RunError: if none of the held-out examples is left.
    """
    planned = make_plan(host, opened.task.name, opened.run.config_file, paths=False, exporting=False)
    rows = find_rows(host, opened, planned, limit)
    if not rows.all_held:
        raise RunError(say("{path}: nothing was held out in this run, so there is nothing to compare by.", path=opened.run.path))
    if not rows.heldout:
        raise RunError(say("{path}: none of the run's held-out examples is in its data any more.", path=opened.run.path))
    adapters = opened.adapters()
    name = next(iter(adapters))
    result: dict[str, Any] = {
        "run": str(opened.run.path),
        "examples": len(rows.heldout),
        "held_out": rows.all_held,
        "missing": rows.missing,
        "step": _step(opened),
    }
    losses, extra = _losses(opened, planned, adapters, rows, measured)
    result |= extra
    result["rows"] = []
    answers: Mapping[str, Sequence[Answer]] = {}
    if opened.task.evaluation.compare is None:
        asked = _answers(opened, name, rows, tick, minutes)
        if asked.cut:
            some = len(asked.places) < len(rows.heldout)
            there = rows.all_held - rows.missing if some else len(rows.heldout)
            result["cut"] = {"answered": len(asked.places), "of": there, "again": len(asked.again), "minutes": minutes}
        if asked.places:
            rows, losses = _only(rows, losses, asked.places)
            answers = asked.answers
            result["examples"], result["losses"] = len(rows.heldout), {side: _mean(losses[i]) for i, side in enumerate(_SIDES)}
        result["parts"] = {"new": len(rows.part(False)), "reworded": len(rows.part(True))}
        if answers:
            learned = spread(rows.learned, _SAMPLED)[: len(asked.again)]
            result["memorisation"] |= _recited(opened, rows, learned, answers["adapter"], asked.again)
        result["repeating"] = {side: sum(answer.repeats for answer in given) for side, given in answers.items()}
        result["rows"] = _shown(opened, rows, answers) if answers else []
    elif draw:
        found = [*rows.heldout, *rows.learned]
        result["figures"] = opened.task.evaluation.compare(opened, found, limit, tick)
    return result | _verdict_told(opened, rows, losses, answers, result)


def _verdict_told(
    opened: LoadedRun,
    rows: Rows,
    losses: tuple[list[float], list[float]],
    answers: Mapping[str, Sequence[Answer]],
    result: Mapping[str, Any],
) -> dict[str, Any]:
    """The measures of both parts, and the verdict in words."""
    comparisons = _compared(opened, rows, rows.part(False), losses, answers)
    reworded = _compared(opened, rows, rows.part(True), losses, answers)
    told = {"comparisons": [c.as_json() for c in comparisons], "reworded": [c.as_json() for c in reworded]}
    judged = judge(comparisons, opened.task.evaluation, opened.task.items)
    about = [_about(result["parts"])] if comparisons and reworded and "parts" in result else []
    first, *others = judged.lines
    sentence = [first, *about, *others, *_cautions(opened, {**result, **told})]
    return {**told, "verdict": judged.verdict, "headline": judged.measure, "sentence": sentence}


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest and the model card keep of a result: all but the answers."""
    return {key: value for key, value in result.items() if key not in ("rows", "run")}


def _step(opened: LoadedRun) -> int | None:
    chosen = opened.manifest.get("chosen")
    return chosen.get("step") if isinstance(chosen, Mapping) else None


# --- losses ------------------------------------------------------------------------------------------------------------------


def _losses(
    opened: LoadedRun, planned: Plan, adapters: Mapping[str, Adapter], rows: Rows, measured: Callable[[int, int], None]
) -> tuple[tuple[list[float], list[float]], dict[str, Any]]:
    """Everything that needs only losses: (of the base, of the adapter) on the held-out rows, and in the result's words what some learned
    rows, the general knowledge and the hold-out of the run before say."""
    from .scoring import Scorer

    name = next(iter(adapters))
    learned = spread(rows.learned, _SAMPLED)
    records: list[Record] = []

    def take(more: Sequence[Record]) -> list[int]:
        records.extend(more)
        return list(range(len(records) - len(more), len(records)))

    held, known, before = take(rows.heldout), take(learned), take(rows.earlier)
    questions = opened.task.evaluation.general_knowledge()
    probe = GeneralKnowledge(tuple(tuple(take(one.choices)) for one in questions), tuple(one.group for one in questions))
    parent = parent_of(start_of(opened)) if rows.earlier else None
    loaded = {**adapters, **({_EARLIER: _read(parent.adapter)} if parent else {})}
    scorer = Scorer(opened, planned, loaded, records)
    fitting = [i for i, row in enumerate(before) if scorer.fits(row)]
    before = [before[i] for i in fitting]
    probe = probe.that_fit(scorer)
    total = 2 * (len(held) + len(before) + sum(map(len, probe.rows))) + len(known)
    measured(0, total)
    scorer.watch = lambda done: measured(done, total)
    base, adapter = scorer.losses(held, None), scorer.losses(held, name)
    extra: dict[str, Any] = {
        "losses": {"base": _mean(base), "adapter": _mean(adapter)},
        "memorisation": {"loss_learned": _mean(scorer.losses(known, name)), "loss_held_out": _mean(adapter)},
    }
    if probe.rows:
        extra["quiz"] = probe.compare(scorer, name)
    if before:
        sides = {side: scorer.losses(before, side) for side in (_EARLIER, name)}
        groups = [rows.earlier_group[i] for i in fitting]
        compared = bootstrap.compare(LOSS, sides[_EARLIER], sides[name], groups, lower_is_better=True)
        extra["earlier"] = {"run": str(parent.run.path) if parent else "", "examples": len(before), **compared.as_json()}
    del scorer
    gc.collect()  # the base is loaded once more for the answers
    return (base, adapter), extra


def _compared(
    opened: LoadedRun, rows: Rows, places: Sequence[int], losses: tuple[list[float], list[float]], answers: Mapping[str, Sequence[Answer]]
) -> list[Comparison]:
    """Losses and judged measures on the held-out rows at these places; nothing where there are none."""
    if not places:
        return []
    some, (base, adapter) = _only(rows, losses, places)
    found = [bootstrap.compare(LOSS, base, adapter, some.groups(some.heldout), lower_is_better=True)]
    found += _judged(opened, some, {side: [given[i] for i in places] for side, given in answers.items()}) if answers else []
    truth = opened.task.evaluation.truth
    return sorted(found, key=lambda c: truth.index(c.measure) if c.measure in truth else len(truth))


def _read(folder: Path) -> Adapter:
    from ..adapters import lora

    return lora.read_peft(folder)


# --- answers -----------------------------------------------------------------------------------------------------------------


def _answers(opened: LoadedRun, name: str, rows: Rows, tick: Callable[[int, int], None], minutes: float) -> Asked:
    """Both sides' answers to the held-out questions, and the adapter's to some that it has learned."""
    settings = dict(opened.task.evaluation.generation([*rows.heldout, *rows.learned]))
    learned = spread(rows.learned, _SAMPLED)
    total = 2 * len(rows.heldout) + len(learned)
    questioner = Questioner(opened, opened.inference_model(opened.adapters()), settings, total, tick, minutes)
    asked = questioner.both(rows.heldout, fair_order(rows.heldout, rows.known), name)
    if not asked.cut:
        questioner.again(learned, name, asked)
    return asked


def _only(rows: Rows, losses: tuple[list[float], list[float]], places: Sequence[int]) -> tuple[Rows, tuple[list[float], list[float]]]:
    """The held-out rows at these places, with their losses."""
    base, adapter = ([those[i] for i in places] for those in losses)
    return replace(rows, heldout=tuple(rows.heldout[i] for i in places)), (base, adapter)


def _recited(opened: LoadedRun, rows: Rows, learned: Sequence[Record], unseen: Sequence[Answer], again: Sequence[Answer]) -> dict[str, Any]:
    """Learned answers that come back word for word, and held-out questions answered with what was learned for another question."""
    overlap = opened.task.evaluation.overlap
    if overlap is None:
        return {}
    same = sum(overlap(opened.task.answer(r), a) >= 0.95 for r, a in zip(learned, again, strict=True))
    taught = spread(sorted({opened.task.answer(record) for record in rows.learned}), _COMPARED)
    stolen = []
    for record, answer in zip(rows.heldout, unseen, strict=True):
        reference = opened.task.answer(record)
        others = max((overlap(answer, text) for text in taught if text != reference), default=0.0)
        stolen.append(len(answer) >= _LONG and others >= _RECITED and others > overlap(answer, reference))
    return {
        "learned_asked": len(learned),
        "learned_word_for_word": same,
        "held_out_with_another_answer": sum(stolen),
        "held_out_asked": len(stolen),
    }


def _judged(opened: LoadedRun, rows: Rows, answers: Mapping[str, Sequence[Answer]]) -> list[Comparison]:
    """One comparison per measure, over the rows that it applies to."""
    judged = {
        side: [opened.task.evaluation.judge(r, a) for r, a in zip(rows.heldout, given, strict=True)] for side, given in answers.items()
    }
    measures = list(dict.fromkeys(measure for scores in judged["adapter"] for measure in scores))
    groups = rows.groups(rows.heldout)
    found = []
    for measure in measures:
        both = [i for i in range(len(rows.heldout)) if all(measure in judged[side][i] for side in judged)]
        if not both:
            continue
        values = {side: [float(judged[side][i][measure]) for i in both] for side in judged}
        lower = measure in opened.task.evaluation.lower_is_better
        found.append(bootstrap.compare(measure, values["base"], values["adapter"], [groups[i] for i in both], lower_is_better=lower))
    return found


def _shown(opened: LoadedRun, rows: Rows, answers: Mapping[str, Sequence[Answer]]) -> list[dict[str, Any]]:
    groups = rows.groups(rows.heldout)
    return [
        {
            "where": r.where,
            "sha256": r.content_hash(),
            "group": groups[i],
            "alike": rows.question.get(r.content_hash(), groups[i]),
            "answer_learned": r.content_hash() in rows.known,
            "question": opened.task.question(r),
            "reference": opened.task.answer(r),
            **{side: str(answers[side][i]) for side in _SIDES},
            "ended": {side: answers[side][i].ended for side in _SIDES},
        }
        for i, r in enumerate(rows.heldout)
    ]


def _cautions(opened: LoadedRun, result: Mapping[str, Any]) -> list[str]:
    """What to know beside the verdict: what was forgotten, recited, not asked."""
    lines: list[str] = []
    if "quiz" in result:
        lines.append(result["quiz"]["sentence"])
    recited = result["memorisation"]
    if recited.get("held_out_with_another_answer"):
        lines.append(
            say(
                "Recited: {n} of {all} held-out questions got, almost word for word, the answer to another question.",
                n=recited["held_out_with_another_answer"],
                all=recited["held_out_asked"],
            )
        )
    if any(result.get("repeating", {}).values()):
        lines.append(_repeating_sentence(result["repeating"], result["examples"]))
    if "earlier" in result:
        lines.append(_earlier_sentence(result["earlier"]))
    if result["missing"]:
        lines.append(
            say(
                "{n} of the {all} held-out rows are not in the data as they were; they were not asked.",
                n=result["missing"],
                all=result["held_out"],
            )
        )
    asked = result["examples"] + result["missing"]
    cut = result.get("cut") or {"answered": 0, "of": 0}
    if "cut" in result:
        lines.append(_cut_sentence(cut))
    if asked < result["held_out"] and cut["answered"] == cut["of"]:
        lines.append(
            say("{n} of {all} held-out examples were asked; `loraforge eval` asks all.", n=result["examples"], all=result["held_out"])
        )
    chosen = opened.manifest.get("chosen")
    if isinstance(chosen, Mapping) and chosen.get("by") in ("held-out loss", "promote") and chosen.get("of", 2) > 1:
        lines.append(say("The step was chosen on these same examples, so the figures are a little too good."))
    return lines


def _cut_sentence(cut: Mapping[str, Any]) -> str:
    """What was left out when time was up."""
    if not cut["answered"]:
        return say(
            "No question was answered by both within {minutes:g} minutes (eval_minutes), so only losses are compared; "
            "`loraforge eval` asks all.",
            minutes=cut["minutes"],
        )
    if cut["answered"] < cut["of"]:
        return say(
            "{n} of {all} held-out questions were answered by both within {minutes:g} minutes (eval_minutes), drawn fairly from both "
            "kinds; the others count nowhere. `loraforge eval` asks all.",
            n=cut["answered"],
            all=cut["of"],
            minutes=cut["minutes"],
        )
    return say(
        "Time was up (eval_minutes: {minutes:g}) when the learned questions were asked again; {n} of them were answered.",
        minutes=cut["minutes"],
        n=cut["again"],
    )


def _repeating_sentence(repeating: Mapping[str, int], asked: int) -> str:
    return say(
        "Answers that only repeated themselves and were ended for that: base {base}, adapter {adapter}, of {n} each. They are judged as "
        "far as they went, and count as answers that never stop.",
        **repeating,
        n=asked,
    )


def _about(parts: Mapping[str, int]) -> str:
    return say(
        "The verdict is about the {new} questions whose answer was never learned; {reworded} more ask in other words for what was learned.",
        new=parts["new"],
        reworded=parts["reworded"],
    )


def _earlier_sentence(earlier: Mapping[str, Any]) -> str:
    """Whether what the earlier run had learned is still there."""
    words = {
        "worse": say("is worse than before: part of what was learned then is lost. Add rows of the earlier data, or train less."),
        "better": say("is better than before."),
        "no evidence": say("shows no evidence of a change."),
    }
    return say(
        "The {n} held-out examples of the earlier run: loss {before:.3f} with its adapter, {after:.3f} now; this {verdict}",
        n=earlier["examples"],
        before=earlier["base"],
        after=earlier["adapter"],
        verdict=words[str(earlier["verdict"])],
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
