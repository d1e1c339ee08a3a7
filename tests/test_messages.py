# SPDX-License-Identifier: Apache-2.0
"""Every sentence that a user can meet exists in Chinese, with the same placeholders."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from builders import ROOT
from builders.commands import every_command, own_words

from loraforge import messages
from loraforge.data import findings
from loraforge.plugin_api.host import PluginHost

_PLUGINS = ("loraforge_text", "loraforge_image", "loraforge_serve", "loraforge_studio")
PACKAGES = {name: ROOT / place / name for name, place in (("loraforge", ""), *((name, "plugins") for name in _PLUGINS))}
SHOWN_HELP = {"Task", "Format"}  # classes whose help= is shown through say


# What json.JSONDecodeError says, in Python 3.10 to 3.14.
JSON = (
    "Expecting value", "Expecting property name enclosed in double quotes", "Expecting ':' delimiter", "Expecting ',' delimiter",
    "Illegal trailing comma before end of object", "Illegal trailing comma before end of array", "Unterminated string starting at",
    "Invalid control character at", "Invalid \\escape", "Invalid \\escape: ", "Invalid \\uXXXX escape", "Extra data",
    "Unexpected UTF-8 BOM (decode using utf-8-sig)",
)  # fmt: skip


def own_translations(package: str) -> set[str]:
    return {*json.loads((PACKAGES[package] / "zh.json").read_text(encoding="utf-8"))}


def sentences(folder: Path) -> set[str]:
    """All literals that reach ``say``: direct calls, help and description of keys and components, stages of events."""
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name == "say" and node.args and isinstance(node.args[0], ast.Constant):
                    found.add(node.args[0].value)
                if name == "StageStarted" and node.args and isinstance(node.args[0], ast.Constant):
                    found.add(node.args[0].value)
                if name == "Format" and node.args and isinstance(node.args[0], ast.Constant):
                    found.add(node.args[0].value)
                for keyword in node.keywords:
                    if keyword.arg == "cautions" and isinstance(keyword.value, ast.Tuple):
                        found |= {one.value for one in keyword.value.elts if isinstance(one, ast.Constant)}
                    if keyword.arg == "description" or (keyword.arg == "help" and name in SHOWN_HELP):
                        found |= {keyword.value.value} if isinstance(keyword.value, ast.Constant) else set()
            if isinstance(node, ast.FunctionDef) and node.name == "cautions":
                said = (
                    one.value
                    for made in ast.walk(node)
                    if isinstance(made, ast.Return)
                    for one in ast.walk(made)
                    if isinstance(one, ast.Constant)
                )
                found |= {one for one in said if isinstance(one, str)}
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "why" and isinstance(value, ast.Constant):
                        found.add(value.value)
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if (
                        isinstance(line, ast.Assign)
                        and getattr(line.targets[0], "id", "") == "help"
                        and isinstance(line.value, ast.Constant)
                    ):
                        found.add(line.value.value)
    commands = [command for _, command in every_command() if command.callback.__module__.partition(".")[0] == folder.name]
    words = {word for command in commands for word in own_words(command)}
    found |= words if folder.name == "loraforge" else words - own_translations("loraforge")
    # Words that are looked up by value: kinds of components, checks, measures, units, statuses, what the system and readers of JSON say.
    if folder.name == "loraforge":
        found |= {*messages._REASONS.values(), *JSON, *findings._COLUMNS, *findings.SEVERITIES, "DIR", "INTEGER", "FLOAT", "TEXT"}
        found |= {
            "task",
            "data loader",
            "template",
            "model family",
            "exporter",
            "running",
            "finished",
            "failed",
            "stopped",
            "interrupted",
            "loss",
            "gradient",
            "questions",
        }
    elif folder.name == "loraforge_image":
        found |= {check.name for check, _ in PluginHost(blocked=("echo",)).components("loraforge_checks", "image").values()}
        found |= {
            "pictures",
            "style distance",
            "structure kept",
            "structure that different prompts share",
            "shows what the base shows",
            "pictures drawn",
            "prompt adherence",
            "nearer to your pictures",
            "follows its prompts better",
        }
        from loraforge_image.task import IMAGE

        found |= {why for _, _, why in IMAGE.usual.values()}
    elif folder.name == "loraforge_text":
        found |= {check.name for check, _ in PluginHost(blocked=("echo",)).components("loraforge_checks", "text").values()}
        found |= {"tokens", "instruction", "output", "equals the reference", "cites the right article", "cites a wrong article"}
        found |= {"character overlap", "citation precision", "citation recall", "refuses", "never stops", "fields right", "exact answer"}
    return found


def placeholders(sentence: str) -> list[str]:
    return sorted(re.findall(r"(?<!\{)\{(\w*)", sentence.replace("{{", "")))


@pytest.mark.parametrize("package", list(PACKAGES))
def test_every_sentence_has_its_translation(package):
    catalogue = json.loads((PACKAGES[package] / "zh.json").read_text(encoding="utf-8"))
    wanted = sentences(PACKAGES[package])
    stale = sorted(set(catalogue) - wanted)
    missing = sorted(one for one in wanted - set(catalogue) if re.search("[A-Za-z]", re.sub(r"\{[^}]*\}", "", one)))
    assert not missing and not stale, f"missing: {missing}\nstale: {stale}"
    for english, chinese in catalogue.items():
        assert placeholders(english) == placeholders(chinese), english
        assert re.search("[\u4e00-\u9fff：]", chinese) or english == chinese, english
