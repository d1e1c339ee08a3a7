# SPDX-License-Identifier: Apache-2.0
"""A page and its Chinese page say the same: piece by piece, whatever does not depend on the language is compared.

A piece is a heading, a paragraph, an entry of a list, a cell of a table or a block of code. Both pages have the same kinds of pieces in
the same order, and each piece has the same figures, words in code type, links, and bold or slanted passages as its counterpart. In blocks, code is
equal to the character; comments, and lines that a program prints, may be in Chinese, with the same figures and names. So whoever changes
one page alone is told which piece of the other one to change.

Figures count where they stand in digits: "five" is 五, "5" is 5, "4 billion" is 40 亿 and "May 2, 2024" is 2024 年 5 月 2 日.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from builders import ROOT
from markdown_it import MarkdownIt

ENDING = ".zh-CN.md"
PAIRS = sorted(page.with_name(page.name.removesuffix(ENDING) + ".md") for page in [*ROOT.glob("*" + ENDING), *ROOT.glob("docs/*" + ENDING)])
READ = [
    "audit",
    "cli",
    "config",
    "configs",
    "data-checks",
    "deploy",
    "lora-files",
    "optimizers",
    "reliability",
    "security",
    "serve",
    "studio",
]
READ += ["train-image", "train-text", "trust", "webui"]
HELPS = {"cli.md", "config.md"}  # docs/generate.py writes them from the code, in both languages
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "megapixels": 10**6, "万": 10**4, "亿": 10**8}
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass
class Piece:
    """One piece of a page: what it is, where it stands, and what of it does not depend on the language."""

    kind: str
    line: int
    text: str = ""
    figures: Counter[float] = field(default_factory=Counter)
    code: Counter[str] = field(default_factory=Counter)
    links: list[tuple[str, int | None]] = field(default_factory=list)
    marks: Counter[str] = field(default_factory=Counter)


def figures(text: str) -> Counter[float]:
    """The numbers in a text as values, thousands and millions multiplied, months by their number."""
    months = "|".join(MONTHS)
    text = re.sub(rf"(\d+ )({months})\b|\b({months})( \d+)", lambda m: f"{m[1] or ''}{MONTHS.index(m[2] or m[3]) + 1}{m[4] or ''}", text)
    found = re.findall(rf"({NUMBER})(?:[ -]?({'|'.join(SCALES)}))?", text)
    return Counter(float(Decimal(number.replace(",", "")) * SCALES.get(scale, 1)) for number, scale in found)


@cache
def tokens(page: Path) -> list:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> list[str]:
    """The anchors that GitHub gives to a page's headings, in their order."""
    all_tokens = tokens(page)
    titles = [all_tokens[i + 1] for i, token in enumerate(all_tokens) if token.type == "heading_open"]
    plain = ["".join(child.content for child in title.children) for title in titles]
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain]


def link(page: Path, target: str) -> tuple[str, int | None]:
    """Where a link leads in either language: the file, and which heading of it, counted from the first."""
    if re.match(r"\w+:", target):
        return target, None
    name, _, anchor = unquote(target).partition("#")
    file = (page.parent / name).resolve() if name else page
    where = anchors(file).index(anchor) if anchor else None  # a heading that is not there is a dead link
    return os.path.relpath(file.with_name(file.name.replace(ENDING, ".md")), page.parent), where


def pieces(page: Path) -> list[Piece]:
    """The pieces of a page, without the line that leads to the other language."""
    found: list[Piece] = []
    around: list[str] = []
    for token in tokens(page):
        if token.nesting == 1:
            around.append(token.tag)
        elif token.nesting == -1:
            around.pop()
        elif token.type == "fence":
            found.append(Piece("/".join([*around, f"```{token.info}"]), token.map[0] + 1, token.content))
        elif token.type == "inline":
            piece = Piece("/".join(around), (token.map or [0])[0] + 1)
            for child in token.children:
                if child.type == "code_inline":
                    piece.code[child.content] += 1
                elif child.type == "link_open":
                    piece.links.append(link(page, child.attrs["href"]))
                elif child.type == "image":
                    piece.links.append(link(page, child.attrs["src"]))
                elif child.nesting:
                    piece.marks[child.tag] += child.nesting == 1
                else:
                    piece.text += " " if child.type == "softbreak" else child.content
            piece.links.sort(key=str)
            piece.figures = figures(piece.text)
            found.append(piece)
    return [piece for piece in found if piece.text not in ("中文", "English")]


def code_and_comment(line: str, language: str) -> tuple[str, str]:
    """A line of a block as what a program reads, and the rest, which is for people."""
    if language in ("yaml", "sh", "py", "python", "toml", "ini", "text", ""):
        code, mark, comment = line.partition("#") if line.startswith("#") else line.partition("  #")
        return code.rstrip(), mark and comment
    return line, ""


def names(line: str) -> Counter[str]:
    """What a program's output names: options, paths, files and keys."""
    return Counter(
        re.findall(
            r"--[a-z][\w-]+|[\w.~-]*[/\\_=][\w./\\=~-]*[\w/]|\b\w+\.(?:csv|html|jsonl?|md|png|safetensors|txt|yaml)\b", line, re.ASCII
        )
    )


