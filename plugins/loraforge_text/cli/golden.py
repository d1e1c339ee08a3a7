# SPDX-License-Identifier: Apache-2.0
"""``loraforge golden``: whether a running server gives the model the prompts that were trained, and answers with the adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from loraforge import LoraForgeError, RunError, load_run, read_file, read_text, show, speaker

from ..templates.golden_prompts import NAME, check_golden
from .servers import LLAMA, OTHER, OWN, ModelServer

say = speaker(__name__)

_SEAL = "manifest.sha256"


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("url", metavar="URL")
@click.option("--model", help="The name under which the server knows the adapter; by default the run's, or the only one that it has.")
@click.option("--answers", is_flag=True, help="Let the server answer too, and compare with the run's own adapter and base on this machine.")
@click.option("--token-file", type=click.Path(path_type=Path), help="A file with the token that the server wants.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
@click.pass_context
def golden(ctx: click.Context, folder: Path, url: str, model: str | None, answers: bool, token_file: Path | None, as_json: bool) -> None:
    """Ask a running server what it makes of a run's golden prompts, and compare. Exit code 1 if it differs.

    RUN is a run, an adapter folder or an export; URL is where the server listens, such as http://127.0.0.1:8000. vLLM, llama-server and
    `loraforge serve` tell what they make of a prompt, and nothing is generated. Ollama and `transformers serve` do not: they are asked to
    answer, and RUN must be a run, whose answers on this machine are the measure.
    """
    file = next((f for f in (folder / "adapter" / NAME, folder / NAME) if f.is_file()), None)
    if file is None:
        raise RunError(say("{folder} has no {name}; adapters that this version trains have one.", folder=folder, name=NAME))
    try:
        document = read_file(file)
    except OSError as error:
        raise RunError(say("{name} cannot be read: {error}.", name=file, error=error)) from None
    server = _server(folder, url, model, token_file)
    found: dict[str, Any] = {"server": server.kind, "model": server.model}
    differences = check_golden(document, server.tokens) if server.tells_tokens else ()
    prompts = json.loads(document)["prompts"] if check_golden(document, lambda prompt: prompt["text"]) == () else []
    if not prompts:
        raise RunError(say("{name}: no question of this run can be asked through a server as it was trained.", name=file))
    found |= {"prompts": len(prompts), "differences": [{"prompt": d.prompt, "token": d.token, "message": d.message} for d in differences]}
    problems = [*_about_the_adapter(server, folder)]
    told: list[str] = []
    if answers or not server.tells_tokens:
        told, more = _answers(ctx, server, folder, prompts, found)
        problems += more
    found["problems"] = problems
    if as_json:
        show(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        _report(server, url, found, told)
    ctx.exit(1 if differences or problems else 0)


def _server(folder: Path, url: str, model: str | None, token_file: Path | None) -> ModelServer:
    from .server_client import ServerClient, is_address

    if not is_address(url):
        raise RunError(say("{url} is no address of a server; it looks like http://127.0.0.1:8000.", url=url))
    token = None
    if token_file is not None:
        try:
            token = read_text(token_file, 10_000).strip()
        except (OSError, ValueError) as error:
            raise RunError(say("{name} cannot be read: {error}.", name=token_file, error=error)) from None
        if len(token.split()) != 1 or not token.isascii():
            raise RunError(say("{name}: a file with one token and nothing else is wanted.", name=token_file))
    return ModelServer(ServerClient(url.rstrip("/").removesuffix("/v1"), token), model, Path(os.path.abspath(folder)).name)


def _about_the_adapter(server: ModelServer, folder: Path) -> list[str]:
    """What the server tells of its adapter that is not this run's."""
    problems = []
    theirs, ours = server.seal(), _seal(folder)
    if server.kind == OWN and theirs and ours and theirs != ours:
        problems.append(
            say(
                "the server's '{model}' is of the run with the seal {theirs}, and this run's is {ours}. Serve this run, or name the model.",
                model=server.model,
                theirs=theirs[:16],
                ours=ours[:16],
            )
        )
    loras = server.loras()
    if loras and not any(one.get("scale") for one in loras):
        problems.append(say("llama-server has an adapter, and it is switched off (scale 0): POST /lora-adapters switches it on."))
    return problems


def _seal(folder: Path) -> str:
    try:
        return read_text(folder / _SEAL, 1000).split()[0].lower()
    except (OSError, ValueError, IndexError, LoraForgeError):
        return ""


def _answers(
    ctx: click.Context, server: ModelServer, folder: Path, prompts: Sequence[Mapping[str, Any]], found: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """(what is in order, what is not) of the answers."""
    from .likeness import compare

    if not (folder / "manifest.json").is_file():
        raise RunError(
            say(
                "{folder} is no run: a server that does not tell what it makes of a prompt is compared by its answers with those of the "
                "run's adapter and base on this machine. Name the run's folder.",
                folder=folder,
            )
        )
    likeness, counted = compare(server, load_run(ctx.find_root().obj, folder), prompts)
    found["answers"] = {**vars(likeness), "fits": likeness.fits}
    found["counted"] = [{"prompt": number, "trained": trained, "server": theirs} for number, trained, theirs in counted]
    problems = []
    if counted:
        number, trained, theirs = counted[0]
        problems.append(
            say(
                "prompt {n}: the server counts {theirs} tokens where {trained} were trained: another template, a system prompt, or a "
                "second beginning-of-text token.",
                n=number + 1,
                theirs=theirs,
                trained=trained,
            )
        )
    return ([likeness.sentence], problems) if likeness.fits or (not likeness.told and not counted) else ([], [*problems, likeness.sentence])


def _report(server: ModelServer, url: str, found: Mapping[str, Any], told: Sequence[str]) -> None:
    for difference in found["differences"]:
        show(say("prompt {n}: {message}", n=difference["prompt"] + 1, message=difference["message"]))
    for line in [*found["problems"], *told]:
        show(line)
    if found["differences"]:
        show(say("The server does not give the model what was trained. Start it with the run's chat_template.jinja."))
        return
    if server.tells_tokens:
        show(say("{kind} at {url} makes the same of all {n} prompts, to the last token.", kind=server.kind, url=url, n=found["prompts"]))
    elif server.kind == OTHER:
        show(say("The server does not tell what it makes of a prompt; it was compared by its answers."))
    if server.kind == LLAMA and not found["problems"] and "answers" not in found:
        loras = server.loras()
        if loras:
            show(say("Its adapter: {path}.", path=", ".join(str(one.get("path")) for one in loras)))
        elif loras is not None:
            show(say("It has no adapter loaded, so it answers with the base unless its model is merged; --answers tells."))
