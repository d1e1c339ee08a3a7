# SPDX-License-Identifier: Apache-2.0
"""From the options of the command to a server that runs."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import ConfigError, LoraForgeError, command, require_file, show, speaker

from ..admission import Admission
from ..backends import Backend
from ..catalogue.source import Source, read_all
from ..feedback import FeedbackFile
from ..library import Library
from ..metrics import Metrics
from ..server import Limits, Server
from ..versions import BASE, Version
from .choosing import make_backend

say = speaker(__name__)


def start(host: Any, runs: list[str], options: Mapping[str, Any]) -> None:
    """Serves until it is stopped.

    Raises:
        LoraForgeError: with all that is wrong, before anything listens.
    """
    listening = _checked(runs, options)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    backend: Backend | None = None
    server: Server | None = None
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service is stopped so; what was started here ends with it
        server = assemble(host, runs, options)
        backend = server.library.backend
        _run(server, listening, options)
    except KeyboardInterrupt:
        pass  # whoever ends a server has nothing to be told
    finally:
        listening.close()
        if server is not None and server.watcher is not None:
            server.watcher.close()
        if backend is not None:
            backend.close()
        if server is not None and server.audit is not None:
            server.audit.close()
    if server is not None and server.painter is not None and server.painter.busy:
        # Python would wait for the picture that is being drawn, whose asker has been told that the server ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _checked(runs: list[str], options: Mapping[str, Any]) -> socket.socket:
    """The socket, taken before minutes of loading.

    Raises:
        ConfigError: with all that is wrong.
    """
    problems = []
    if not runs and options["folder"] is None:
        problems.append(say("name a run, or a folder of adapters: loraforge serve output/legal"))
    if options["folder"] is not None and not options["folder"].is_dir():
        problems.append(say("--adapters {folder}: there is no such folder.", folder=options["folder"]))
    if not _local(options["host"]) and options["tokens"] is None:
        problems.append(
            say(
                "--host {host} lets other computers in, so it needs --tokens FILE. Make a token for each person: {line}",
                host=options["host"],
                line=command("loraforge", "serve", "--tokens", "tokens.txt", "--new-token", "anna"),
            )
        )
    if (options["tls_cert"] is None) != (options["tls_key"] is None):
        problems.append(say("--tls-cert and --tls-key belong together: give both."))
    problems += _certificate(options)
    if options["log_prompts"] and options["audit_log"] is None:
        problems.append(say("--log-prompts writes into the audit log: name it, --audit-log FILE."))
    try:
        if options["feedback"] is not None:
            FeedbackFile(options["feedback"]).check()
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return _listen(options["host"], options["port"])


def _certificate(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with certificate and key, found before minutes of loading."""
    import ssl

    found = []
    for flag in ("tls_cert", "tls_key"):
        try:
            if options[flag] is not None:
                require_file(options[flag])
        except OSError as error:
            name = flag.replace("_", "-")
            found.append(say("--{flag} {file} cannot be read: {error}.", flag=name, file=options[flag], error=error))
    if found or options["tls_cert"] is None or options["tls_key"] is None:
        return found
    try:  # a key that wants a passphrase would wait for somebody to type it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options["tls_cert"], options["tls_key"], password=lambda: "")
    except (OSError, ValueError) as error:
        found.append(say("--tls-cert, --tls-key: {error}.", error=error))
    return found


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(kind, socket.SOCK_STREAM)
    try:
        if os.name != "nt":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
    except (OSError, OverflowError) as error:
        made.close()
        text = say("{host}:{port} cannot be listened at: {error}. Take another with --port.", host=host, port=port, error=error)
        raise ConfigError(text) from None
    made.set_inheritable(True)
    return made


