# SPDX-License-Identifier: Apache-2.0
"""``loraforge studio``: the whole work in a browser, on this computer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from loraforge import ConfigError, speaker

say = speaker(__name__)


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), default=Path("studio"))
@click.option(
    "--allow", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Let the page read this folder too. May be repeated."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8060, show_default=True, help="0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
@click.option(
    "--max-upload", type=click.IntRange(min=1), default=2000, show_default=True, help="Megabytes of one file that is dropped on the page."
)
def studio(folder: Path, allow: Sequence[Path], port: int, no_browser: bool, max_upload: int) -> None:
    """Do the whole work in a browser: data, training, judging, exports. Everything is kept in FOLDER (by default ./studio).

    \b
      loraforge studio
      loraforge studio work --allow /media/pictures

    Only this computer can reach it. Each action is a command of loraforge, shown and kept in FOLDER.
    """
    _require_extra()
    from .starting import start

    start(folder, allow, port, browser=not no_browser, upload=max_upload * 1_000_000)


def _require_extra() -> None:
    import importlib.util

    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(say("loraforge studio needs {names}: pip install 'loraforge[studio]'", names=", ".join(missing)))