def unlike(english: str, chinese: str, language: str) -> list[str]:
    """The lines of a block that do not correspond."""
    ours, theirs = english.splitlines(), chinese.splitlines()
    if len(ours) != len(theirs):
        return [f"{len(ours)} lines against {len(theirs)}"]
    wrong = []
    for one, other in zip(ours, theirs, strict=True):
        (code, comment), (code2, comment2) = code_and_comment(one, language), code_and_comment(other, language)
        printed = language in ("text", "") and CHINESE.search(code2) is not None
        equal = code == code2 or (printed and figures(code) == figures(code2) and not names(code) - names(code2))
        if not equal or bool(comment) != bool(comment2) or figures(comment) != figures(comment2):
            wrong.append(f"{one!r} against {other!r}")
    return wrong


def differences(english: Path) -> list[str]:
    """What one of two pages says and the other does not, each with the lines where it stands."""
    chinese = english.with_name(english.stem + ENDING)
    ours, theirs = pieces(english), pieces(chinese)
    found = []
    for one, other in zip(ours, theirs, strict=False):
        where = f"{english.name}:{one.line} and {chinese.name}:{other.line}"
        if one.kind != other.kind:
            return [*found, f"{where}: {one.kind} against {other.kind}; what follows was not compared"]
        if "```" in one.kind:
            found += [f"{where}: {line}" for line in unlike(one.text, other.text, one.kind.partition("```")[2])]
            continue
        for what in ("figures", "code", "links", "marks"):
            if getattr(one, what) != getattr(other, what):
                here, there = Counter(getattr(one, what)), Counter(getattr(other, what))
                found.append(f"{where}: {what}: only here {list((here - there).elements())}, only there {list((there - here).elements())}")
    if len(ours) != len(theirs):  # all that follows the piece that one lacks is unlike, too
        return [*found[:1], f"{english.name} has {len(ours)} pieces, {chinese.name} {len(theirs)}"]
    return found


ENGLISH = "# Loss\n\n[中文](p.zh-CN.md)\n\nOn May 2, 2024 it was 7.5 in **2** of 4 thousand runs with `lr`.\n\n| a | b |\n|---|---|\n| 1 | x |\n\n"
ENGLISH += "```yaml\nlr: 1e-4  # or 2e-4\n```\n\n```text\n3 rows in d.csv\n  loraforge runs\n```\n"
CHINESE_PAGE = (
    "# 损失\n\n[English](p.md)\n\n2024 年 5 月 2 日，设 `lr` 的 4000 次里有 **2** 次是 7.5。\n\n| 甲 | 乙 |\n|---|---|\n| 1 | 某 |\n\n"
)
CHINESE_PAGE += "```yaml\nlr: 1e-4  # 或 2e-4\n```\n\n```text\nd.csv 有 3 行\n  loraforge runs\n```\n"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("", "", None),
        ("7.5", "7.6", "figures"),
        ("`lr`", "`rate`", "code"),
        ("**2**", "2", "marks"),
        ("| 1 | x |\n", "", "against table"),
        ("# Loss", "## Loss", "h2 against h1"),
        ("```yaml", "More.\n\n```yaml", "against ```yaml"),
        ("lr: 1e-4", "lr: 1e-5", "1e-5"),
        ("or 2e-4", "or 3e-4", "3e-4"),
        ("3 rows", "4 rows", "4 rows"),
        ("d.csv", "e.csv", "e.csv"),
        ("loraforge runs", "loraforge list", "loraforge list"),
    ],
)
def test_a_change_of_one_page_alone_is_told(before, after, told, tmp_path):
    (tmp_path / "p.md").write_text(ENGLISH.replace(before, after) if before else ENGLISH, encoding="utf-8")
    (tmp_path / "p.zh-CN.md").write_text(CHINESE_PAGE, encoding="utf-8")
    found = differences(tmp_path / "p.md")
    assert (found == []) if told is None else any(told in line for line in found), found


def test_every_page_that_users_read_is_there_in_chinese():
    assert [name for name in READ if not (ROOT / "docs" / (name + ENDING)).is_file()] == []


@pytest.mark.parametrize("page", [page for page in PAIRS if page.name not in HELPS], ids=lambda page: page.name)
def test_a_page_and_its_chinese_page_say_the_same(page):
    assert differences(page) == []


@pytest.mark.parametrize("page", PAIRS, ids=lambda page: page.name)
def test_the_two_pages_lead_to_each_other_and_chinese_ones_to_chinese_ones(page):
    chinese = page.with_name(page.stem + ENDING)
    assert page.read_text(encoding="utf-8").splitlines()[2] == f"[中文]({chinese.name})"
    lines = chinese.read_text(encoding="utf-8").splitlines()
    assert lines[2] == f"[English]({page.name})"
    for target in re.findall(r"\]\(([^)#\s]+\.md)[^)]*\)", "\n".join(lines[3:])):
        file = chinese.parent / target
        assert target.endswith(ENDING) or target.startswith("http") or not file.with_name(file.stem + ENDING).exists(), target


@pytest.mark.parametrize("page", [page for page in PAIRS if page.name not in HELPS], ids=lambda page: page.name)
def test_nothing_is_left_in_english(page):
    left = [p for p in pieces(page.with_name(page.stem + ENDING)) if "```" not in p.kind and not CHINESE.search(p.text)]
    assert [f"{p.line}: {p.text}" for p in left if len(re.findall(r"\b[a-z]{2,}\b", p.text)) > 5 and "td" not in p.kind] == []
