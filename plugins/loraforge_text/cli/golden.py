"""``loraforge golden``: whether a running server gives the model the prompts that were trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from loraforge import RunError, read_file, show, speaker

from ..templates.golden_prompts import NAME, check_golden

say = speaker(__name__)


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("url", metavar="URL")
@click.option("--model", help="The name under which the server knows the adapter; vLLM wants it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
@click.pass_context
def golden(ctx: click.Context, folder: Path, url: str, model: str | None, as_json: bool) -> None:
    """Ask a running server (vLLM, llama-server) what it makes of a run's golden prompts, and compare. Exit code 1 if it differs.

    RUN is a run, an adapter folder or an export; URL is where the server listens, such as http://127.0.0.1:8000. Nothing is generated.
    """
    file = next((f for f in (folder / "adapter" / NAME, folder / NAME) if f.is_file()), None)
    if file is None:
        raise RunError(say("{folder} has no {name}; adapters that this version trains have one.", folder=folder, name=NAME))
    try:
        document = read_file(file)
    except OSError as error:
        raise RunError(say("{name} cannot be read: {error}.", name=file, error=error.strerror)) from None
    kind, made = _asker(url, model)
    differences = check_golden(document, made)
    count = len(json.loads(document)["prompts"])
    if not count:
        raise RunError(say("{name}: no question of this run can be asked through a server as it was trained.", name=file))
    if as_json:
        rows = [{"prompt": p.prompt, "token": p.token, "message": p.message} for p in differences]
        show(json.dumps({"server": kind, "prompts": count, "differences": rows}, ensure_ascii=False, indent=1))
    elif differences:
        for difference in differences:
            show(say("prompt {n}: {message}", n=difference.prompt + 1, message=difference.message))
        show(say("The server does not give the model what was trained. Start it with the run's chat_template.jinja."))
    else:
        show(say("{kind} at {url} makes the same of all {n} prompts, to the last token.", kind=kind, url=url, n=count))
    ctx.exit(1 if differences else 0)


def _asker(url: str, model: str | None) -> tuple[str, Callable[[Mapping[str, Any]], str | Sequence[int]]]:
    """Which server it is, and what makes tokens of one golden prompt there.

    Raises:
        RunError: if nothing answers, or something else than these two.
    """
    from .server_client import is_address, post

    if not is_address(url):
        raise RunError(say("{url} is no address of a server; it looks like http://127.0.0.1:8000.", url=url))
    root = url.rstrip("/").removesuffix("/v1")
    asked = {"messages": [{"role": "user", "content": "x"}]}
    if isinstance(post(f"{root}/apply-template", asked, missing=True).get("prompt"), str):

        def llama(prompt: Mapping[str, Any]) -> str | Sequence[int]:
            text = str(post(f"{root}/apply-template", _asking(prompt))["prompt"])
            if text != prompt["text"]:
                return text  # where the text parts says more than where the tokens do
            return _tokens(post(f"{root}/tokenize", {"content": text, "add_special": False, "parse_special": True}))

        return "llama-server", llama

    def vllm(prompt: Mapping[str, Any]) -> Sequence[int]:
        wanted = {**_asking(prompt), "add_generation_prompt": True, **({"model": model} if model else {})}
        return _tokens(post(f"{root}/tokenize", wanted))

    return "vLLM", vllm


def _asking(prompt: Mapping[str, Any]) -> dict[str, Any]:
    return {key: prompt[key] for key in ("messages", "tools") if prompt.get(key)}


def _tokens(answer: Mapping[str, Any]) -> list[int]:
    tokens = answer.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise RunError(say("the server's answer holds no token numbers: {answer}", answer=json.dumps(answer)[:200]))
    return tokens
