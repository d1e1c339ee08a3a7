# SPDX-License-Identifier: Apache-2.0
"""check_command: the built-in commands keep the contract, and each broken promise is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from builders import ROOT
from builders.loopback import serving

from loraforge import RunError, hookimpl, load_run
from loraforge.testing import check_command, finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("commands"))


def built_in(host, name):
    return host.commands(())[name]


# --- what is built in ------------------------------------------------------------------------------------------------------------


def test_chat_keeps_the_contract(host, run, tmp_path):
    said = check_command(
        built_in(host, "chat"),
        [run.path, "--base", "--max-tokens", "4"],
        text="问？\n/new\n/exit\n",
        refused=[[], [tmp_path], ["--nonsense"]],
    )
    assert "[base]" in said and "[run]" in said


def test_metadata_keeps_the_contract(host, tmp_path):
    from builders.tiny_text import write_rows

    rows = write_rows(tmp_path / "rows.csv")
    said = check_command(
        built_in(host, "metadata"),
        [rows, "--out", tmp_path / "out.csv", "--json"],
        refused=[[], [tmp_path / "none.csv"], [rows, "--out", rows], [rows, "--out", rows / "x.csv"], [rows, "--columns", "x"]],
    )
    assert json.loads(said)["rows"] == 12


def test_inspect_keeps_the_contract(host, run, tmp_path):
    (tmp_path / "odd.safetensors").write_bytes(b"no")
    check_command(built_in(host, "inspect"), [run.path / "adapter", "--json"], refused=[[tmp_path / "odd.safetensors"]])


def test_prepare_keeps_the_contract(host, tmp_path):
    from builders.tiny_images import draw_pictures

    pictures = draw_pictures(tmp_path / "pictures")
    (pictures / "metadata.csv").unlink()
    check_command(
        built_in(host, "prepare"), ["image", pictures, "--min-size", "32"], refused=[["image", tmp_path / "none"], ["text", pictures]]
    )


def test_golden_keeps_the_contract(host, run, tmp_path):
    document = json.loads((run.path / "adapter" / "golden_prompts.json").read_text(encoding="utf-8"))

    def tokenize(asked):
        return {"tokens": next((p["ids"] for p in document["prompts"] if p["messages"] == asked.get("messages")), None)}

    with serving({"/tokenize": tokenize}) as url:
        refused = [[run.path], [tmp_path, url], [run.path, "http://127.0.0.1:9"], [run.path, "nowhere"]]
        said = check_command(built_in(host, "golden"), [run.path, url, "--model", "run", "--json"], refused=refused)
    assert json.loads(said)["differences"] == []


def test_a_command_of_the_documentation_keeps_the_contract(run):
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    there: dict = {}
    exec(re.search(r"```python\n(# ask\.py\n.*?)```", page, re.DOTALL)[1], there)
    said = check_command(there["ask_command"], [run.path, "试用期？"], refused=[[run.path]])
    assert "试用期？" in said


# --- and commands that break a promise -----------------------------------------------------------------------------------------


def command(work=lambda file: None, name="mine", about="Does what is mine.", **option):
    """``loraforge mine FILE [--size N]``."""

    def callback(file, size):
        return work(file)

    made = click.Command(name, callback=callback, help=about)
    made.params = [
        click.Argument(["file"], type=click.Path(path_type=Path)),
        click.Option(["--size"], type=int, **{"help": "How large.", **option}),
    ]
    return made


def reads(file):
    click.echo(file.read_text(encoding="utf-8"))


def explains(file):
    if not file.exists():
        raise RunError(f"{file} is not there.")
    click.echo("done")


def leaves(file):
    raise SystemExit(3)


def group_with(inner):
    outer = click.Group("mine", help="Some of mine.")
    outer.add_command(inner)
    return outer


def heavy_help():
    """A command whose class imports torch for its help."""

    class Heavy(click.Command):
        def get_help(self, ctx):
            import torch

            return super().get_help(ctx) + str(torch.get_num_threads())

    made = command(explains)
    made.__class__ = Heavy
    return made


BROKEN = {
    "has no name": (command(name=None), [], "a command needs a name"),
    "takes a name of the core's": (command(name="train"), [], "the name 'train' belongs to LoRAForge itself"),
    "takes a name of a plugin's": (command(name="chat"), [], "another plugin has a command 'chat' already"),
    "says nothing of itself": (command(about=""), [], "`mine` needs a sentence of help"),
    "has an option without help": (command(help=None), [], "every option needs a sentence of help; --size has none"),
    "hides one of its own": (group_with(command(about="", name="inner")), [], "`mine inner` needs a sentence of help"),
    "helps with torch": (heavy_help(), [], "a command's --help must not import torch"),
    "ends in a traceback": (command(lambda file: 1 / 0), ["x"], "`loraforge mine x` must work; it ends with a traceback, ZeroDivisionError"),
    "refuses what works": (command(explains), ["no-such-file"], "must work; it ends with RunError: no-such-file is not there."),
    "ends with another code": (command(leaves), ["x"], "must end with exit code 0, not 3"),
    "opens what is not there": (command(reads), ["{file}"], "must end with a LoraForgeError that says what to do; it ends with a traceback, FileNotFoundError"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_command_that_breaks_a_promise_is_told(name, tmp_path):
    import torch

    assert torch
    file = tmp_path / "file.txt"
    file.write_text("text", encoding="utf-8")
    made, args, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_command(made, [str(arg).format(file=file) for arg in args])


def test_bad_input_that_is_accepted_is_told(tmp_path):
    check_command(command(explains), [tmp_path], refused=[["none"], [tmp_path, "--size", "large"]])
    with pytest.raises(AssertionError, match="`loraforge mine none` must be refused with a LoraForgeError or a click.UsageError"):
        check_command(command(lambda file: click.echo("fine")), [tmp_path], refused=[["none"]])
    with pytest.raises(AssertionError, match="is refused without a word"):
        check_command(command(explains_badly), [tmp_path], refused=[["none"]])


def explains_badly(file):
    if not file.exists():
        raise RunError("")


def test_what_is_printed_beside_json_is_told(tmp_path):
    def with_json(work):
        made = command(lambda file: work())
        made.params.append(click.Option(["--json", "as_json"], is_flag=True, help="JSON.", expose_value=False))
        return made

    assert json.loads(check_command(with_json(lambda: click.echo('{"a": 1}')), [tmp_path, "--json"])) == {"a": 1}
    check_command(with_json(lambda: (click.echo("looking", err=True), click.echo("{}"))), [tmp_path, "--json"])
    with pytest.raises(AssertionError, match="with --json a command must print JSON and nothing else"):
        check_command(with_json(lambda: click.echo("looking\n{}")), [tmp_path, "--json"])


def test_a_command_finds_the_host_with_the_plugins_that_it_needs(run):
    @click.command()
    @click.argument("folder", type=click.Path(path_type=Path))
    @click.pass_context
    def tell(ctx, folder):
        """Tell a run's task."""
        host = ctx.find_root().obj
        click.echo(f"{load_run(host, folder).task.name} {'more' in host.commands(())}")

    more = click.Command("more", callback=lambda: None, help="More.")
    plugin = SimpleNamespace(loraforge_commands=hookimpl(lambda: [tell, more], specname="loraforge_commands"))
    assert check_command(tell, [run.path]) == "text False\n"
    assert check_command(tell, [run.path], plugins=[plugin]) == "text True\n"
