"""Writes docs/config.md, docs/cli.md and docs/plugin-api.md from the code, and the examples of docs/hooks.md from the files that
``loraforge new-plugin`` copies. ``--check`` only says whether they are up to date."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

os.environ["LORAFORGE_LANG"] = "en"
os.environ.pop("LORAFORGE_BLOCK", None)

import click
import plugin_reference

from loraforge.cli.main import cli
from loraforge.config.key_docs import describe
from loraforge.plan import owners_of
from loraforge.plugin_api.host import PluginHost
from loraforge.scaffold.names import HOOKS
from loraforge.scaffold.writing import documented

DOCS = Path(__file__).parent


def config_page() -> str:
    """Every key of every task, one table per owner."""
    host = PluginHost(blocked=())
    lines = [
        "# Keys of the YAML file",
        "",
        "<!-- Written by docs/generate.py; edit the declarations in the code instead. -->",
        "",
        "A config is flat: `key: value`, one a line. `loraforge keys text` prints this page; `loraforge keys text --schema` prints",
        "a JSON Schema for editors. Relative paths are looked up from the working directory first, from the config file's folder second.",
    ]
    for task in host.tasks():
        for owner, keys in owners_of(host, host.task(task)):
            lines += ["", f"## {owner}", "", "| key | default | what may stand there | what it does |", "|---|---|---|---|"]
            for row in describe(owner, keys):
                also = f" Also taken: {', '.join(f'`{alias}`' for alias in row.aliases)}." if row.aliases else ""
                cells = [
                    f"`{row.name}`",
                    f"`{row.default}`" if row.default else "",
                    row.kind,
                    row.help.rstrip(".") + "." + also if also else row.help,
                ]
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """``--help`` of every command that comes with the package."""
    lines = ["# Commands", "", "<!-- Written by docs/generate.py; edit the docstrings in the code instead. -->", ""]
    lines += ["Exit codes: 0 done, 2 something in the input, 1 anything else. Every command that reports takes `--json`."]
    root = click.Context(cli, info_name="loraforge", terminal_width=100, max_content_width=100)
    root.obj = PluginHost(blocked=("echo",))
    pages = [("loraforge", cli, root)]
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        here = click.Context(command, info_name=name, parent=root, terminal_width=100, max_content_width=100)
        pages.append((f"loraforge {name}", command, here))
        for inner, own in sorted(getattr(command, "commands", {}).items()):
            below = click.Context(own, info_name=inner, parent=here, terminal_width=100, max_content_width=100)
            pages.append((f"loraforge {name} {inner}", own, below))
    for title, command, context in pages:
        lines += ["", f"## {title}", "", "```text", command.get_help(context).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def hooks_page() -> str:
    """The page of the hooks, with each example and its test as ``loraforge new-plugin`` copies them: the blocks that begin with their
    names are exchanged."""
    text = (DOCS / "hooks.md").read_text(encoding="utf-8")
    for hook in HOOKS.values():
        for code in documented(hook):
            first = re.escape(code.partition("\n")[0])
            text, found = re.subn(rf"^```python\n{first}\n.*?^```$", lambda _, code=code: f"```python\n{code}```", text, flags=re.M | re.S)
            assert found == 1, f"hooks.md has {found} examples that begin with {first}"
    return text


def main() -> None:
    """Writes or checks the pages."""
    stale = []
    pages = {"config.md": config_page, "cli.md": cli_page, "hooks.md": hooks_page, "plugin-api.md": plugin_reference.page}
    for name, made in ((name, make()) for name, make in pages.items()):
        file = DOCS / name
        if file.exists() and file.read_text(encoding="utf-8") == made:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            file.write_text(made, encoding="utf-8", newline="\n")
            print(f"wrote docs/{name}")
    if "--check" in sys.argv and stale:
        sys.exit(f"docs/{', docs/'.join(stale)} are out of date: run python docs/generate.py")


if __name__ == "__main__":
    main()
