# SPDX-License-Identifier: Apache-2.0
"""``loraforge chat RUN``: a conversation in the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from loraforge import DataError, FiniteRange, RunError, show, speaker

say = speaker(__name__)

_ENDS = ("exit", "quit", "退出")  # with a slash and without: nobody asks a model that


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--base", is_flag=True, help="Show what the base model says beside it.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Use this run, checkpoint or adapter folder instead of RUN's own adapter. May be repeated; /adapter switches.",
)
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="The longest answer.")
@click.option("--temperature", type=FiniteRange(min=0), default=0.0, show_default=True, help="0 always takes the likeliest word.")
@click.pass_context
def chat(ctx: click.Context, run: Path, base: bool, adapters: Sequence[Path], max_tokens: int, temperature: float) -> None:
    """Talk with a trained text run; earlier turns are remembered."""
    from loraforge import load_run

    opened = load_run(ctx.find_root().obj, run)
    if opened.task.name != "text":
        raise RunError(say("{run} is no text run; `loraforge sample` makes its pictures.", run=run))
    loaded = opened.adapters(adapters)
    inference_model = opened.inference_model(loaded)
    session = Session(opened, list(loaded), base)
    show(session.help())
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            show()
            return
        if line.casefold().lstrip("/") in _ENDS:
            return
        if line.startswith("/"):
            show(session.command(line))
        elif line:
            settings = {"max_tokens": max_tokens, "temperature": temperature}
            try:
                for name, answer in session.ask(line, inference_model, settings):
                    show(f"[{name or say('base')}] {answer}")
            except DataError as error:  # of this question; the chat goes on
                show(str(error))


class Session:
    """What a chat remembers: the turns so far and the adapter in use."""

    def __init__(self, opened: Any, names: Sequence[str], base: bool) -> None:
        self._opened, self._names, self._base = opened, list(names), base
        self._current: str | None = names[0]
        self._history: list[tuple[str, str]] = []

    def help(self) -> str:
        """The commands."""
        return say(
            "/adapter NAME switches ({names}), /base shows the base beside it or not, /new forgets the turns so far, /exit ends.",
            names=", ".join([*self._names, "none"]),
        )

    def command(self, line: str) -> str:
        """Carries out one /command and says what it did."""
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "/new":
            self._history = []
            return say("A new conversation.")
        if word == "/base":
            self._base = not self._base
            return say("The base model answers too.") if self._base else say("The base model is silent.")
        if word == "/adapter" and rest in [*self._names, "none"]:
            self._current = None if rest == "none" else rest
            return say("Answers come from {name}.", name=rest if self._current else say("the base model alone"))
        return self.help()

    def ask(self, question: str, inference_model: Any, settings: dict[str, Any]) -> list[tuple[str | None, str]]:
        """The answers to one question: the base's if wanted, then the current adapter's, which is remembered."""
        record = dataclasses.replace(self._opened.task.sampling.ask(question), history=tuple(self._history))
        # The whole conversation up to here is the prompt: the earlier answers stand in it as they were given.
        prompt = "".join(span.text for span in self._opened.template.render(record))
        sides = [*([None] if self._base and self._current is not None else []), self._current]
        given = [(side, inference_model.generate([prompt], side, **settings)[0]) for side in sides]
        self._history.append((question, str(given[-1][1])))
        mark = say("[ended here: it only repeats itself]")
        return [(side, f"{answer} {mark}" if getattr(answer, "repeats", False) else str(answer)) for side, answer in given]
