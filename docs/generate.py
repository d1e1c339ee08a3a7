# SPDX-License-Identifier: Apache-2.0
"""Writes docs/config.md and docs/cli.md, and their Chinese pages, from the code, and the examples of docs/hooks.md from the files that
``loraforge new-plugin`` copies; and what gettext reads. ``--check`` only says whether they are up to date."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ENDINGS = {"en": ".md", "zh": ".zh-CN.md"}
WORDS = {
    "en": {
        "other language": "[中文]({name}.zh-CN.md)",
        "keys": "# Keys of the YAML file",
        "keys come from": "<!-- Written by docs/generate.py; edit the declarations in the code instead. -->",
        "about keys": "A config is flat: `key: value`, one a line. `loraforge keys text` prints this page; "
        "`loraforge keys text --schema` prints\na JSON Schema for editors. "
        "Relative paths are looked up from the working directory first, from the config file's folder second.",
        "columns": "| key | default | what may stand there | what it does |",
        "also taken": " Also taken: {names}.",
        "comma": ", ",
        "stop": ".",
        "commands": "# Commands",
        "commands come from": "<!-- Written by docs/generate.py; edit the docstrings in the code instead. -->",
        "about commands": "Exit codes: 0 done, 2 something in the input, 1 anything else. Every command that reports takes `--json`.",
    },
    "zh": {
        "other language": "[English]({name}.md)",
        "keys": "# YAML 键",
        "keys come from": "<!-- 由 docs/generate.py 写出；要修改请改代码里的声明及 zh.json 里的译文。 -->",
        "about keys": "配置文件不分节：`key: value`，一行一个。`loraforge keys text` 打印本页；"
        "`loraforge keys text --schema` 打印供编辑器使用的 JSON Schema。"
        "相对路径先从当前工作目录找，再从配置文件所在的文件夹找。",
        "columns": "| 键 | 默认值 | 可以写什么 | 作用 |",
        "also taken": "也可写作：{names}。",
        "comma": "、",
        "stop": "。",
        "commands": "# 命令",
        "commands come from": "<!-- 由 docs/generate.py 写出；要修改请改代码里的说明及 zh.json 里的译文。 -->",
        "about commands": "退出码：0 完成，2 输入有问题，1 其他情况。凡是报告结果的命令都有 `--json`。",
    },
}
CLICKS_WORDS = DOCS.parent / "loraforge" / "locale" / "zh" / "LC_MESSAGES" / "click.mo"


def config_page(words: dict[str, str]) -> str:
    """Every key of every task, one table per owner."""
    from loraforge.config.key_docs import describe
    from loraforge.plan import owners_of
    from loraforge.plugin_api.host import PluginHost

    host = PluginHost(blocked=())
    lines = [words["keys"], "", words["other language"].format(name="config"), "", words["keys come from"], "", words["about keys"]]
    for task in host.tasks():
        for owner, keys in owners_of(host, host.task(task)):
            lines += ["", f"## {owner}", "", words["columns"], "|---|---|---|---|"]
            for row in describe(owner, keys):
                also = words["also taken"].format(names=words["comma"].join(f"`{alias}`" for alias in row.aliases)) if row.aliases else ""
                cells = [
                    f"`{row.name}`",
                    f"`{row.default}`" if row.default else "",
                    row.kind,
                    row.help.rstrip(".。") + words["stop"] + also if also else row.help,
                ]
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def cli_page(words: dict[str, str]) -> str:
    """``--help`` of every command that comes with the package."""
    from loraforge.cli.main import cli
    from loraforge.cli.wording import PagesContext, localised
    from loraforge.plugin_api.host import PluginHost

    lines = [
        words["commands"],
        "",
        words["other language"].format(name="cli"),
        "",
        words["commands come from"],
        "",
        words["about commands"],
    ]
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


def hooks_page() -> str:
    """The page of the hooks, with each example and its test as ``loraforge new-plugin`` copies them: the blocks that begin with their
    names are exchanged."""
    from loraforge.scaffold.names import HOOKS
    from loraforge.scaffold.writing import documented

    text = (DOCS / "hooks.md").read_text(encoding="utf-8")
    for hook in HOOKS.values():
        for code in documented(hook):
            first = re.escape(code.partition("\n")[0])
            text, found = re.subn(rf"^```python\n{first}\n.*?^```$", lambda _, code=code: f"```python\n{code}```", text, flags=re.M | re.S)
            assert found == 1, f"hooks.md has {found} examples that begin with {first}"
    return text


def made_in(language: str) -> dict[str, str]:
    """The pages of the language in which this process speaks, by their file names."""
    words, ending = WORDS[language], ENDINGS[language]
    pages = {f"config{ending}": config_page(words), f"cli{ending}": cli_page(words)}
    if language == "en":
        pages["hooks.md"] = hooks_page()
    return pages


def pages_in(language: str) -> dict[str, str]:
    """``made_in`` in a process of its own: some helps are put into words when their module is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "LORAFORGE_BLOCK"}
    environment |= {"LORAFORGE_LANG": language, "PYTHONIOENCODING": "utf-8"}
    asked = [sys.executable, __file__, "--print", language]
    done = subprocess.run(asked, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return dict(json.loads(done.stdout))


def clicks_words() -> bytes:
    """What click says in Chinese, as gettext reads it."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with (CLICKS_WORDS.with_suffix(".po")).open("rb") as file:
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
    """Writes or checks the pages of both languages, and what gettext reads."""
    if "--print" in sys.argv:
        print(json.dumps(made_in(sys.argv[-1])))
        return
    stale = []
    made = {DOCS / name: text.encode() for language in ENDINGS for name, text in pages_in(language).items()}
    for file, content in {**made, CLICKS_WORDS: clicks_words()}.items():
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
