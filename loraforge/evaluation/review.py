# SPDX-License-Identifier: Apache-2.0
"""Experts judge blind: the sheet that they fill in, and what all of them found, with intervals.

``review_sheet`` writes the workbook and ``grades`` reads one back; this puts the graders together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..messages import speaker
from . import bootstrap
from .grades import GradedFile, read_file
from .judgement import untold
from .review_sheet import SIDES, known_sheets, refuse_name, write_sheet

__all__ = ["read_grades", "refuse_name", "report_lines", "write_sheet"]

say = speaker(__name__)


def read_grades(paths: Path | Sequence[Path], keys: Path, adapter: str = "") -> dict[str, Any]:
    """What one or several graders found. Where several judged a question, their mean counts.

    Args:
        paths: filled workbooks; of one sheet or of several of the same run.
        keys: the key file that ``write_sheet`` wrote.
        adapter: SHA-256 of the run's adapter as it is now; a sheet that another one answered is refused.

    Returns:
        ``accuracy`` (per side mean, low, high, the last two None for few questions: yes = 1, partly = 0.5, no = 0), ``comparison`` and
        ``sentence`` on the questions whose answer was never learned, ``reworded`` (the same three for the others), ``wins``, ``losses``,
        ``ties``, ``questions``, ``graded``, ``ungraded``, ``agreement`` (None for one grader), ``files``, ``items`` and ``run``; as JSON.

    Raises:
        RunError: naming every cell that is not understood; or if nothing was graded.
    """
    sheets = known_sheets(keys)
    files: list[GradedFile] = []
    problems: list[str] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            files.append(read_file(path, sheets, keys, problems))
        except RunError as error:
            problems += error.problems
    problems += _twice(files)
    for file in files:
        answered = sheets[file.sheet].get("adapter")
        if adapter and answered and answered != adapter:
            problems.append(
                say(
                    "{file}: the answers on it are of another adapter than the run has now (promoted since?). Write a new sheet.",
                    file=file.file,
                )
            )
    if problems:
        raise RunError(problems)
    if not any(file.grades for file in files):
        notes = [line for file in files for line in _notes(vars(file))]
        raise RunError([say("No question is graded yet: fill in the yellow cells of the review sheet."), *notes])
    return _result(files, sheets)


def _twice(files: Sequence[GradedFile]) -> list[str]:
    """Two files of one grader on one sheet would count one person's opinion twice."""
    seen: dict[tuple[str, str], str] = {}
    problems = []
    for file in files:
        if (file.sheet, file.grader) in seen:
            problems.append(
                say(
                    "{file}: {grader} has graded this sheet already, in {first}. Give each grader's file once.",
                    file=file.file,
                    grader=file.grader,
                    first=seen[file.sheet, file.grader],
                )
            )
        seen.setdefault((file.sheet, file.grader), file.file)
    return problems


def _result(files: Sequence[GradedFile], sheets: Mapping[str, Any]) -> dict[str, Any]:
    rows = {row["id"]: row for file in files for row in file.rows}
    items = []
    for id_, row in rows.items():
        grades = [(file.grader, file.grades[id_]) for file in files if id_ in file.grades]
        if grades:
            means = {key: sum(getattr(grade, key) for _, grade in grades) / len(grades) for key in (*SIDES, "better")}
            remarks = {grader: grade.remark for grader, grade in grades if grade.remark}
            # A group may be called 3 and a row's id never: the pair keeps the two apart.
            group = ["group", str(row["group"])] if row.get("group") is not None else ["row", id_]
            known = bool(row.get("answer_learned"))  # sheets of earlier versions do not say it
            items.append({"id": id_, "where": row["where"], "group": group, **means, "graders": len(grades), "remarks": remarks,
                          "answer_learned": known})  # fmt: skip
    new, reworded = ([item for item in items if item["answer_learned"] is known] for known in (False, True))
    return {
        "run": sheets[files[0].sheet]["run"],
        "questions": len(rows),
        "graded": len(items),
        "ungraded": len(rows) - len(items),
        **(_compared(new) or {"accuracy": {}, "comparison": {}, "sentence": _none_new(rows)}),
        "reworded": _compared(reworded),
        "wins": sum(item["better"] > 0 for item in new or reworded),
        "losses": sum(item["better"] < 0 for item in new or reworded),
        "ties": sum(item["better"] == 0 for item in new or reworded),
        "agreement": _agreement(files),
        "files": [{k: v for k, v in asdict(file).items() if k not in ("rows", "grades")} | {"graded": len(file.grades)} for file in files],
        "items": items,
    }


def _none_new(rows: Mapping[str, Any]) -> str:
    if all(row.get("answer_learned") for row in rows.values()):
        return untold()
    return say("None of the questions whose answer was never learned is graded yet, so nothing can be told.")


