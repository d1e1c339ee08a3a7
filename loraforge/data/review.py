# SPDX-License-Identifier: Apache-2.0
"""The columns in which people say of a row who looked at it, what they decided, and which findings may stay; for loaders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..messages import speaker
from ..plugin_api.types import Review
from .wording import simplified

say = speaker(__name__)

REVIEW_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "reviewer": (
        "reviewer", "reviewedby",
        "审核人", "审核", "审核者", "审核人员", "复核人", "审核医师", "审核医生", "审核律师", "审核专家",
    ),
    "approved": ("approved", "已审核", "通过", "审核通过", "是否通过", "审核结果", "审核结论", "审核状态", "是否审核通过"),
    "waive": ("waive", "豁免", "忽略检查"),
}  # fmt: skip
"""What these columns may be called, folded (see ``match_columns``); the first of each is our own name."""
_YES = ("yes", "y", "true", "1", "ok", "approved", "是", "通过", "已通过", "审核通过", "已审核", "合格", "同意", "✓", "✔", "√", "☑", "✅")
_NO = ("no", "n", "false", "0", "rejected", "否", "不通过", "未通过", "审核不通过", "不合格", "不同意", "驳回", "x", "✗", "✘", "×", "❌")
_DECISIONS: Mapping[str, bool] = {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}
# What people write where nobody has looked yet.
_NOBODY = frozenset(
    ("-", "—", "/", "?", "n/a", "na", "none", "pending", "todo", "tbd", "无", "暂无", "未审核", "待审核", "待审", "待定", "待")
)
# What may be the name of a check; * stands for all of them.
_CHECK = re.compile(r"\*|[A-Za-z][A-Za-z0-9_-]*")


def fold_name(name: str) -> str:
    """A column's name as synonyms hold it: in lower case and simplified characters, letters and digits only."""
    return simplified("".join(c for c in unicodedata.normalize("NFKC", name).lower() if c.isalnum())).replace("覆", "复")  # 審覆


def match_columns(
    names: Sequence[str], synonyms: Mapping[str, Sequence[str]], given: Mapping[str, str], decisions: Collection[str] = ()
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Which column of a file is what: (field -> column, field -> columns that could all be it).

    Args:
        synonyms: what the column of each field may be called, in lower case without spaces and punctuation, our own name first.
        given: fields whose column is known already.
        decisions: the columns that hold decisions (``decides``); none of them names a reviewer.
    """
    found = dict(given)
    doubtful: dict[str, list[str]] = {}
    for field, called in synonyms.items():
        if field in found:
            continue
        free = [name for name in names if name not in found.values()]
        candidates = [name for name in free if fold_name(name) in called]
        if field == "reviewer":
            candidates = [name for name in candidates if name not in decisions]
        elif field == "approved" and not candidates:
            candidates = [name for name in free if name in decisions and fold_name(name) in REVIEW_COLUMNS["reviewer"]]
        exact = [name for name in candidates if fold_name(name) == called[0]]
        if len(candidates) > 1 and len(exact) != 1:
            doubtful[field] = candidates
        elif candidates:
            found[field] = exact[0] if exact else candidates[0]
    return found, doubtful


def decides(values: Iterable[Any]) -> bool:
    """Whether a column holds decisions, yes or no, and nothing else: one called 审核 may hold them, or who made them."""
    told = {text for value in values if (text := _decision(value))} - _NOBODY
    return bool(told) and told <= set(_DECISIONS)


def read_review(values: Mapping[str, Any], columns: Mapping[str, str], problems: list[str]) -> Review:
    """What people say of a row.

    Args:
        values: the cells of its columns ``reviewer``, ``approved`` and ``waive``, by field.
        columns: what these columns are called in the file.
        problems: gets a sentence for everything that cannot be meant.
    """
    named = _several(values.get("reviewer"), "reviewer", columns, problems)
    reviewers = [name for name in named if _decision(name) not in _NOBODY]
    if any(_decision(name) in _DECISIONS for name in reviewers):
        problems.append(
            say(
                "{column}: '{value}' is nobody's name. Write who looked at the row; a decision belongs into the column 'approved'.",
                column=columns["reviewer"],
                value=", ".join(reviewers),
            )
        )
    written = values.get("approved")
    decision = None if isinstance(written, dict | list) else _decision(written)
    if decision is None or (decision and decision not in _DECISIONS):
        problems.append(
            say(
                "{column}: '{value}' is no decision. There may stand yes, no, true, false, 1, 0, 是, 否, 通过, 不通过, ✓, x, or nothing.",
                column=columns["approved"],
                value=_text(written),
            )
        )
    waived = [
        name for cell in _several(values.get("waive"), "waive", columns, problems) for name in re.split(r"[\s,，、;；]+", cell) if name
    ]
    wrong = [name for name in waived if not _CHECK.fullmatch(name)]
    if wrong:
        problems.append(
            say(
                "{column}: '{value}' is no check's name. Write names such as hedging, separated by commas, or * for all.",
                column=columns["waive"],
                value=wrong[0],
            )
        )
    return Review("、".join(reviewers), _DECISIONS.get(decision or ""), tuple(dict.fromkeys(waived)))


def _text(value: Any) -> str:
    """A cell as people see it: 1, not 1.0 or True."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _decision(value: Any) -> str:
    return unicodedata.normalize("NFKC", _text(value)).strip().lower().replace("\ufe0f", "")


def _several(value: Any, field: str, columns: Mapping[str, str], problems: list[str]) -> list[str]:
    """The text of a cell, or the texts of a list in JSON."""
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, dict | list) for part in parts):
        problems.append(say("{field}: expected text, found a {kind}.", field=columns[field], kind=type(value).__name__))
        return []
    return [text for part in parts if (text := _text(part).strip())]