def assemble(host: Any, runs: list[str], options: Mapping[str, Any]) -> Server:
    """Reads the adapters and loads the base.

    Raises:
        LoraForgeError: with all that cannot be served.
    """
    from ..access.audit_log import AuditLog
    from ..access.tokens import RateLimit, Tokens
    from ..catalogue.watching import Watcher
    from ..images import Painter

    tokens = Tokens(options["tokens"]) if options["tokens"] is not None else None
    audit = AuditLog(options["audit_log"], options["log_prompts"]) if options["audit_log"] is not None else None
    source = Source(host, options["base"])
    folder: Path | None = options["folder"]
    found: list[Version] = []
    read_all(source, runs, found.append)
    if folder is not None and source.base is None:
        _find_base(source, folder)
    backend = make_backend(source, options, found) if source.base is not None else None
    try:
        library = Library(source.base_version() if source.base is not None else None, backend)
        for version in found:
            library.put(version)
        painter = Painter(source, library)
        limits = Limits(options["queue"], options["timeout"], options["max_tokens"], options["max_request"], options["rate"])
        server = Server(library, Admission(limits.waiting), Metrics(), limits, source, tokens)
        server.rate = RateLimit(limits.per_minute) if limits.per_minute else None
        server.hosts = _hosts(options["host"], options["hosts"])
        server.origins, server.audit, server.painter = tuple(options["origins"]), audit, painter
        server.feedback, server.page = options["feedback"], not options["no_page"]
        if folder is not None:

            def changed(version: Version, what: str) -> None:
                if server.watcher is not None:  # those of the first look are announced together
                    show(f"{version.name}: {_done(what)} ({version.fingerprint})")
                if audit is not None:
                    audit.changed("folder", version, what)

            watcher = Watcher(folder, source, library, options["watch"], changed)
            watcher.look(trusting=True)
            server.watcher = watcher
            watcher.start()
        if not [name for name in library.names() if name != BASE] and folder is None:
            raise ConfigError(say("there is nothing to serve."))
        return server
    except BaseException:
        if backend is not None:
            backend.close()
        raise


def _done(what: str) -> str:
    return {"added": say("added"), "replaced": say("replaced"), "removed": say("removed")}[what]


def _find_base(source: Source, folder: Path) -> None:
    """The base that the adapters in a folder stand on, before any of them is served.

    Raises:
        ConfigError: if there is none yet, so that nothing could be loaded.
    """
    problems: list[str] = []
    for place in sorted(folder.iterdir()):
        if place.name.startswith(".") or not place.is_dir():
            continue
        try:
            source.read(place, place.name)
        except LoraForgeError as error:
            problems += error.problems
            continue
        if source.base is not None:
            return
    if not source.runs:
        text = say("--adapters {folder}: there is no adapter in it yet, so no base can be loaded. Copy one there first.", folder=folder)
        raise ConfigError([*problems, text])


def _hosts(host: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The names under which the server may be addressed, beside addresses in figures."""
    own = () if _local(host) else (socket.gethostname().lower(), socket.getfqdn().lower())
    return tuple(dict.fromkeys(["localhost", host.lower(), *own, *(name.lower() for name in allowed)]))


def _announce(server: Server, listening: socket.socket, options: Mapping[str, Any]) -> None:
    address, port = listening.getsockname()[:2]
    scheme = "https" if options["tls_cert"] else "http"
    shown = f"[{address}]" if ":" in str(address) else address
    backend = server.library.backend
    show(say("{names} at {url}", names=", ".join(server.library.names()), url=f"{scheme}://{shown}:{port}"))
    if backend is not None:
        show(say("computed by {backend}; Ctrl-C ends it", backend=backend.name))
    if server.audit is not None and options["log_prompts"]:
        show(say("Questions are written into {file}, as --log-prompts says.", file=options["audit_log"]), err=True)
    if not _local(options["host"]) and options["tls_cert"] is None:
        show(say("Without --tls-cert questions and tokens travel readably through the network."), err=True)


def _run(server: Server, listening: socket.socket, options: Mapping[str, Any]) -> None:
    import uvicorn

    from ..app import create_app

    config = uvicorn.Config(
        create_app(server),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=options["tls_cert"],
        ssl_keyfile=options["tls_key"],
        lifespan="off",
    )
    _announce(server, listening, options)
    uvicorn.Server(config).run(sockets=[listening])
