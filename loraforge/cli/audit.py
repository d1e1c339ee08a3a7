# SPDX-License-Identifier: Apache-2.0
"""The commands for whoever has to answer for an adapter: verify, reproduce, card. torch is imported by ``reproduce`` only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import terminal
from ..messages import speaker
from ..terminal import quoted
from .options import JSON, RUN, emit, host_of
from .signing import KEY, signer_of

if TYPE_CHECKING:
    from rich.console import Console

    from ..audit.verdicts import Verification

say = speaker(__name__)


@click.command()
@RUN
@click.option("--seal", metavar="HEX", help="The seal that `train` printed, or the newest record's hash, from where you kept it.")
@click.option("--public-key", metavar="FILE", help="Whose signature the run must have: a file of `keygen` or minisign, or its line.")
@click.option("--signature", type=click.Path(path_type=Path), metavar="FILE", help="A .minisig file of the run that you kept elsewhere.")
@click.option("--no-data", is_flag=True, help="Do not read the data: they are elsewhere, or not to be opened.")
@JSON
@click.pass_context
def verify(
    ctx: click.Context, run: Path, seal: str | None, public_key: str | None, signature: Path | None, no_data: bool, as_json: bool
) -> None:
    """Prove that nothing of a run was altered, or say what was. Exit code 1 if something was."""
    from ..audit.verify import verify
    from ..runs.signing import read_public

    key = read_public(public_key) if public_key is not None else None
    if signature is not None and not signature.is_file():
        raise click.UsageError(say("--signature: there is no file {path}.", path=signature))
    found = verify(host_of(ctx), run, seal, not no_data, key, signature)
    if as_json:
        emit({**found.as_json(), "conclusions": conclusions(found)})
    else:
        _show(terminal.console(), found)
    ctx.exit(0 if found.sound else 1)


@click.command()
@RUN
@click.option("--out", type=click.Path(path_type=Path), help="Train again in this folder instead of RUN/reproduced.")
@JSON
@click.pass_context
def reproduce(ctx: click.Context, run: Path, out: Path | None, as_json: bool) -> None:
    """Train a run again from its own config and compare the adapters. Exit code 1 if they differ."""
    from ..pipeline import reproduce as again
    from ..runs.folder import RunFolder
    from ..runs.observers import Progress
    from ..runs.seal import read_manifest

    host, console = host_of(ctx), terminal.console(stderr=as_json)
    unit = host.task(str(read_manifest(RunFolder(run))[0].get("task"))).unit
    host.register(Progress(console, unit), "progress", "loraforge")
    result = again.reproduce(host, run, out, lambda text: console.print(f"  {text}", markup=False))
    if as_json:
        emit(result)
    else:
        _show_comparison(console, result)
    ctx.exit(1 if result["verdict"] == again.NOT_REPRODUCED else 0)


@click.command()
@RUN
@KEY
@JSON
@click.pass_context
def card(ctx: click.Context, run: Path, key: str | None, as_json: bool) -> None:
    """Write a run's model card again, from its manifest: RUN/model-card.md."""
    from ..pipeline import finish
    from ..runs.folder import RunFolder
    from ..runs.records import CARD
    from . import report

    host_of(ctx).tasks()  # the plugins bring the words for their measures
    recorded = finish.keep_card(RunFolder(run), signer_of(key))
    path = run / CARD
    if as_json:
        emit({"card": path, **report.recorded_json(recorded)})
        return
    console = terminal.console()
    console.print(str(path), markup=False)
    report.recorded(console, recorded)


# --- for people ---------------------------------------------------------------------------------------------------------------


def label(state: str) -> str:
    """A state of a part, in the user's language."""
    words = {
        "unchanged": say("unchanged"),
        "altered": say("altered"),
        "missing": say("missing"),
        "added": say("added"),
        "differs": say("differs"),
        "not checked": say("not checked"),
        "not recorded": say("not recorded"),
    }
    return words.get(state, state)


def conclusions(found: Verification) -> list[str]:
    """What was proved and what was not, in plain sentences."""
    broken = any(part.state in ("altered", "missing") for kind in ("manifest", "seal", "record") for part in found.of(kind))
    lines = []
    if broken and not found.anchored and not found.signed:
        lines.append(
            say("manifest.json is not the one that was sealed, or a record is not its own. Nothing else was proved, whatever it says.")
        )
    elif found.anchored or found.signed:
        lines += _proved(found)
    else:
        lines.append(say("Proved: what is called unchanged is what manifest.json and the records name."))
        lines.append(
            say(
                "Not proved: that manifest.json itself is the original. Whoever may write into the folder can change it together with "
                "its seal. Compare with the seal that `train` printed: loraforge verify {run} --seal HEX. Or sign: loraforge keygen",
                run=quoted(found.run),
            )
        )
    if found.of("data", "not checked"):
        lines.append(say("Not proved: that the data are still those that the run was trained with."))
    if found.of("base", "not checked"):
        lines.append(say("Not proved: that a base model found elsewhere is the one that the run was trained on."))
    lines.append(
        say(
            "A hash says that a file is the one that was named, not that it is good. That these data give this adapter is shown by "
            "`loraforge reproduce`; how good the answers are, by `loraforge eval`. Who reviewed a row is not part of the row's hash."
        )
    )
    return lines


