# SPDX-License-Identifier: Apache-2.0
"""Numbers and days as a workbook shows them. What is written here in full is kept as it is stored; nothing is guessed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

# One number: what stands before, #,##0 with its decimals, what stands behind.
_PATTERN = re.compile(r"^(?P<before>[^#0?]*)(?P<digits>[#0?,]*[#0?])(?P<point>\.(?P<decimals>[0#?]*))?(?P<behind>[^#0?]*)$")
_TOKEN = re.compile(r'\[(?:h+|m+|s+)\]|y+|m+|d+|h+|s+(?:\.0+)?|a{3,4}|AM/PM|上午/下午|"[^"]*"|\\.|\[[^\]]*\]|[^"\\\[]', re.IGNORECASE)

# What Excel shows by the settings of the computer: its short date and that with a time, the long date, the time.
_BY_COUNTRY = ("mm-dd-yy", "m/d/yy h:mm")
_SYSTEM = re.compile(r"\[\$-(?:F800|F400|x-sysdate|x-systime)[^\]]*\]", re.IGNORECASE)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CHINESE_MONTHS = ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")
_CHINESE_DAYS = "一二三四五六日"


def cell_text(value: Any) -> str:
    """A value without a format as people see it: 12, not 12.0; a day without its midnight."""
    if value is None or value != value:  # NaN is how pandas writes an empty cell
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02d}" + (f":{seconds:02d}" if seconds else "")
    return str(value)


def as_shown(value: Any, code: str | None) -> str | None:
    """A cell as the workbook shows it on every computer; None where that depends on the country, or the format is not understood.

    >>> as_shown(0.15, "0%"), as_shown(12.5, '"¥"#,##0.00'), as_shown(datetime.datetime(2024, 5, 1), 'yyyy"年"m"月"d"日"')
    ('15%', '¥12.50', '2024年5月1日')
    >>> as_shown(datetime.date(2024, 5, 1), "[$-409]mmmm d, yyyy"), as_shown(datetime.date(2024, 5, 1), "mm-dd-yy")
    ('May 1, 2024', None)

    Args:
        code: its number format, as Excel writes it.
    """
    code = (code or "General").strip()
    if code in ("General", "@") or isinstance(value, bool) or value is None or isinstance(value, str):
        return cell_text(value)
    try:
        if isinstance(value, int | float):
            return _number(value, code) or None
        if isinstance(value, datetime.datetime | datetime.date | datetime.time | datetime.timedelta):
            return _time(value, code) or None
    except (ArithmeticError, ValueError, IndexError):
        return None
    return cell_text(value)


def _number(value: float, code: str) -> str | None:
    sections = code.split(";")
    section = sections[1] if value < 0 and len(sections) > 1 else sections[2] if value == 0 and len(sections) > 2 else sections[0]
    if value < 0 and len(sections) > 1:
        value = -value  # the section says how a minus is shown
    section = re.sub(r"\[\$([^\]-]*)(?:-[0-9A-Fa-f]+)?\]", r'"\1"', section)  # [$¥-804]
    section = re.sub(r"\[(?:Red|Black|Blue|Green|White|Yellow|Magenta|Cyan|Color ?\d+|红色|DBNum\d)\]", "", section, flags=re.IGNORECASE)
    section = re.sub(r"_.|\*.", "", section)  # the width of a character, and one that fills the cell
    literals: list[str] = []

    def keep(match: re.Match[str]) -> str:
        literals.append(match[1] if match[1] is not None else match[2])
        return chr(0xE000 + len(literals) - 1)

    plain = re.sub(r'"([^"]*)"|\\(.)', keep, section)
    match = _PATTERN.match(plain)
    if match is None or re.search(r"[A-Za-z\[\]/]", plain):
        return None
    percent = plain.count("%")
    thousands = match["digits"].endswith(",") or match["behind"].startswith(",")
    if thousands:
        return None  # scaled by a thousand
    decimals = match["decimals"] or ""
    number = (Decimal(repr(value)) * 100**percent).quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
    text = f"{number:,f}" if "," in match["digits"] else f"{number:f}"
    whole, _, fraction = text.partition(".")
    while decimals and fraction and decimals[len(fraction) - 1] in "#?" and fraction[-1] == "0":
        fraction = fraction[:-1]
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    whole = whole.zfill(match["digits"].count("0")) if "," not in match["digits"] else whole
    if whole == "0" and "0" not in match["digits"]:
        whole = ""
    made = sign + match["before"] + whole + (f".{fraction}" if fraction else "") + match["behind"]
    return re.sub(r"[\ue000-\uf8ff]", lambda m: literals[ord(m[0]) - 0xE000], made).strip()


def _time(value: Any, code: str) -> str | None:
    """A day or a time by its pattern, if the pattern shows the same everywhere: digits with 年, -, /, . or :, or names of a language."""
    if code.lower() in _BY_COUNTRY or _SYSTEM.search(code):
        return None
    section = re.sub(r"^(?:\[\$[^\]]*\]|\[DBNum\d\])+", "", code.split(";")[0])
    names = _names(code)
    tokens = [token for token in _TOKEN.findall(section)]
    if any(token.lower() in ("general", "@") or token in "#0?%" for token in tokens) or "DBNum" in code:
        return None
    if isinstance(value, datetime.timedelta):
        seconds = round(value.total_seconds())
    else:
        clock = value if isinstance(value, datetime.datetime | datetime.time) else datetime.time()
        seconds = clock.hour * 3600 + clock.minute * 60 + clock.second
    half = any(token.upper() in ("AM/PM", "上午/下午") for token in tokens)
    if isinstance(value, datetime.datetime) and seconds == 0 and section.lower().startswith("yyyy-mm-dd h"):
        return cell_text(value)  # what Excel and openpyxl put by themselves
    made = []
    for place, token in enumerate(tokens):
        named = names.get(token.lower()) if isinstance(value, datetime.date) else None
        minute = token.lower() in ("m", "mm") and _is_minute(tokens, place)
        made.append(named(value) if named else _part(value, token, seconds, half, minute))
    if any(part is None for part in made):
        return None
    return "".join(part for part in made if part is not None).strip()


def _names(code: str) -> Mapping[str, Callable[[datetime.date], str]]:
    """How the language that a format names writes months and days of the week; nothing where it names none."""
    told = re.search(r"\[\$[^\]-]*-([0-9A-Za-z-]+)\]", code)
    if told is None:
        return {}
    language = told[1].lower()
    number = int(language, 16) & 0xFFFF if re.fullmatch(r"[0-9a-f]+", language) else 0
    if number in (0x0409, 0x0809, 0x0C09, 0x1009) or language.startswith("en-"):
        return {
            "mmmm": lambda day: _MONTHS[day.month - 1], "mmm": lambda day: _MONTHS[day.month - 1][:3],
            "mmmmm": lambda day: _MONTHS[day.month - 1][0],
            "dddd": lambda day: _DAYS[day.weekday()], "ddd": lambda day: _DAYS[day.weekday()][:3],
        }  # fmt: skip
    if number == 0x0804 or language == "zh-cn":
        return {
            "mmmm": lambda day: f"{_CHINESE_MONTHS[day.month - 1]}月",
            "dddd": lambda day: f"星期{_CHINESE_DAYS[day.weekday()]}", "aaaa": lambda day: f"星期{_CHINESE_DAYS[day.weekday()]}",
            "ddd": lambda day: f"周{_CHINESE_DAYS[day.weekday()]}", "aaa": lambda day: _CHINESE_DAYS[day.weekday()],
        }  # fmt: skip
    return {}


def _is_minute(tokens: list[str], place: int) -> bool:
    """Whether an ``m`` stands for minutes: after hours, or before seconds."""
    units = [(i, t.lower().strip("[]")[0]) for i, t in enumerate(tokens) if re.match(r"\[?[ymdhs]", t, re.IGNORECASE)]
    at = next((n for n, (i, _) in enumerate(units) if i == place), None)
    return at is not None and ((at > 0 and units[at - 1][1] == "h") or (at + 1 < len(units) and units[at + 1][1] == "s"))


def _part(value: Any, token: str, seconds: int, half: bool, minute: bool) -> str | None:
    low = token.lower()
    if token.startswith('"'):
        return token[1:-1]
    if token.startswith("\\"):
        return token[1:]
    if low in ("am/pm", "上午/下午"):
        first, second = token.split("/")
        return second if seconds % 86400 >= 43200 else first
    if low in ("[h]", "[hh]"):
        return str(seconds // 3600).zfill(len(low) - 2)
    if low in ("[m]", "[mm]"):
        return str(seconds // 60).zfill(len(low) - 2)
    if low in ("[s]", "[ss]"):
        return str(seconds).zfill(len(low) - 2)
    if low[0] in "ymd" and not minute and not isinstance(value, datetime.date):
        return None
    if low in ("yyyy", "yy", "yyy", "y"):
        return f"{value.year:04d}" if len(low) > 2 else f"{value.year % 100:02d}"
    if low in ("m", "mm"):
        return str((seconds // 60) % 60 if minute else value.month).zfill(len(low))
    if low in ("d", "dd"):
        return str(value.day).zfill(len(low))
    if low in ("h", "hh"):
        hour = (seconds // 3600) % 24
        return str(((hour + 11) % 12 + 1) if half else hour).zfill(len(low))
    if low in ("s", "ss"):
        return str(seconds % 60).zfill(len(low))
    return None if token[0] in "[ymdhsYMDHS" or (token.isascii() and token.isalpha()) else token
