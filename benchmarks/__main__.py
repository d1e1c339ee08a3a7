# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks COMMAND``. Each command is imported when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util

import click

_COMMANDS = {
    "text": "text",
    "image": "images",
    "startup": "startup",
    "memory": "memory",
    "lengths": "lengths",
    "techniques": "techniques",
    "gpu": "gpu",
    "card": "card",
    "intervals": "intervals",
    "serve": "serving",
}


class Benchmarks(click.Group):
    """The commands, each the ``command`` of its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS or importlib.util.find_spec(f"benchmarks.{_COMMANDS[cmd_name]}") is None:
            return None
        found: click.Command = importlib.import_module(f"benchmarks.{_COMMANDS[cmd_name]}").command
        return found


@click.group(cls=Benchmarks, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measures LoRAForge beside its peers, in whole processes."""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
