"""Writes docs/config.md and docs/cli.md from the code, and what gettext reads. ``--check`` only says whether they are up to date."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

os.environ["LORAFORGE_LANG"] = "en"
os.environ.pop("LORAFORGE_BLOCK", None)

from loraforge.cli.main import cli
from loraforge.cli.wording import PagesContext, localised
from loraforge.config.key_docs import describe
from loraforge.plan import owners_of
from loraforge.plugin_api.host import PluginHost

DOCS = Path(__file__).parent
WORDS = DOCS.parent / "loraforge" / "locale" / "zh" / "LC_MESSAGES" / "click.mo"


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
    root = PagesContext(cli, info_name="loraforge", terminal_width=100, max_content_width=100)
    root.obj = PluginHost(blocked=("echo",))
    pages = [("loraforge", localised(cli), root)]
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        here = PagesContext(command, info_name=name, parent=root, terminal_width=100, max_content_width=100)
        pages.append((f"loraforge {name}", command, here))
        for inner, own in sorted(getattr(command, "commands", {}).items()):
            below = PagesContext(own, info_name=inner, parent=here, terminal_width=100, max_content_width=100)
            pages.append((f"loraforge {name} {inner}", own, below))
    for title, command, context in pages:
        lines += ["", f"## {title}", "", "```text", command.get_help(context).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def clicks_words() -> bytes:
    """What click says in Chinese, as gettext reads it."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with (WORDS.with_suffix(".po")).open("rb") as file:
        made = io.BytesIO()
        write_mo(made, read_po(file, "zh"))
    return made.getvalue()


def same(file: Path, content: bytes) -> bool:
    """Whether a file says this already; in the head of what gettext reads stand the day and Babel's version."""
    from babel.messages.mofile import read_mo

    if not file.exists() or file.suffix != ".mo":
        return file.exists() and file.read_bytes() == content
    there, made = ([(one.id, one.string) for one in read_mo(io.BytesIO(data)) if one.id] for data in (file.read_bytes(), content))
    return there == made


def main() -> None:
    """Writes or checks them all."""
    stale = []
    made = {DOCS / "config.md": config_page().encode(), DOCS / "cli.md": cli_page().encode(), WORDS: clicks_words()}
    for file, content in made.items():
        name = file.relative_to(DOCS.parent).as_posix()
        if same(file, content):
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            file.write_bytes(content)
            print(f"wrote {name}")
    if "--check" in sys.argv and stale:
        sys.exit(f"{', '.join(stale)} are out of date: run python docs/generate.py")


if __name__ == "__main__":
    main()
