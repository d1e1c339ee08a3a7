# SPDX-License-Identifier: Apache-2.0
"""What keyboards, word processors and other programs do to YAML, said in place of what the parser makes of it."""

from __future__ import annotations

import re
import unicodedata

import yaml

from ..messages import speaker

say = speaker(__name__)

_ESCAPES = r'[0abt\tnvfre "/\\N_LP]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}'
_BAD_ESCAPE = re.compile(rf'^\s*([\w-]+)\s*:\s*"((?:[^"\\]|\\.)*?\\(?!{_ESCAPES})[^"]*|[^"]*\\)"\s*(?:#.*)?$')
# Of these a backslash can only be part of a path, even where it happens to be followed by a letter that YAML reads as an escape.
_WINDOWS_PATH = re.compile(r'^"(?:[A-Za-z]:|\.\.?|~)\\(?!\\)')
_SPACES = "\u00a0\u2000-\u200b\u2028\u3000\ufeff"
_QUOTES = {"“": "”", "‘": "’", "「": "」", "『": "』", "＂": "＂", "＇": "＇", "”": "”", "’": "’", "`": "`"}


def line_slips(text: str, name: str) -> list[str]:
    """What is odd about the lines of a file that is no YAML, each with its line: the parser names the line after it."""
    found = []
    equals = []
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        if re.match(r"\s*[A-Za-z_]+\s*：", line):
            found.append(say("{where}: has a full-width colon (：). Write an ordinary one and a space: 'key: value'.", where=where))
        elif slip := _BAD_ESCAPE.match(line):
            found.append(f"{where}: {_backslash(slip[1], slip[2])}")
        elif re.match(rf"\s*[A-Za-z_]+:[{_SPACES}]|[{_SPACES}]", line):
            found.append(f"{where}: {_odd_space()}")
        elif re.match(r"\s*[A-Za-z_]+:[^\s]", line) and "://" not in line:
            found.append(say("{where}: a space is missing after the colon: 'key: value'.", where=where))
        elif line.startswith("\t"):
            found.append(say("{where}: is not valid YAML: it begins with a tab. Use spaces, or nothing: the file is flat.", where=where))
        elif re.match(r"\s*(?:--)?[A-Za-z_][\w-]*\s*[=＝]|\s*\[[A-Za-z_]+\]\s*$|\s*--[a-z]", line):
            equals.append(where)
    if equals:
        found.append(
            say(
                "{where}: is not written as YAML ({n} lines are like this one). Write 'key: value' instead of 'key = value' "
                "or --key value, "
                "and no [sections].",
                where=equals[0],
                n=len(equals),
            )
        )
    return found


def parser_says(problem: str) -> str:
    """What PyYAML found, as somebody would say it who sees the file."""
    cannot_start = re.search(r"character '(.+?)' that cannot start any token", problem)
    if cannot_start:
        return say("the value begins with {character}, which means something in YAML; put it in quotes", character=cannot_start[1])
    rows = (
        (r"mapping values are not allowed", say("there is a second colon in the line; put the value in quotes")),
        (r"could not find expected ':'", say("there is a line without a colon; every line is 'key: value'")),
        (
            r"expected <block end>",
            say("the line is indented otherwise than those above, or goes on after a closing quote or bracket; put the value in quotes"),
        ),
        (r"unexpected end of stream", say("a quote is opened and not closed")),
        (r"expected ',' or", say("a bracket is opened and not closed, or a comma is missing in it")),
        (r"unknown escape character|expected escape sequence", say("a backslash in double quotes begins an escape; write single quotes")),
        (r"another document|a single document", say("there is a line of three dashes, and another document below it")),
        (
            r"undefined alias|anchor|occurrence|recursive",
            say("a value that begins with * or & stands for something else; put it in quotes"),
        ),
        (r"sequence entries are not allowed", say("a dash and a space begin a list where none can stand; put the value in quotes")),
        (r"mapping keys are not allowed", say("a question mark and a space mean something in YAML; put the value in quotes")),
        (r"unexpected document separator", say("a line of three dashes or dots stands inside of quotes")),
        (
            r"chomping|indentation indicator|a comment or a line break",
            say("| and > begin a text of several lines; put the value in quotes"),
        ),
        (r"directive|a digit|YAML document|document start", say("a line begins with %, or what stands above it was ended by three dots")),
        (r"node content", say("a value is missing after a dash, a comma or a bracket")),
        (r"unhashable key", say("a list or a group stands where a key belongs; every line is 'key: value'")),
        (
            r"URI|expected ' '|expected '[!>]'|alphabetic|tag|constructor|merging|mapping|scalar|sequence|class|module|name|base64",
            say("! and what follows it mean something in YAML; put the value in quotes"),
        ),
    )
    return next((said for words, said in rows if re.search(words, problem)), say("something is missing or left over in the line"))


