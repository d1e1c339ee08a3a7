# SPDX-License-Identifier: Apache-2.0
"""Why a value of a key was not taken, in plain words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from ..messages import language, speaker
from .other_trainers.refused import refused, share_hint
from .slips import number_meant
from .yaml_reader import Source

say = speaker(__name__)


# What people who write the keys in Chinese call them.
_CHINESE = {
    **dict.fromkeys(("学习率", "學習率"), "learning_rate"),
    **dict.fromkeys(("轮数", "训练轮数", "轮次", "輪數", "训练轮次"), "epochs"),
    **dict.fromkeys(("步数", "最大步数", "训练步数", "步數"), "max_steps"),
    **dict.fromkeys(("批次大小", "批大小", "批量大小", "批量", "批次"), "batch_size"),
    **dict.fromkeys(("秩", "网络维度", "維度", "维度"), "lora_rank"),
    **dict.fromkeys(("底模", "基座模型", "基础模型", "底座模型", "模型", "模型路径"), "base_model"),
    **dict.fromkeys(("数据", "数据集", "数据目录", "训练数据", "训练数据目录", "資料夾"), "train_data_dir"),
    **dict.fromkeys(("输出", "输出目录", "输出文件夹", "輸出目錄"), "output_dir"),
    **dict.fromkeys(("随机种子", "种子", "隨機種子"), "seed"),
    **dict.fromkeys(("精度", "训练精度"), "precision"),
    **dict.fromkeys(("优化器", "優化器"), "optimizer"),
    **dict.fromkeys(("预热", "预热步数", "预热比例"), "warmup"),
    **dict.fromkeys(("验证集比例", "验证比例", "留出比例"), "eval_ratio"),
    **dict.fromkeys(("系统提示", "系统提示词"), "system_prompt"),
    **dict.fromkeys(("最大长度", "最大序列长度", "截断长度"), "max_seq_length"),
    **dict.fromkeys(("分辨率", "解析度"), "resolution"),
    **dict.fromkeys(("触发词", "觸發詞"), "trigger_word"),
}


def plain(value: Any) -> str:
    """A value as people write it: quoted text, 0.0002, true."""
    if isinstance(value, str | list | dict):
        text = repr(value)
        return text if len(text) <= 300 else f"{text[:300]}..."
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    return str(value)


def did_you_mean(word: str, known: Iterator[str] | Mapping[str, Any] | Sequence[str], cutoff: float = 0.6) -> str:
    """`` Did you mean 'x'?`` with a leading space, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return say(" Did you mean '{word}'?", word=close[0]) if close else ""


def unknown_key(key: str, value: object, known: Mapping[str, Any], aliases: Mapping[str, str]) -> str:
    """What was probably meant by a key that there is not, with a leading space, or nothing.

    Args:
        aliases: other programs' names, each with ours.
    """
    if isinstance(value, dict) or (isinstance(value, list) and value and all(isinstance(part, dict) for part in value)):
        return say(" The file is flat: write what stands below '{key}' at the left margin, and leave '{key}:' out.", key=key)
    ours = _CHINESE.get(key.strip())
    if ours in known:
        return say(" Did you mean '{word}'?", word=ours)
    close = difflib.get_close_matches(key, [*known, *aliases], n=1, cutoff=0.8 if len(key) > 6 else 0.7)
    return say(" Did you mean '{word}'?", word=aliases.get(close[0], close[0])) if close else ""


def label(source: Source, key: str) -> str:
    """A key as it is called in an error: with the name that the user wrote, where that is another."""
    value = source.values.get(key)
    return f"{key} ('{value.written}')" if value is not None and value.written else key


def broken_rule(detail: Mapping[str, Any]) -> str:
    """What a value must be, of one of pydantic's errors."""
    context = detail.get("ctx", {})
    rules: dict[str, Callable[[], str]] = {
        "greater_than_equal": lambda: say("must be {bound} or more", bound=plain(context["ge"])),
        "greater_than": lambda: say("must be more than {bound}", bound=plain(context["gt"])),
        "less_than_equal": lambda: say("must be {bound} or less", bound=plain(context["le"])),
        "less_than": lambda: say("must be less than {bound}", bound=plain(context["lt"])),
        "int_parsing": lambda: say("must be a whole number"),
        "int_from_float": lambda: say("must be a whole number"),
        "int_type": lambda: say("must be a whole number"),
        "float_parsing": lambda: say("must be a number"),
        "float_type": lambda: say("must be a number"),
        "finite_number": lambda: say("must be a finite number"),
        "bool_parsing": lambda: say("must be true or false"),
        "bool_type": lambda: say("must be true or false"),
        "string_type": lambda: say("must be text"),
        "list_type": lambda: say("must be a list, like [a, b]"),
        "dict_type": lambda: say("must be a list of 'name: value' lines"),
        "too_long": lambda: say("must have {n} entries or fewer", n=context["max_length"]),
        "too_short": lambda: say("must have {n} entries or more", n=context["min_length"]),
        "string_too_long": lambda: say("must have {n} characters or fewer", n=context["max_length"]),
        "string_too_short": lambda: say("must have {n} characters or more", n=context["min_length"]),
        "literal_error": lambda: say("must be one of {choices}", choices=str(context.get("expected", "")).replace(" or ", ", ")),
        "value_error": lambda: str(context.get("error", detail["msg"])),
    }
    # Whatever else pydantic may say is told in its own words, which are English.
    other = (lambda: str(detail["msg"])) if language() == "en" else lambda: say("is no value that can stand here")
    return rules.get(detail["type"], other)()


def explain(source: Source, key: str, help_text: str, detail: Mapping[str, Any], info: FieldInfo | None = None) -> str:
    """One validation error of pydantic's, with its place and the key's help."""
    context = detail.get("ctx", {})
    got = detail.get("input")
    kind = detail["type"]
    if kind == "missing":
        return say("{file}: '{key}' is missing. {help}", file=source.path, key=key, help=help_text)
    where = source.values[key].where if key in source.values else str(source.path)
    rule = broken_rule(detail)
    line = say(
        "{where}: {key}: {rule}; got {got}. ({help})", where=where, key=label(source, key), rule=rule, got=plain(got), help=help_text
    )
    instead = refused(info, plain(got).strip("'"))
    if not instead and kind in ("less_than", "less_than_equal"):
        instead = share_hint(got, context.get("le", context.get("lt")))
    return line + (instead or _better(key, kind, got, context))


def _better(key: str, kind: str, got: Any, context: Mapping[str, Any]) -> str:
    """The line that was probably meant, with a leading space, or nothing."""
    meant = ""
    if kind == "int_from_float" and isinstance(got, float) and got >= 1:
        meant = str(round(got))
    elif kind in ("int_parsing", "float_parsing", "int_from_float"):
        meant = number_meant(got)
    elif kind == "list_type" and isinstance(got, str) and got.strip():
        meant = f"[{', '.join(part.strip() for part in re.split('[,，、;；]', got) if part.strip())}]"
    elif kind == "literal_error" and isinstance(got, str):
        choices = re.findall("'([^']*)'", str(context.get("expected", "")))
        same = [choice for choice in choices if re.sub("[-_ ]", "", choice).casefold() == re.sub("[-_ ]", "", got).casefold()]
        if not same:
            return did_you_mean(got, choices)
        meant = same[0]
    return say(" Write {line}", line=f"{key}: {meant}") if meant else ""
