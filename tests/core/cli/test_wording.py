# SPDX-License-Identifier: Apache-2.0
"""Help and usage errors are in the user's language, all of them; click's English is left nowhere in the Chinese."""

from __future__ import annotations

import ast
import gettext
import inspect
import os
import re
from pathlib import Path

import click
import pytest
from builders.commands import every_command, own_words
from click.testing import CliRunner
from rich.cells import cell_len

from loraforge.cli.main import cli
from loraforge.cli.wording import Pages, PagesContext, clicks_words, localised
from loraforge.wrapping import lines

COMMANDS = list(every_command())
SLIPS = [
    (("trian",), "trian"), (("check",), "任务"), (("check", "text"), "配置文件"), (("check", "--shwo", "1", "text", "c.yaml"), "--show"),
    (("check", "text", "c.yaml", "--show", "-1"), "-1"), (("check", "text", "c.yaml", "--show", "x"), "'x'"), (("export", "r"), "--to"),
    (("check", "text", "c.yaml", "extra"), "extra"), (("check", "text", "c.yaml", "a", "b"), "a b"), (("completion", "zish"), "'bash'"),
    (("check", "text", "c.yaml", "--set"), "--set"), (("--bad",), "--bad"), (("check", "--json=1", "text", "c.yaml"), "--json"),
    (("train", "text", "c.yaml", "--resume", "--fresh"), "--fresh"),
]  # fmt: skip


def english(text: str) -> list[str]:
    """Pieces of English sentences: three words of small letters in a row that are no key, option, path or example."""
    text = re.sub(r'"\$\(.*?\)"|`[^`]*`|\[[a-z0-9|]+\]|^ +loraforge .*$', "", text, flags=re.MULTILINE)
    text = re.sub(r"loraforge(?: [a-z]+)*", "", text)
    text = re.sub(r"[\w.-]*[/\\{}_=<>][\w./\\{}=<>-]*|--?[\w-]+|https?:\S+|\S+\.\w+", "", text)
    names = r"(?:Stable Diffusion|Hugging Face|Qwen|Transformers|diffusers|transformers|serve|kohya|Studio)"
    return re.findall(r"\b[A-Za-z]+(?: [a-z]+){2,}", re.sub(names, "", text)) + re.findall(
        r"\b(?:INTEGER|TEXT|FLOAT|PATH|RANGE|OPTIONS|COMMAND|ARGS|default|required|Show|Usage|Error)\b", text
    )