def value_slip(key: str, node: yaml.Node, text: str) -> str:
    """What is odd about a value that is valid YAML but hardly what was meant; empty if nothing is."""
    if isinstance(node, yaml.SequenceNode):
        if node.flow_style and any(_joined(part) for part in node.value):
            return say("{key}: has a full-width comma (，). Write ordinary ones: [a, b].", key=key)
        return next((slip for part in node.value if (slip := value_slip(key, part, text))), "")
    if not isinstance(node, yaml.ScalarNode):
        return ""
    written = str(node.value)
    if re.match(rf"[{_SPACES}]", key) or (node.style is None and re.search(rf"^[{_SPACES}]|[{_SPACES}]$", written)):
        return _odd_space()
    if node.style is None and len(written) > 1 and _QUOTES.get(written[0]) == written[-1]:
        return say(
            "{key}: {value} stands in typographic quotes, which would be part of it. Write straight ones, or none: {better}",
            key=key,
            value=written,
            better=f'{key}: "{written[1:-1]}"',
        )
    raw = text[node.start_mark.index : node.end_mark.index] if node.style == '"' else ""
    return _backslash(key, raw[1:-1]) if _WINDOWS_PATH.match(raw) else ""


def _odd_space() -> str:
    return say("there is a space of another kind, which YAML does not know. Type an ordinary one.")


def _joined(node: yaml.Node) -> bool:
    """Whether a plain item of a list is several names with a full-width comma between them."""
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return plain and bool(re.fullmatch(r"[\w.*-]+(?:\s*[，、]\s*[\w.*-]+)+", str(node.value), re.ASCII))


def _backslash(key: str, written: str) -> str:
    return say(
        "{key}: in double quotes a backslash begins an escape (\\n is a new line). Write single quotes, {single}, or forward "
        "slashes: {slashes}",
        key=key,
        single=f"{key}: '{written}'",
        slashes=f"{key}: {written.replace(chr(92), '/')}",
    )


_NUMBER = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*(%|[^\W\d_]*)", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[,' _]\d{3})+(?:\.\d+)?(?!\d)")


def number_meant(written: object) -> str:
    """The number that a text such as ``５１２``, ``1,000``, ``512px`` or ``20%`` stands for, as YAML writes it; empty if unclear."""
    if not isinstance(written, str):
        return ""
    text = unicodedata.normalize("NFKC", written).strip().replace("−", "-")
    if grouped := _GROUPED.match(text):
        text = re.sub("[,' _]", "", grouped[0]) + text[grouped.end() :]
    elif re.fullmatch(r"[+-]?\d+,\d{1,2}", text):  # a decimal comma
        text = text.replace(",", ".")
    found = _NUMBER.fullmatch(text)
    if found is None or (text == written and not found[2]):
        return ""
    if found[2].lower() in ("e", "k", "w", "m", "g", "b", "x", "千", "万", "百万", "亿"):
        return ""  # a factor, not a unit
    return f"{float(found[1]) / 100:g}" if found[2] == "%" else found[1]
