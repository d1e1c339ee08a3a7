# SPDX-License-Identifier: Apache-2.0
"""What ``train`` says first and last. The last fits one screen; no warning is left out of it, and ``--verbose`` adds the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from .. import charts
from ..messages import speaker
from ..runs.observers import duration
from ..terminal import command, pasted, pasted_question, quoted
from ..wrapping import cells
from . import report

if TYPE_CHECKING:
    from ..pipeline.finish import Outcome
    from ..plan import Plan
    from ..runs.signing import Signer

say = speaker(__name__)

# How a line of ``Exporter.usage`` begins that warns.
WARNS = "# ! "


def headline(out: Console, plan: Plan, path: Path) -> None:
    """The first lines of ``train``: what was read, and advice on it."""
    out.print(f"[bold]LoRAForge[/bold]  {escape(plan.task.name)}  {escape(str(path))}")
    for note in plan.notes:
        out.print(say("  note: {text}", text=escape(note)))
    for remark in plan.advice:
        out.print(say("  advice: {text}", text=escape(remark)), style="yellow")


def outcome(
    out: Console, done: Outcome, program: Sequence[object] = ("loraforge",), signer: Signer | None = None, *, verbose: bool = False
) -> None:
    """The last lines of ``train``: what came of it, where everything is, and what to type next."""
    before, after = done.metrics.get("held_out_loss_base", done.metrics.get("held_out_loss_start")), done.metrics.get("held_out_loss")
    out.print()
    out.print(say("[bold green]Done[/bold green] in {time}.", time=duration(done.seconds)))
    if done.result is not None:
        report.evaluation(out, done.result, done.run.path / "eval.json", whole=verbose)
    elif before is not None and after is not None:
        out.print(say("  Loss on the held-out examples: {before:.3f} before, {after:.3f} after.", before=before, after=after))
    if done.diagnoses:
        out.print(say("What the losses say ({picture}):", picture=escape(str(done.run.path / "diagnosis.png"))))
        for one in done.diagnoses:
            out.print(f"  {escape(one.sentence)}")
            if one.evidence and verbose:
                out.print(f"    {escape(one.evidence)}", style="dim")
    _places(out, done, signer, verbose)
    out.print()
    out.print(say("Next:") if verbose else say("Next (more with -v):"))
    pasted(out, command(*program, "sample", done.run.path, "--base", *pasted_question(done.question)))
    if after is not None and verbose:
        pasted(out, command(*program, "eval", done.run.path))
    if verbose:
        pasted(out, command("tensorboard", "--logdir", done.run.path / "tensorboard"))
    for line in _usage(done, None if verbose else out.width):
        if line.startswith("# "):
            out.print(Text(f"  {line}", style="yellow" if line.startswith(WARNS) else "dim"))
        else:
            pasted(out, line)


def _usage(done: Outcome, width: int | None) -> Iterator[str]:
    """How each export is used. Where ``width`` is given, the two first ways that fit a line, and what warns."""
    for lines in done.usage.values():
        short = [line for line in lines if width is None or (cells(line) <= width - 2 and not line.startswith(WARNS))]
        yield from short[: None if width is None else 2]
        if width is not None:
            yield from (line for line in lines if line.startswith(WARNS))


def _places(out: Console, done: Outcome, signer: Signer | None, verbose: bool) -> None:
    """Where the adapter and the rest lie, and how it is vouched for."""
    run = done.run.path
    size = sum(file.stat().st_size for file in done.run.adapter.glob("*.safetensors"))
    out.print(
        say("  Adapter:    {path} ({size:.1f} MB); beside it model-card.md, loss.png", path=escape(str(done.run.adapter)), size=size / 1e6)
    )
    if not charts.readable():
        out.print(say("              (its chart is in English: no font on this computer has Chinese. Install Noto Sans CJK, or run "
                      "pip install 'loraforge[fonts]')"), markup=False)  # fmt: skip
    for name, path in done.exports.items():
        out.print(say("  Export:     {path} ({name})", path=escape(str(path)), name=name))
    for line in done.delivered:
        out.print(f"  {escape(line)}")
    if done.samples is not None:
        out.print(say("  Samples:    {path}", path=escape(str(done.samples))))
    if done.seal and verbose:
        out.print(say("  Seal:       {seal} (keep it elsewhere: `loraforge verify {run} --seal ...` proves that nothing was altered)",
                      seal=done.seal, run=escape(quoted(run))))  # fmt: skip
    elif done.seal:
        out.print(say("  Seal:       {seal}", seal=done.seal))
    if signer is not None:
        out.print(say("  Signed:     with the key {key} (`loraforge verify {run} --public-key FILE` proves it)",
                      key=signer.public.name, run=escape(quoted(run))))  # fmt: skip
    elif done.seal:
        out.print(say("  Signed:     no: keep the seal elsewhere, or run `loraforge keygen` once"))
