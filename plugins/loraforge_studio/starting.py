# SPDX-License-Identifier: Apache-2.0
"""From the options of the command to a studio that runs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from loraforge import ConfigError, language, show, speaker, why

from .studio import Studio
from .work.folders import HIDDEN, Folders

say = speaker(__name__)

_HOST = "127.0.0.1"


def start(home: Path, allow: Sequence[Path], port: int, *, browser: bool, upload: int) -> None:
    """Runs until it is stopped.

    Raises:
        ConfigError: with all that is wrong, before anything listens.
    """
    problems = [say("--allow {folder}: there is no such folder.", folder=folder) for folder in allow if not folder.is_dir()]
    try:
        (home / HIDDEN).mkdir(parents=True, exist_ok=True)
        probe = home / HIDDEN / f"probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        problems.append(say("{folder} cannot hold a studio: {error}. Choose another folder.", folder=home, error=why(error)))
    if problems:
        raise ConfigError(problems)
    listening = _listen(port)
    from .app import create_app

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    studio = Studio(Folders(home, allow), language(), upload)
    actual = listening.getsockname()[1]
    studio.hosts = tuple(f"{name}{port}" for name in (_HOST, "localhost") for port in ([f":{actual}"] + ([""] if actual == 80 else [])))
    studio.address = f"http://{_HOST}:{actual}"
    threading.Thread(target=studio.asking.warm, daemon=True).start()
    url = f"{studio.address}/?token={studio.access.token}"
    show(say("The studio of {folder} is open at", folder=studio.folders.home))
    show(f"  {url}")
    show(say("The address is good for one browser. Ctrl-C closes the studio; what is being trained goes on."))
    if browser:
        threading.Thread(target=_open, args=(url,), daemon=True).start()
    config = uvicorn.Config(
        create_app(studio), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=1, lifespan="off",
    )  # fmt: skip
    for name in ("SIGTERM", "SIGHUP"):  # as Ctrl-C: what waits is ended too
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _leave)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, studio).run(sockets=[listening])
    finally:
        listening.close()
        studio.close()


class _Server(uvicorn.Server):
    """Tells the studio when it is going to end, for the answers that have no end of their own."""

    def __init__(self, config: uvicorn.Config, studio: Studio) -> None:
        super().__init__(config)
        self._studio = studio

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """After a signal."""
        self._studio.closing = True
        super().handle_exit(sig, frame)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _listen(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((_HOST, port))
        made.listen(128)
    except (OSError, OverflowError) as error:
        made.close()
        text = say("{host}:{port} cannot be listened at: {error}. Take another with --port.", host=_HOST, port=port, error=why(error))
        raise ConfigError(text) from None
    return made


def _open(url: str) -> None:
    """A browser without a window would take the terminal, and the address with it."""
    shown = sys.platform in ("win32", "darwin", "cygwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    with contextlib.suppress(Exception):  # no browser: the address stands there
        if shown:
            webbrowser.open(url)
