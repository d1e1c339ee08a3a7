# SPDX-License-Identifier: Apache-2.0
"""What is printed bites neither the terminal nor the shell nor the spreadsheet."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata

import pytest

from loraforge.data import findings
from loraforge.errors import printable
from loraforge.terminal import UNSEEN, command, console, live, pasted, pasted_question, quoted, show, table

HOSTILE = (
    "$(touch X)", "`touch X`", "it's", 'say "x"', "!!", "a; touch X", "a | touch X", "a && touch X", "> X", "$HOME", "~", "*", "-rf", "--help",
    "“条款”‘乙’「丙」", "a\\", "%s %n", "#x", "", " ", "a\nb", "\n", "a\n", "\n\n-\n", "\ta\t", "\r\n", "\x1b[31m", "\x00"[:0], "\x07", "\x9b2J", "\u202eabc",
    "a\u2028b", "名\udcff", "{a,b}", "a\\nb", "${IFS}", "$'\\x41'", "é ä",
)  # fmt: skip
SHOW = "import os,sys,json;print(json.dumps([os.fsencode(word).hex() for word in sys.argv[1:]]))"


@pytest.mark.skipif(os.name == "nt", reason="of POSIX shells")
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_hands_on_the_words_and_obeys_nothing(shell, tmp_path):
    line = command(sys.executable, "-c", SHOW, *HOSTILE)
    done = subprocess.run([shell, "-c", line], capture_output=True, check=True, cwd=tmp_path)
    assert [bytes.fromhex(word) for word in json.loads(done.stdout)] == [os.fsencode(word) for word in HOSTILE]
    assert list(tmp_path.iterdir()) == [] and done.stderr == b""
    assert printable(line) == line  # so that what is shown is what is pasted


def test_words_that_need_no_quotes_have_none():
    assert command("loraforge", "eval", "output/legal", "--to", "peft") == "loraforge eval output/legal --to peft"


def test_powershell_obeys_nothing_in_single_quotes():
    # The language's rule (about_Quoting_Rules): literal but for a doubled quote, of which it knows five.
    for word in HOSTILE:
        line = quoted(word, windows=True)
        if line.startswith("'"):
            inner = line[1:-1]
            assert line.endswith("'") and re.fullmatch(
                r"(?:[^'\u2018\u2019\u201a\u201b]|(['\u2018\u2019\u201a\u201b])\1)*", inner, re.DOTALL
            ), line
            assert re.sub(r"(['\u2018\u2019\u201a\u201b])\1", r"\1", inner) == word
        else:
            assert line == word and re.fullmatch(r"[\w./\\:=+-]+", line)
    assert quoted(r"C:\Users\x", windows=True) == r"C:\Users\x" and quoted("a b", windows=True) == "'a b'"


@pytest.mark.parametrize("question", [word for word in HOSTILE if word.strip()])
def test_a_question_is_one_word_and_no_option(question):
    *before, word = pasted_question(question, windows=False)
    assert word.split() == question.split() and "\n" not in word
    assert before == (["--"] if word.startswith("-") else [])
    assert not set('"&|<>^%') & set(pasted_question(question, windows=True)[-1])  # pasted into cmd.exe all the same


def test_a_path_never_becomes_an_option(tmp_path):
    from pathlib import Path

    assert shlex.split(command("loraforge", "eval", Path("-rf"))) == ["loraforge", "eval", "./-rf"]


def test_what_a_terminal_obeys_is_shown_as_its_number():
    text = "".join(map(chr, range(0x3000))) + "\udcff\U0001f600"
    shown = printable(text)
    for sign in shown:
        assert unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp") or sign in "\n\t"
        assert unicodedata.bidirectional(sign) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert "\\u001b" in shown and "\\u009b" in shown and "\\u202e" in shown and "\\udcff" in shown and "\U0001f600" in shown
    assert json.loads(printable(json.dumps(text[:0xD00], ensure_ascii=False))) == text[:0xD00]
    assert printable("a\r\nb\tc 中文 é") == "a\nb\tc 中文 é"


def test_the_console_shows_and_obeys_only_its_own_colours(capsys):
    from rich.table import Table
    from rich.text import Text

    out = console(force_terminal=True, color_system="standard")
    table = Table()
    table.add_column("\x1b]0;x\x9b")
    table.add_row("cell\x1b[2J\u202e")
    for one in ("[red]a\x1b[31mb[/red]", Text("t\x1b[0m\x9b"), table):
        out.print(one)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "\x1b" not in shown and "\x9b" not in shown and "\u202e" not in shown and "a\\u001b[31mb" in shown


def test_no_cell_is_a_formula_behind_what_is_not_seen():
    # Unicode's own classes: everything that is blank or has no glyph. The marks of category Cf that stand before digits are seen.
    seen = {
        "\u0600",
        "\u0601",
        "\u0602",
        "\u0603",
        "\u0604",
        "\u0605",
        "\u06dd",
        "\u070f",
        "\u0890",
        "\u0891",
        "\u08e2",
        "\U000110bd",
        "\U000110cd",
    }
    blank = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) in ("Cc", "Cf", "Zs", "Zl", "Zp") and c not in seen]
    blank += list("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2065\u2800\u3164\ufe00\ufe0f\uffa0\U000e0100")
    assert [hex(ord(c)) for c in blank if not re.fullmatch(f"[{UNSEEN}]", c)] == []
    for c in blank:
        for sign in "=+-@＝":
            assert findings.harmless(f"{c}{sign}1").startswith("'") or c in "\t\r\n", hex(ord(c))
    assert not re.search(f"[{UNSEEN}]", "aÀ中、。＝٣😀")
    assert findings.harmless("\u200b\ufeff =1;\u200b@x") == "'\u200b\ufeff =1;'\u200b@x" and findings.harmless("a\u200b=1") == "a\u200b=1"


def hostile(path):
    """A report of a finding whose every text is a stranger's."""
    evil = "\x1b[31m\x9b\u202e=1\x00\udcff"
    found = [findings.PlacedFinding("check", "error", (f"{evil}:3",), f"{evil} m", f"{evil} x", "w1")]
    findings.write_report(found, path, f"title {evil}")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["csv", "html"])
