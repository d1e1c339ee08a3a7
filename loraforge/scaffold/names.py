# SPDX-License-Identifier: Apache-2.0
"""What a new plugin may be called, and what its parts are called then."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..messages import speaker
from ..plugin_api.host import KINDS, PluginHost
from ..terminal import command

say = speaker(__name__)

# The kinds of plugin, each with the hook whose example it is.
HOOKS: Mapping[str, str] = {
    "loader": "loraforge_data_loaders",
    "template": "loraforge_templates",
    "check": "loraforge_checks",
    "exporter": "loraforge_exporters",
    "family": "loraforge_model_families",
    "task": "loraforge_tasks",
    "command": "loraforge_commands",
    "observer": "loraforge_event",
}

LONGEST = 24  # so that no line of the package gets too long
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*")
_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)  # no folder has such a name on Windows


@dataclass(frozen=True)
class Names:
    """What a plugin's parts are called.

    Attributes:
        given: as its author wrote it, which is the folder's name.
    """

    given: str

    @property
    def plugin(self) -> str:
        """The plugin and its components: ``house-rules``, as PyPI normalises names."""
        return re.sub(r"[-_.]+", "-", self.given).lower().removeprefix("loraforge-")

    @property
    def distribution(self) -> str:
        """For pip: ``loraforge-house-rules``."""
        return f"loraforge-{self.plugin}"

    @property
    def word(self) -> str:
        """Inside of Python names: ``house_rules``."""
        return self.plugin.replace("-", "_")

    @property
    def package(self) -> str:
        """For ``import``: ``loraforge_house_rules``."""
        return f"loraforge_{self.word}"

    def of_class(self, kind: str) -> str:
        """The name of a class: ``HouseRulesLoader``; one that is not imported from loraforge beside it."""
        made = "".join(part.capitalize() for part in self.plugin.split("-")) + kind
        return f"My{made}" if made == "ModelFamily" else made

    def of_entry(self, kind: str, kinds: Sequence[str]) -> str:
        """The plugin with the parts of one kind, as ``loraforge plugins`` lists it."""
        return self.plugin if len(kinds) == 1 else f"{self.plugin}-{kind}"


def with_needed(kinds: Sequence[str]) -> list[str]:
    """The kinds, each once in the usual order; a task comes with the family that it needs."""
    wanted = {*kinds, *(("family",) if "task" in kinds else ())}
    return [kind for kind in HOOKS if kind in wanted]


def wrong_name(name: str) -> str:
    """Why nothing can be called so; otherwise nothing."""
    if _NAME.fullmatch(name) and len(name) <= LONGEST and not _DEVICES.fullmatch(name):
        return ""
    near = "-".join(re.findall("[a-z0-9]+", name.lower())).lstrip("0123456789-")[:LONGEST].rstrip("-")
    return say(
        "'{name}' cannot be the name of a plugin: for pip and Python it needs letters from a to z and digits, with single - _ or . between "
        "them, a letter first, {most} signs at most. What people read (help, README, messages) may be in any language. Such as: {command}",
        name=name,
        most=LONGEST,
        command=command("loraforge", "new-plugin", near if _NAME.fullmatch(near) and not _DEVICES.fullmatch(near) else "my-plugin"),
    )


def taken_names(names: Names, kinds: Sequence[str], host: PluginHost, core: Sequence[str]) -> list[str]:
    """One sentence for each of its names that something else has already: the plugin would be set aside, or be a clash.

    Args:
        core: the commands that are no plugin's.
    """
    there = {info.name: info.origin for info in host.plugins()}
    problems = [
        say("there is a plugin '{name}' already ({origin}). Choose another name.", name=entry, origin=there[entry])
        for entry in (names.of_entry(kind, kinds) for kind in kinds)
        if entry in there
    ]
    commands = {*core, *host.commands(core)} if "command" in kinds else set()
    tasks = host.tasks() if "task" in kinds else {}
    if names.plugin in commands:
        problems.append(say("there is a command '{name}' already. Choose another name.", name=names.plugin))
    if names.plugin in tasks:
        problems.append(say("there is a task '{name}' already. Choose another name.", name=names.plugin))
    for kind in kinds:
        hook = HOOKS[kind]
        if hook in KINDS and names.plugin in host.components(hook, "text") and not (kind == "family" and "task" in kinds):
            problems.append(say("there is a {kind} '{name}' already. Choose another name.", kind=say(KINDS[hook]), name=names.plugin))
    return problems