def page(path: tuple[str, ...], width: int = 80) -> str:
    return CliRunner().invoke(cli, [*path, "--help"], prog_name="loraforge", terminal_width=width).output


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=lambda path: " ".join(path) or "loraforge")
def test_no_english_is_left_in_a_chinese_page(path, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    said = page(path)
    assert said.startswith("用法：loraforge") and "选项：" in said and "显示这份说明后退出。" in said
    assert not english(said)


def test_what_counts_as_english():
    assert english("  --json  Print JSON and nothing else.") and english("[default: 1]") and english("  --out PATH  写到这里。")
    assert not english("  --set 键=值  用 `loraforge list` 代替 output_dir/x.yaml 里的值。 [bash|zsh]")


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=lambda path: " ".join(path) or "loraforge")
def test_pages_fit_and_nothing_is_cut(path, language, width, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", language)
    monkeypatch.setenv("COLUMNS", str(width))
    said = page(path, width)
    examples = [line for line in said.splitlines() if line.startswith("    loraforge ")]
    assert all(cell_len(line) <= width or len(lines(line, width)) == 1 or line in examples for line in said.splitlines())
    assert not re.search(r"\S .*[\w:]\.\.\.$", said.partition("\n\n")[2], re.MULTILINE)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_list_of_commands_says_whole_sentences(language, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", language)
    said = " ".join(page(()).split())
    for path, command in COMMANDS:
        if len(path) == 1:
            short = localised(command).short_help
            assert short.endswith((".", "。", '".', '"。')) and "".join(short.split()) in said.replace(" ", "")


def test_words_of_a_plugin_come_from_its_own_catalogue(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    for _, command in COMMANDS:
        package = command.callback.__module__.partition(".")[0]
        made = localised(command)
        assert made is not command and command.context_class is click.Context, "the author's command stays as it was"
        translated = {*own_words(made)}
        left = [word for word in own_words(command) if word in translated and re.search("[a-z]{3}", word)]
        assert not left, (package, left)


def test_english_pages_are_the_authors_words(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    said = " ".join(page(("check",)).split())
    assert said.startswith("Usage: loraforge check [OPTIONS] TASK [CONFIG]") and "Options:" in said
    assert "Print N rows with what is learned in colour. [x>=0]" in said and "Show this message and exit." in said


@pytest.mark.parametrize(("arguments", "named"), SLIPS, ids=[" ".join(a) for a, _ in SLIPS])
def test_slips_in_chinese(command, monkeypatch, arguments, named):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    code, out, err = command(*arguments)
    said = err.strip().splitlines()[-1]
    assert code == 2 and out == "" and said.startswith("错误：") and named in said
    assert not re.search(r"\b(No|such|Missing|Invalid|Got|requires|Error|Usage|Try|Did|mean|argument|value)\b", err)


@pytest.mark.parametrize(("arguments", "named"), SLIPS, ids=[" ".join(a) for a, _ in SLIPS])
def test_slips_in_english_as_click_has_them(command, monkeypatch, arguments, named):
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    code, _, err = command(*arguments)
    named = {"任务": "TASK", "配置文件": "CONFIG"}.get(named, named)
    assert code == 2 and "Error: " in err and named in err and "  Did" not in err


def clicks_sentences() -> list[tuple[str, ...]]:
    """All that the installed click asks gettext for, from its source."""
    found = set()
    for file in Path(inspect.getfile(click)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "ngettext"):
                texts = node.args[: 2 if node.func.id == "ngettext" else 1]
                if all(isinstance(text, ast.Constant) for text in texts):
                    found.add(tuple(text.value for text in texts))
    return sorted(found)


@pytest.mark.parametrize("said", clicks_sentences(), ids=lambda said: said[0][:40])
def test_every_sentence_of_click_has_its_translation(said, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    with clicks_words():
        given = gettext.gettext(said[0]) if len(said) == 1 else gettext.ngettext(*said, 2)
    assert re.search("[\u4e00-\u9fff]", given) or said == ("{text} {deprecated_message}",)
    fields = [set(re.findall(r"\{(\w+)|%\((\w+)\)", text)) for text in (given, " ".join(said))]
    assert fields[0] <= fields[1]


EXCEPTIONS = [
    click.UsageError("x"), click.BadParameter("x", param_hint="'--a'"), click.BadParameter("x"), click.MissingParameter(param_hint="'--a'"),
    click.MissingParameter(param=click.Option(["--a"])), click.MissingParameter(param=click.Argument(["a"])), click.NoSuchOption("--a"),
    click.NoSuchOption("--ab", possibilities=["--abc"]), click.BadOptionUsage("--a", "x"), click.BadArgumentUsage("x"),
    click.FileError("a"), click.FileError("a", "x"),
]  # fmt: skip


@pytest.mark.parametrize("made", range(len(EXCEPTIONS)))
def test_every_kind_of_clicks_errors(made, monkeypatch, capsys):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    error = EXCEPTIONS[made]
    with clicks_words():
        if isinstance(error, click.NoSuchOption):
            error = click.NoSuchOption(error.option_name, possibilities=error.possibilities)  # its sentence is made with it
        if isinstance(error, click.FileError):
            error = click.FileError("a")
        error.show()
    said = capsys.readouterr().err
    assert said.startswith("错误：") and not re.search("[A-Za-z]{3}", said.replace("--abc", ""))


def test_outside_nothing_is_changed(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    monkeypatch.setenv("LANGUAGE", "de:fr")
    before = gettext.textdomain()
    with clicks_words():
        assert gettext.gettext("Options") == "选项"
    assert (os.environ["LANGUAGE"], gettext.textdomain(), gettext.gettext("Options")) == ("de:fr", before, "Options")


def test_a_page_keeps_examples_and_hangs_terms():
    pages = Pages(width=40)
    pages.write_text("A first paragraph that is longer than a line of it.\n\n\b\n  kept   as it is and longer than the line is\n  too")
    assert pages.getvalue().splitlines()[-2:] == ["  kept   as it is and longer than the line is", "  too"]
    pages = Pages(width=80)
    pages.write_dl([("--a", "字" * 40), ("--a-term-that-is-longer-than-its-column", "x"), ("--none", "")])
    assert [len(line) - len(line.lstrip()) for line in pages.getvalue().splitlines()] == [0, 32, 0, 32, 0]
    assert PagesContext(cli).make_formatter().__class__ is Pages
