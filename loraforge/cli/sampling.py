# SPDX-License-Identifier: Apache-2.0
"""``loraforge sample``: asks a trained run, or draws with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .. import terminal
from ..messages import speaker
from .options import JSON, RUN, FiniteRange, SamplingCommand, emit, host_of, settings

say = speaker(__name__)


@click.command(cls=SamplingCommand)
@RUN
@click.argument("prompts", nargs=-1, required=True)
@click.option("--base", is_flag=True, help="Show what the base model makes of it beside it.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Use this run, checkpoint or adapter folder instead of RUN's own adapter. May be repeated; all share one loaded base.",
)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    type=FiniteRange(),
    help="How strongly an adapter acts; 1 by default. Several for one adapter stand side by side; otherwise once, or once per adapter.",
)
@click.option("--together", is_flag=True, help="Use all the adapters at once instead of one after the other.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder for answers that are files; by default RUN/answers.")
@JSON
@click.pass_context
def sample(
    ctx: click.Context,
    /,
    run: Path,
    prompts: Sequence[str],
    base: bool,
    adapters: Sequence[Path],
    as_json: bool,
    scales: Sequence[float],
    together: bool,
    out: Path | None,
    **options: Any,
) -> None:
    """Ask a trained run; the same prompt template that was trained is applied."""
    from ..plugin_api.types import Answer
    from ..runs.opened import ask, load_run
    from . import answering

    if out is not None and out.exists() and not out.is_dir():
        raise click.UsageError(say("--out {path}: a file stands there; name a folder.", path=out))
    opened = load_run(host_of(ctx), run)
    wanted = settings(opened.task.sampling.settings, options)
    sides: dict[str, Mapping[str, float] | None] = {"base": None} if base else {}
    sides |= _sides(opened.names(adapters), scales, together)
    inference_model = opened.inference_model(opened.adapters(adapters))
    rows: list[dict[str, Any]] = []
    console = terminal.console(stderr=as_json)  # one for the bar and the answers: they would write over each other
    with answering.ticker(console, say("answers")) as tick:
        for question, answers in ask(opened, inference_model, prompts, sides, wanted, out or opened.run.path / "answers", tick):
            ended = {name: answer.ended for name, answer in answers.items() if isinstance(answer, Answer)}
            rows.append({"prompt": question, "answers": answers, **({"ended": ended} if ended else {})})
            if not as_json:
                answering.answers(console, question, answers)
    if as_json:
        emit(rows)


def _sides(names: Sequence[str], scales: Sequence[float], together: bool) -> dict[str, Mapping[str, float]]:
    """Who answers, by name: each adapter, all at once, or one adapter in several strengths.

    Args:
        names: of the adapters as they were given; one that is given several times has a strength of its own each time.

    Raises:
        UsageError: if it is not clear whose the strengths are, or two sides would be the same.
    """
    if len(names) == 1 and len(scales) > 1:
        return {f"{names[0]} × {scale:g}": {names[0]: scale} for scale in scales}
    if len(scales) > 1 and len(scales) != len(names):
        raise click.UsageError(say("--scale: give one for all, or one for each of the {n} adapters.", n=len(names)))
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        pairs = list(zip(names, scales, strict=False))
        if together or len(set(pairs)) < len(names):
            raise click.UsageError(
                say(
                    "--adapter: {name} is there {n} times. Give a --scale of its own each time, without --together, or name it once.",
                    name=again,
                    n=names.count(again),
                )
            )
        return {f"{name} × {scale:g}": {name: scale} for name, scale in pairs}
    strengths = dict(zip(names, scales if len(scales) > 1 else list(scales or [1.0]) * len(names), strict=True))
    return {" + ".join(names): strengths} if together else {name: {name: strength} for name, strength in strengths.items()}


COMMANDS = (sample,)
