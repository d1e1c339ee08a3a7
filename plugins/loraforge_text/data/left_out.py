# SPDX-License-Identifier: Apache-2.0
"""Columns that may say which rows are not to be learned, where nobody knows whether they do: the run stops until it is said."""

from __future__ import annotations

from collections.abc import Sequence

from loraforge import DataError, fold_name, speaker

from .columns import SYNONYMS
from .conversations import MASKS, number_of
from .readers.number_formats import cell_text
from .readers.rows import Row

say = speaker(__name__)

# Rows so marked may be meant to be left out, or to be all that is learned.
_MARKS = frozenset(
    (*map(fold_name, MASKS),
     "ignored", "skipped", "excluded", "donottrain", "notrain", "use", "used", "usable", "keep", "include", "delete",
     *(f"{how}{word}" for how in ("", "is") for word in ("enabled", "disabled", "active", "inactive", "valid", "invalid", "deleted",
       "removed", "archived", "deprecated", "obsolete", "draft", "included")),
     "不训练", "不学习", "不参与训练", "屏蔽", "忽略", "跳过", "排除", "掩码", "训练", "学习",
     *(f"{how}{word}" for how in ("", "是否", "已") for word in ("启用", "停用", "禁用", "有效", "无效", "可用", "使用", "采用", "纳入",
       "保留", "删除", "作废", "废弃", "过期", "失效")))
)  # fmt: skip
# What a column of states is called, and states in which a row is hardly meant.
_STATES = frozenset(("status", "state", "状态", "数据状态", "有效状态", "记录状态", "题目状态", "问答状态"))
_OUT = frozenset(
    ("deleted", "removed", "archived", "deprecated", "obsolete", "draft", "disabled", "inactive", "invalid", "expired", "rejected", "void",
     "下线", "已下线", "下架", "已下架", "草稿",
     *(f"{how}{word}" for how in ("", "已") for word in ("作废", "废弃", "废止", "失效", "无效", "停用", "禁用", "删除", "过期")))
)  # fmt: skip


def refuse_marks(file: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Stops at a column that may say which rows are learned: one called mask, valid, 是否启用 or like another weight; a state such as 作废.

    Args:
        columns: those whose meaning is not known.

    Raises:
        DataError: with the lines to write.
    """
    for column in columns:
        called = fold_name(column)
        if called in _STATES:
            _refuse_state(file, column, rows)
        if called not in _MARKS and called not in map(fold_name, SYNONYMS["weight"]):
            continue
        told = {number_of(row.values[column]) for row in rows if row.problem is None and row.values.get(column) not in (None, "")}
        if told & {0, 1} and None not in told and (told != {1} or called not in SYNONYMS["weight"]):
            raise DataError(
                say(
                    "{file}: the column '{column}' may say which rows are not to be learned. Write columns: {{weight: {column}}} if 0, no "
                    'or false there means so, or columns: {{weight: ""}} if it means something else.',
                    file=file,
                    column=column,
                )
            )


def _refuse_state(file: str, column: str, rows: Sequence[Row]) -> None:
    states = [cell_text(row.values.get(column)).strip() for row in rows if not isinstance(row.values.get(column), dict | list)]
    out = [state for state in states if state.lower() in _OUT]
    if out:
        raise DataError(
            say(
                "{file}: the column '{column}' says '{state}' of {n} of {all} rows, and they would be learned like the others. Take them "
                'out of the file, or write columns: {{weight: ""}} to learn them all.',
                file=file,
                column=column,
                state=out[0],
                n=len(out),
                all=len(rows),
            )
        )
