"""What is printed bites neither the terminal nor the shell nor the spreadsheet."""

from __future__ import annotations

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
from loraforge.terminal import UNSEEN, command, console, pasted_question, quoted

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