def _compared(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy of both sides on some of the questions, and what it comes to; empty without any."""
    if not items:
        return {}
    groups = [tuple(item["group"]) for item in items]
    sides = {side: [float(item[side]) for item in items] for side in SIDES}
    compared = bootstrap.compare("factual accuracy", sides["base"], sides["adapter"], groups, share=True)
    return {
        "accuracy": {side: dict(zip(("mean", "low", "high"), bootstrap.interval(sides[side], groups), strict=True)) for side in SIDES},
        "comparison": compared.as_json(),
        "sentence": bootstrap.sentence(compared),
    }


def _agreement(files: Sequence[GradedFile]) -> dict[str, Any] | None:
    """How often two graders gave one answer the same verdict, over all pairs; and for two, Cohen's kappa (1960)."""
    if len(files) < 2:
        return None
    pairs = list(_pairs(files))
    if not pairs:
        return {"answers": 0, "share": None, "kappa": None}
    share = sum(a == b for a, b in pairs) / len(pairs)
    kappa = None
    if len(files) == 2:
        ones, others = zip(*pairs, strict=True)
        chance = sum(ones.count(v) * others.count(v) for v in set(ones)) / len(pairs) ** 2
        kappa = (share - chance) / (1 - chance) if chance < 1 else None
    return {"answers": len(pairs), "share": share, "kappa": kappa}


def _pairs(files: Sequence[GradedFile]) -> Iterator[tuple[float, float]]:
    for one, other in itertools.combinations(files, 2):
        for id_ in one.grades.keys() & other.grades.keys():
            yield from ((getattr(one.grades[id_], side), getattr(other.grades[id_], side)) for side in SIDES)


def report_lines(result: Mapping[str, Any]) -> list[str]:
    """The result of ``read_grades`` for the terminal."""
    names = ", ".join(dict.fromkeys(file["grader"] for file in result["files"]))
    lines = [
        say("{graded} of {questions} questions graded, by {names}.", graded=result["graded"], questions=result["questions"], names=names)
    ]
    reworded = result.get("reworded") or {}
    for part, kind in ((result, say("never learned")), (reworded, say("learned in other words"))):
        lines += _accuracy(part.get("accuracy") or {}, kind if reworded else "")
    counts = {key: result[key] for key in ("wins", "losses", "ties")}
    shares = {f"{key}_share": f"{count / max(1, sum(counts.values())):.0%}" for key, count in counts.items()}
    lines.append(
        say(
            "  Better answer: adapter {wins} ({wins_share}), base {losses} ({losses_share}), neither {ties} ({ties_share}).",
            **counts,
            **shares,
        )
    )
    lines.append(result["sentence"])
    agreement = result["agreement"]
    if agreement and agreement["share"] is not None:
        lines.append(say("The graders agree on {share} of {n} answers.", share=f"{agreement['share']:.0%}", n=agreement["answers"]))
        if agreement["kappa"] is not None:
            kappa = f"{agreement['kappa']:.2f}"
            lines.append(say("  Cohen's kappa: {kappa} (1: always; 0: no more than by chance).", kappa=kappa))
    elif agreement:
        lines.append(say("No question was graded by two graders, so their agreement is unknown."))
    for file in result["files"]:
        lines += _notes(file)
    return lines


def _accuracy(sides: Mapping[str, Mapping[str, float | None]], answers: str) -> list[str]:
    """A line for each side.

    Args:
        answers: of which questions they are; empty where there is one kind only.
    """
    lines = []
    for side, label in (("base", say("base")), ("adapter", say("adapter"))):
        if side not in sides:
            continue
        values = {key: f"{value:.1%}" for key, value in sides[side].items() if value is not None}
        values |= {"measure": say("factual accuracy"), "side": f"{label} ({answers})" if answers else label}
        if sides[side]["low"] is None:
            lines.append(say("  {measure}, {side}: {mean} (too few questions for an interval)", **values))
        else:
            lines.append(say("  {measure}, {side}: {mean} (95% interval {low} to {high})", **values))
    return lines


def _notes(file: Mapping[str, Any]) -> list[str]:
    """What was not counted, and why."""
    notes = []
    if file["edited"]:
        cells = ", ".join(file["edited"])
        notes.append(say("Not counted, because the text is not the one that was shown (edited?): {cells}.", cells=cells))
    if file["incomplete"]:
        notes.append(
            say("Not counted, because only one of the two answers is judged; empty: {cells}.", cells=", ".join(file["incomplete"]))
        )
    if file["blank"]:
        notes.append(say("{file}: questions without verdicts: {n}.", file=file["file"], n=file["blank"]))
    if file["missing"]:
        notes.append(say("{file}: questions that are no longer in the sheet: {n}.", file=file["file"], n=file["missing"]))
    return notes
