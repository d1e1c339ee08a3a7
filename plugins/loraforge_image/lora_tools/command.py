# SPDX-License-Identifier: Apache-2.0
"""``loraforge lora``: tools for LoRA files of any program. Nothing that is there already is changed."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loraforge import Bar, ConfigError, ExportError, FiniteRange, console, first_few, show, speaker

if TYPE_CHECKING:
    from ..lora_files.factors import Opened

say = speaker(__name__)

_RANK = click.IntRange(1, 4096)
_OUT = click.Path(path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
_PRECISION = click.option(
    "--precision",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    help="The new file's precision; by default that of its sources.",
)
_PICKLE = click.option("--allow-pickle", is_flag=True, help="Read bases that are pickles (.ckpt), numbers only.")
_CONFIG = click.option("--base-config", metavar="FOLDER", help="A diffusers folder whose configuration belongs to single-file bases.")


@click.group()
def lora() -> None:
    """Tools for LoRA files: other names, another rank, several in one, the difference of two bases."""


@lora.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=_OUT)
@click.option("--rank", type=_RANK, help="The rank of every module; with --keep the highest.")
@click.option("--conv-rank", type=_RANK, help="The rank of convolutions of more than one pixel; by default that of the others.")
@click.option(
    "--keep", type=FiniteRange(0, 1, min_open=True), help="The share of every module's change (Frobenius norm) to keep; ranks follow."
)
@_PRECISION
@_JSON
def resize(
    source: Path, out: Path, rank: int | None, conv_rank: int | None, keep: float | None, precision: str | None, as_json: bool
) -> None:
    """Write a LoRA file with another rank: IN is a file, an adapter folder or a run.

    By singular values, so that no file of that rank comes nearer. A higher rank does what IN does, with room to learn more.
    """
    from ..lora_files.factors import open_lora
    from .convert import alike, trigger_of
    from .resize import resize as resized
    from .writing import family_of, may_write, precision_of, write_lora
    from .writing import source as origin

    if rank is None and conv_rank is None and keep is None:
        raise click.UsageError(say("say how: --rank N, --conv-rank N, or --keep SHARE."))
    may_write(out)
    opened = alike([open_lora(source)])[0]
    with _progress(say("resizing"), len(opened.factors)) as tick:
        done = resized([[one] for one in opened.factors], rank, conv_rank, keep, tick)
    asked = {"rank": rank, "conv_rank": conv_rank, "keep": keep}
    made = {"command": "lora resize", **{k: v for k, v in asked.items() if v is not None}, "from": [origin(opened.path)]}
    kind = precision or precision_of([opened])
    lost = write_lora(out, done.factors, family_of([opened]), kind, made, trigger_of(source, opened.metadata))
    before = Counter(one.rank for one in opened.factors)
    told = {"path": str(out), "modules": len(done.factors), "ranks_before": dict(before), "ranks": done.ranks, "kept": done.kept,
            "worst": {"module": done.worst[0], "kept": done.worst[1]}, "rounding": lost, "family": opened.family}  # fmt: skip
    lines = [
        say("{n} modules: rank {before} -> {after}", n=len(done.factors), before=_spread(before), after=_spread(done.ranks)),
        say("{share} of the change is kept (Frobenius norm)", share=f"{done.kept:.2%}"),
    ]
    if done.worst[0] and done.worst[1] < 0.9995:
        lines.append(say("least in {name}: {share}", name=done.worst[0], share=f"{done.worst[1]:.2%}"))
    lines += [*_rounded(kind, lost), *_unread([opened])]
    _tell(out, told, lines, as_json)


@lora.command()
@click.argument("sources", metavar="FILE[:STRENGTH]...", nargs=-1, required=True)
@click.option("--out", type=_OUT, required=True, help="The new .safetensors file; with --into the new diffusers folder.")
@click.option("--rank", type=_RANK, help="Bring the sum to this rank (singular values); without it nothing is lost, and the ranks add up.")
@click.option("--conv-rank", type=_RANK, help="The same for convolutions of more than one pixel.")
@click.option("--into", metavar="BASE", help="Add them to the weights of this base, and write that.")
@_PRECISION
@_PICKLE
@_CONFIG
@_JSON
def merge(sources: Sequence[str], out: Path, into: str | None, as_json: bool, **options: Any) -> None:
    """Put several LoRA files into one, each at its strength: neon.safetensors:0.8 rain.safetensors:0.5."""
    from ..lora_files.factors import open_lora
    from ..lora_files.fusing import of_one_naming
    from ..lora_files.tables import TABLES
    from .convert import alike
    from .merge import into_base, split_strength, together
    from .resize import resize as resized
    from .svd import joined
    from .writing import family_of, may_write, precision_of, write_lora
    from .writing import source as origin

    wanted = [split_strength(text) for text in sources]
    if into is not None:
        if out.exists():
            raise ExportError(say("{path} exists already; nothing is replaced. Name another file.", path=out))
        if options["rank"] or options["conv_rank"] or options["precision"]:
            raise click.UsageError(say("--rank, --conv-rank and --precision belong to LoRA files; --into writes a whole base."))
    else:
        may_write(out)
        if len(wanted) == 1 and wanted[0][1] == 1 and options["rank"] is None and options["conv_rank"] is None:
            raise click.UsageError(say("one file alone, at strength 1, is merged with nothing. Name another one, or --into BASE."))
    files = [(open_lora(path), strength) for path, strength in wanted]
    family = family_of([opened for opened, _ in files])
    given = [replace(opened, family=family) for opened, _ in files]
    named = of_one_naming(given, TABLES[family]) if into is not None and family in TABLES else alike(given)
    files = [(opened, strength) for opened, (_, strength) in zip(named, files, strict=True)]
    if into is not None:
        done, left = into_base(into, files, out, options["allow_pickle"], options["base_config"])
        lines = [
            say("{n} layers of {base} are changed", n=done, base=into),
            *([_left(left)] if left else []),
            *_unread([opened for opened, _ in files]),
        ]
        _tell(out, {"path": str(out), "base": into, "layers": done, "left_out": left}, lines, as_json)
        return
    pairs = together(files)
    rank, conv_rank = options["rank"], options["conv_rank"]
    kept = 1.0
    if rank is None and conv_rank is None:
        factors = [joined(several, several[0].name, several[0].called) for several in pairs]
    else:
        with _progress(say("resizing"), len(pairs)) as tick:
            result = resized(pairs, rank, conv_rank, None, tick)
        factors, kept = list(result.factors), result.kept
    made = {"command": "lora merge", "from": [origin(opened.path, strength=strength) for opened, strength in files]}
    shared = {k: v for k, v in files[0][0].metadata.items() if all(opened.metadata.get(k) == v for opened, _ in files)}
    precision = options["precision"] or precision_of([opened for opened, _ in files])
    lost = write_lora(out, factors, family, precision, made, shared)
    ranks = Counter(one.rank for one in factors)
    parts = [{"path": str(opened.path), "strength": strength, "modules": len(opened.factors)} for opened, strength in files]
    told = {"path": str(out), "modules": len(factors), "ranks": dict(ranks), "kept": kept, "rounding": lost, "family": family,
            "from": parts}  # fmt: skip
    lines = [
        *(
            say("{name} at {strength}: {n} modules", name=opened.path.name, strength=f"{strength:g}", n=len(opened.factors))
            for opened, strength in files
        ),
        say("together {n} modules of rank {ranks}", n=len(factors), ranks=_spread(ranks)),
        say("{share} of the change is kept (Frobenius norm)", share=f"{kept:.2%}"),
        *_rounded(precision, lost),
        *_unread([opened for opened, _ in files]),
    ]
    _tell(out, told, lines, as_json)


@lora.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--to", "layout", type=click.Choice(["webui", "diffusers", "comfyui"]), required=True, help="Whose names the new file has.")
@click.option("--out", type=_OUT, help="The new .safetensors file; by default FILE-LAYOUT.safetensors beside FILE.")
@_PRECISION
@_JSON
def convert(source: Path, layout: str, out: Path | None, precision: str | None, as_json: bool) -> None:
    """Write a LoRA under the names that another program reads: FILE is a file of any program, an adapter folder or a run.

    What it does to every layer stays as it is. webui is for A1111, Forge, ComfyUI and kohya, comfyui for ComfyUI alone, diffusers for
    load_lora_weights and, where only blocks were trained, for ComfyUI too.
    """
    from .convert import convert as converted
    from .convert import trigger_of
    from .writing import may_write, precision_of, write_layout
    from .writing import source as origin

    place = out or source.absolute().parent / f"{source.stem if source.is_file() else source.absolute().name}-{layout}.safetensors"
    may_write(place)
    made = converted(source, layout)
    told = {"command": "lora convert", "to": layout, "from": [origin(made.source.path if made.source else source)]}
    chosen = precision or (precision_of([made.source]) if made.source else "fp32")
    lost = write_layout(place, made, layout, chosen, told, trigger_of(source, made.metadata))
    lines = [say("{n} modules -> {after}, by the names of {layout}", n=made.before, after=made.after, layout=layout), *made.notes]
    if lost and chosen != "fp32":
        text = say("rounded to {precision}: at most {share} of a factor; --precision fp32 keeps all", precision=chosen, share=f"{lost:.3%}")
        lines.append(text)
    figures = {"path": str(place), "layout": layout, "family": made.family, "modules_before": made.before, "modules": made.after,
               "precision": chosen if made.source else None, "rounding": lost, "notes": list(made.notes)}  # fmt: skip
    _tell(place, figures, lines, as_json)


@lora.command()
@click.argument("base")
@click.argument("tuned")
@click.option("--out", type=_OUT, required=True, help="The new .safetensors file.")
@click.option("--rank", type=_RANK, required=True, help="The rank of every module.")
@click.option(
    "--conv-rank",
    type=click.IntRange(0, 4096),
    default=0,
    show_default=True,
    help="The rank of convolutions of more than one pixel; 0: none.",
)
@click.option(
    "--precision", type=click.Choice(["fp16", "bf16", "fp32"]), default="fp16", show_default=True, help="The precision of the new file."
)
@_PICKLE
@_CONFIG
@_JSON
def extract(
    base: str, tuned: str, out: Path, rank: int, conv_rank: int, precision: str, allow_pickle: bool, base_config: str | None, as_json: bool
) -> None:
    """Write what TUNED learned beyond BASE as a LoRA file: two Stable Diffusion models, each a folder or a single file."""
    from ..families.stable_diffusion.identify import identify
    from ..families.stable_diffusion.published import PUBLISHED
    from .extract import extract as extracted
    from .writing import may_write, write_lora
    from .writing import source as origin

    may_write(out)
    kinds = {name: identify(name) for name in (base, tuned)}
    for name, found in kinds.items():
        if not found.family:
            raise ConfigError(say("{base}: {what}; a LoRA can be extracted from Stable Diffusion 1, 2 and XL.", base=name, what=found.what))
    one, other = kinds[base], kinds[tuned]
    if one.family != other.family and one.read and other.read:
        titles = [PUBLISHED[found.family].title for found in (one, other)]
        raise ConfigError(say("the two are of different families: {first} and {second}.", first=titles[0], second=titles[1]))
    with contextlib.ExitStack() as stack:

        def progress(total: int) -> Callable[[], None]:
            return stack.enter_context(_progress(say("comparing layers"), total))

        done = extracted(base, tuned, one.family, rank, conv_rank, progress, allow_pickle=allow_pickle, base_config=base_config)
    made = {"command": "lora extract", "rank": rank, "conv_rank": conv_rank, "from": [origin(found.place) for found in (one, other)]}
    write_lora(out, done.factors, one.family, precision, made)
    ranks = Counter(found.rank for found in done.factors)
    told = {"path": str(out), "modules": len(done.factors), "ranks": dict(ranks), "kept": done.share, "on_layers": done.on_layers,
            "left_out": list(done.strange), "family": one.family}  # fmt: skip
    lines = [
        say("{n} modules of rank {ranks}", n=len(done.factors), ranks=_spread(ranks)),
        say(
            "they hold {share} of the difference (Frobenius norm); {layers} of it lies on these layers, the rest where no LoRA of this "
            "kind sits",
            share=f"{done.share:.2%}",
            layers=f"{done.on_layers:.2%}",
        ),
        *([_left(done.strange)] if done.strange else []),
    ]
    _tell(out, told, lines, as_json)


def _rounded(precision: str, lost: float) -> list[str]:
    """What rounding took away, where it is to be seen."""
    return [say("rounding to {precision} takes {share} of it", precision=precision, share=f"{lost:.2%}")] if lost >= 5e-5 else []


def _unread(files: Sequence[Opened]) -> list[str]:
    """A line for each file with tensors that are no LoRA, and so not in the new one."""
    return [
        say(
            "{name}: {n} tensors belong to no LoRA module and are left out: {names}",
            name=one.path.name,
            n=len(one.leftover),
            names=first_few(list(one.leftover)),
        )
        for one in files
        if one.leftover
    ]


def _left(names: Sequence[str]) -> str:
    return say("left out, because there is no such layer: {n} modules: {names}", n=len(names), names=first_few(names))


def _spread(ranks: Mapping[int, int]) -> str:
    shown = [f"{rank} x {n}" if len(ranks) > 1 else str(rank) for rank, n in sorted(ranks.items(), key=lambda one: -one[1])]
    return first_few(shown, 6)


def _tell(out: Path, told: Mapping[str, Any], lines: Sequence[str], as_json: bool) -> None:
    if as_json:
        show(json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False))
        return
    for line in [*lines, say("Written: {path}", path=out)]:
        show(line)


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    done = itertools.count(1)
    with Bar(console(stderr=True)) as bar:
        bar.start(total, 0, what)
        yield lambda: bar.update(next(done), total, what)
