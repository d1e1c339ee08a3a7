# SPDX-License-Identifier: Apache-2.0
"""``loraforge serve``: adapters for colleagues, over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from loraforge import ConfigError, FiniteRange, show, speaker

say = speaker(__name__)


@click.command()
@click.argument("runs", nargs=-1, metavar="[NAME=]RUN...")
@click.option("--adapters", "folder", type=click.Path(path_type=Path), help="Serve every run and adapter in this folder; it is watched.")
@click.option("--watch", type=FiniteRange(min=0.2), default=2.0, show_default=True, help="Seconds between two looks at --adapters.")
@click.option("--backend", type=click.Choice(["auto", "torch", "gguf", "vllm"]), default="auto", show_default=True, help="What computes.")
@click.option("--base", help="The base model, where it is not where the run says: a name or a folder.")
@click.option("--gguf", type=click.Path(path_type=Path), help="The base as a GGUF file, for the backend gguf.")
@click.option("--vllm-url", help="A vLLM that runs already, for the backend vllm; otherwise one is started.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; any other than this machine alone needs --tokens.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--tokens", type=click.Path(path_type=Path), help="A file of names and hashed tokens: who may ask.")
@click.option("--new-token", metavar="NAME", help="Add a token for NAME to --tokens, print it once, and end.")
@click.option("--admin", is_flag=True, help="With --new-token: it may add adapters and take them away.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="The certificate (PEM), for https.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key (PEM).")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name under which the server is reached. May be repeated.")
@click.option("--allow-origin", "origins", multiple=True, metavar="URL", help="A web page that may ask it. May be repeated.")
@click.option("--queue", type=click.IntRange(min=1), default=64, show_default=True, help="Answers at once, waiting ones too; more get 429.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Answers computed together.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=2048, show_default=True, help="The longest answer.")
@click.option("--timeout", type=FiniteRange(min=1), default=300.0, show_default=True, help="Seconds for one answer, waiting included.")
@click.option("--rate", type=click.IntRange(min=0), default=0, show_default=True, help="Requests a minute for each client; 0: any number.")
@click.option("--max-request", type=click.IntRange(min=1000), default=2_000_000, show_default=True, help="Bytes of one request.")
@click.option("--audit-log", type=click.Path(path_type=Path), help="Append who asked which adapter with which seal to this file.")
@click.option("--log-prompts", is_flag=True, help="Write the questions into --audit-log too.")
@click.option("--feedback", type=click.Path(path_type=Path), help="Append what people say of answers to this file, as rows to train on.")
@click.option("--no-page", is_flag=True, help="The interface alone, without the chat page.")
@click.pass_context
def serve(ctx: click.Context, /, runs: Sequence[str], **options: Any) -> None:
    """Serve trained adapters and their base to programs and people: OpenAI's interface, and a page to chat on.

    \b
      loraforge serve output/legal output/medical
      loraforge serve --adapters ./adapters --host 0.0.0.0 --tokens tokens.txt
    """
    if options["new_token"]:
        _give_token(options)
        return
    _require_extra()
    from .starting import start

    start(ctx.find_root().obj, list(runs), options)


def _give_token(options: dict[str, Any]) -> None:
    from ..access.tokens import new_token

    if options["tokens"] is None:
        raise ConfigError(say("--new-token: name the file too, --tokens tokens.txt."))
    token = new_token(options["tokens"], options["new_token"], options["admin"])
    show(say("The token of {name}; the file keeps only its hash, so this is the one time that it is shown:", name=options["new_token"]))
    show(token)


def _require_extra() -> None:
    import importlib.util

    missing = [name for name in ("fastapi", "httpx", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(say("loraforge serve needs {names}: pip install 'loraforge[serve]'", names=", ".join(missing)))