def _proved(found: Verification) -> list[str]:
    """What the seal or the signature shows, and what it cannot."""
    lines = []
    if found.anchored:
        lines.append(
            say("Proved: manifest.json is the file whose seal you kept. What is called unchanged is what it was when the run was sealed.")
        )
    if found.signed:
        lines.append(
            say(
                "Proved: the owner of the key {key} signed manifest.json and every record; that is, the training, the data, the hold-out, "
                "the adapter, and what later commands added.",
                key=found.signed,
            )
        )
    if found.of("record") and not found.signed:
        lines.append(
            say(
                "Not proved by the seal of the training: who wrote the records of later commands, and that their figures are true. They "
                "can add an evaluation, exports and a card, never change the training, the data or the hold-out; the adapter can only "
                "become that of another sealed checkpoint."
            )
        )
    lines.append(
        say(
            "Not proved: that no later record was taken away at the end. Whoever kept the newest one's hash can tell: --seal HEX; so can "
            "whoever kept its signature: --signature FILE. It is now {newest}",
            newest=found.newest,
        )
    )
    return lines


def _show(out: Console, found: Verification) -> None:
    """A line for each kind of thing, and one for everything that is not as it was."""
    from rich.cells import set_cell_size
    from rich.markup import escape

    kinds = {
        "manifest": say("the manifest"),
        "seal": say("the seal kept elsewhere"),
        "record": say("later commands"),
        "signature": say("signatures"),
        "file": say("files of the run"),
        "later": say("files of later commands"),
        "figures": say("figures"),
        "data": say("data rows"),
        "base": say("files of the base"),
        "template": say("the template"),
        "code": say("code"),
        "version": say("versions"),
        "lineage": say("earlier runs"),
    }
    colours = {"unchanged": "green", "altered": "bold red", "missing": "bold red", "added": "bold red", "differs": "yellow"}
    for kind, name in kinds.items():
        parts = found.of(kind)
        same = found.of(kind, "unchanged")
        if not parts:
            continue
        one = parts[-1] if (len(parts) == 1 and kind != "record") or kind == "data" else None  # the last one of the data sums the others up
        text = one.sentence if one else say("{n} of {all} are unchanged", n=len(same), all=len(parts))
        order = ("altered", "missing", "added", "differs", "not checked", "unchanged", "not recorded")
        state = one.state if one else next(s for s in order if found.of(kind, s))
        out.print(f"[{colours.get(state, 'dim')}]{set_cell_size(label(state), 14)}[/] {set_cell_size(name, 24)} {escape(text)}")
        for part in parts:
            if part is not one and (part.state != "unchanged" or kind == "record"):
                out.print(f"    [{colours.get(part.state, 'dim')}]{label(part.state)}[/]  {escape(part.name)}: {escape(part.sentence)}")
    out.print()
    out.print(say("The seal of manifest.json as it is now: {seal}", seal=found.seal))
    if not found.sound:
        out.print(say("[bold red]Not everything is as it was.[/bold red]"))
    elif found.of("record"):
        out.print(say("[bold green]Nothing that was sealed was altered.[/bold green] Later commands added what stands above."))
    else:
        out.print(say("[bold green]Nothing was altered.[/bold green]"))
    for line in conclusions(found):
        out.print(f"  {escape(line)}")


def _show_comparison(out: Console, result: Mapping[str, Any]) -> None:
    from rich.markup import escape

    colour = {"identical": "bold green", "close": "yellow"}.get(result["verdict"], "bold red")
    out.print()
    out.print(f"[{colour}]{escape(result['sentence'])}[/]")
    for name, side in ((say("the run"), "run"), (say("reproduced"), "reproduced")):
        losses = result["losses"][side]
        if losses["base"] is not None and losses["adapter"] is not None:
            before, after = losses["base"], losses["adapter"]
            out.print(
                say("  {name}: loss on the held-out examples {before:.4f} before, {after:.4f} after", name=name, before=before, after=after)
            )
    if result["modules"]:
        worst = sorted(result["modules"], key=lambda row: -row["relative"])[:5]
        for row in worst:
            absolute = "-" if row["absolute"] is None else f"{row['absolute']:.3g}"
            out.print(f"  {escape(row['module'])}: max |Δ| {absolute}, |Δ| / |ΔW| {row['relative']:.3g}, cos {row['cosine']:.6f}")
        out.print(say("What was not the same in the two trainings, and may be the reason:"))
        for line in result["differences"] or [
            say("nothing that the manifests record: the adapter may not come from this config, or the hardware does not repeat itself")
        ]:
            out.print(f"  {escape(line)}")
    out.print(say("  The new run: {path}", path=escape(result["reproduced"])))


COMMANDS = (verify, reproduce, card)