def test_reports_show_what_is_hidden_in_rows_and_names(tmp_path, kind):
    text = hostile(tmp_path / f"r.{kind}")
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e]", text) and "\\u001b[31m" in text and "\\udcff" in text
    two = [findings.PlacedFinding("check", "error", ("a:1", "a:2"), "m", "<b>", "w1")]
    findings.write_report(two, tmp_path / "two.html", "t")
    page = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert "a:1<br>a:2" in page and "&lt;b&gt;" in page


def test_the_first_few_names_say_whether_there_are_more():
    from loraforge import first_few

    assert first_few([]) == "" and first_few(list("abcde")) == "a, b, c, d, e"
    assert first_few(list("abcdef")) == "a, b, c, d, e ..." and first_few(list("abc"), 2, "; ") == "a; b ..."


# --- what fits a terminal --------------------------------------------------------------------------------------------------------

PATH = "/srv/Akten/Mandant-001/Vorgang-17/Anlagen/config.yaml"


def printed(width, *rows, heads=("run", "what it does", "loss"), terminal=True):
    out = io.StringIO()
    table(console(file=out, force_terminal=terminal, width=width, color_system=None), heads, rows)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_table_that_fits_is_a_table():
    assert printed(80, ("output/a", "one", "1.0"), ("output/bcd", "", "12.5")) == [
        "run         what it does  loss", "output/a    one           1.0", "output/bcd                12.5",
    ]  # fmt: skip


def test_the_sentences_of_a_table_are_wrapped_and_names_stay_whole():
    lines = printed(50, ("output/mine", "It says a lot of things, " * 4, "+1.0 [-2.0, +3.0]"))
    assert all(len(line) <= 50 for line in lines) and len(lines) > 4
    assert lines[0].startswith("run") and lines[1].startswith("output/mine  It says") and lines[1].endswith("+1.0 [-2.0, +3.0]")


def test_a_table_without_room_becomes_blocks():
    lines = printed(40, (PATH, "It says a lot.", "1.0"), ("b", "", "2.0"))
    assert lines == [PATH, "  what it does: It says a lot.", "  loss: 1.0", "b", "  loss: 2.0"]
    chinese = printed(20, ("output/很长的名称", "完成", "1.0"), heads=("训练", "状态", "损失"))
    assert chinese == ["output/很长的名称", "  状态：完成", "  损失：1.0"]


def test_a_table_in_a_pipe_keeps_its_lines():
    assert printed(40, (PATH, "It says a lot of things, " * 9, "1.0"), terminal=False)[1].startswith(PATH)


def test_rows_may_be_shorter_than_their_heads_and_hold_markup():
    assert printed(80, ("[INST]", "x"))[1] == "[INST]  x"


@pytest.mark.parametrize("words", [{"style": "red"}, {"markup": False}, {}])
def test_text_on_a_terminal_is_broken_at_words(words):
    out = io.StringIO()
    shown = console(file=out, force_terminal=True, width=30, color_system=None)
    shown.print(f"  see {PATH} and then go on reading here", **words)
    assert PATH in out.getvalue() and max(len(line) for line in out.getvalue().splitlines() if PATH not in line) <= 30
    out.truncate(0)
    pasted(shown, "loraforge sample " + "word " * 20)
    assert "loraforge sample " + "word " * 20 in out.getvalue()


def test_colours_are_off_where_they_are_not_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    console(file=out, force_terminal=True).print("[bold red]x[/bold red]", style="dim")
    assert out.getvalue() == "x\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"CI": "true"}, False), ({"CI": "1"}, False), ({"CI": "false"}, True), ({"TERM": "dumb"}, False)],
)
def test_lines_are_drawn_anew_only_before_somebody(monkeypatch, variables, expected):
    for name in ("CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert live(console(file=io.StringIO(), force_terminal=True)) is expected
    assert not live(console(file=io.StringIO()))


@pytest.mark.parametrize("tty", [True, False])
def test_shown_lines_fit_a_terminal_and_json_stays_json(monkeypatch, capsys, tty):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty)
    monkeypatch.setenv("COLUMNS", "30")
    show(f"see {PATH} and then go on reading what is written here")
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines) > 2 and PATH in lines) if tty else len(lines) == 1
    for value in ({"a": "word " * 30}, ["word " * 30], {}, [], [1]):
        for indent in (None, 2):
            show(json.dumps(value, indent=indent))
            assert capsys.readouterr().out == json.dumps(value, indent=indent) + "\n" or value == [1]
