# SPDX-License-Identifier: Apache-2.0
"""The model card of a run: what a reviewer reads before anybody relies on the adapter. Written from the manifest alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from ..data import holdout
from ..messages import speaker
from ..runs.folder import FINISHED, write_text
from ..runs.provenance import hash_file
from ..runs.records import FOLDER
from ..runs.seal import SEAL
from ..terminal import command
from .markdown import code, items, number, table, text

say = speaker(__name__)

NAME = "model-card.md"
_SETTINGS = (
    "lora_rank",
    "lora_alpha",
    "lora_target",
    "lora_variant",
    "lora_dropout",
    "learning_rate",
    "lr_scheduler",
    "warmup",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "optimizer",
    "optimizer_args",
    "weight_decay",
    "ema_decay",
    "precision",
    "resolution",
    "max_seq_length",
)
_NOTES = 20  # a run that skipped a thousand rows says so in the manifest
_FEW = 50  # held-out rows; with fewer, a difference of ten points is hardly told from chance


def write_card(manifest: Mapping[str, Any], evaluation: Mapping[str, Any] | None, path: Path, run: Path | None = None) -> None:
    """Writes the card. What the manifest does not say is left out; equal manifests give equal cards in one language.

    Args:
        evaluation: how base and adapter compare on the held-out rows; by default what the manifest says of it.
        path: beside ``adapter/``, whose hash is stated.
        run: the run's folder, if the card is written elsewhere first; if no adapter lies there, this one's hash is stated.
    """
    run = run or path.parent
    manifest = {**manifest, "evaluation": evaluation or manifest.get("evaluation")}
    # In both languages, whatever the text is in: whoever is handed the card finds the place.
    sections = (
        ("What it is for, and what not / 用途与禁忌", _purpose(manifest)),
        ("Base model / 基座模型", _base(manifest)),
        ("Data / 数据", _data(manifest)),
        ("Training / 训练", _training(manifest)),
        ("Evaluation / 评估", _evaluation(manifest)),
        ("Limits and cautions / 局限与注意事项", _limits(manifest)),
        ("Earlier runs / 来历", _lineage(manifest)),
        ("How to verify / 如何核验", _verifying(run, next((f for f in (path.parent / "adapter", run / "adapter") if f.is_dir()), run))),
        ("Versions and machine / 版本与机器", _machine(manifest)),
    )
    lines = ["---", _front_matter(manifest), "---", "", f"# {text(_name(manifest, run))}", ""]
    for heading, body in sections:
        if body:
            lines += [f"## {heading}", "", *body, ""]
    write_text(path, "\n".join(lines).rstrip() + "\n")


def _part(manifest: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """An entry that is a mapping; empty if there is none."""
    value: Any = manifest
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


# --- sections -----------------------------------------------------------------------------------------------------------------


def _front_matter(manifest: Mapping[str, Any]) -> str:
    """What Hugging Face reads. The licence is the owner's to choose, so none is stated."""
    base = _base_name(manifest)
    values: dict[str, Any] = {"base_model": base} if base else {}
    values |= {"library_name": "peft", "tags": ["lora", "peft", "loraforge"]}
    if manifest.get("task"):
        values["tags"].append(str(manifest["task"]))
    if manifest.get("language"):
        values["language"] = manifest["language"]
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False).rstrip()


def _base_name(manifest: Mapping[str, Any]) -> str:
    """As a hub calls it; of a folder only the name: where it lies is nobody's business."""
    base = str(_part(manifest, "base").get("name") or _part(manifest, "config").get("base_model") or "")
    hub = re.fullmatch(r"(modelscope:)?([\w.-]+/[\w.-]+)", base)
    return hub[2] if hub else PureWindowsPath(base).name


def _name(manifest: Mapping[str, Any], run: Path) -> str:
    return str(manifest.get("name") or run.absolute().name)


def _purpose(manifest: Mapping[str, Any]) -> list[str]:
    base = _base_name(manifest)
    learned = sum(1 for row in _list(_part(manifest, "data").get("rows")) if row.get("split") == "train")
    what = say(
        "A LoRA adapter: a small file that changes what {base} does. It was trained with LoRAForge on {n} examples ({task}).",
        base=code(base),
        n=learned,
        task=text(manifest.get("task", "")),
    )
    return [
        *([what, ""] if base else []),
        "- " + say("For: drafts, in the manner of its examples, that somebody who knows the subject checks before anybody relies on them."),
        "- " + say("Not for: decisions that nobody checks; subjects that its examples do not cover; rules that have changed since."),
        "- " + say("Without the base model it does nothing, and with another one something else."),
    ]


def _base(manifest: Mapping[str, Any]) -> list[str]:
    base, template = _part(manifest, "base"), _part(manifest, "template").get("name")
    lines = items([
        (say("name"), code(_base_name(manifest)) if _base_name(manifest) else None),
        (say("revision"), code(base["revision"]) if base.get("revision") else None),
        (say("template of the prompts"), code(template) if template else None),
    ])  # fmt: skip
    files = table((say("file"), "SHA-256"), ((code(name), code(value)) for name, value in _part(base, "files").items()))
    return [*lines, "", *files] if files else lines


def _data(manifest: Mapping[str, Any]) -> list[str]:
    data, config = _part(manifest, "data"), _part(manifest, "config")
    rows = _list(data.get("rows"))
    if not rows:
        return []
    sides = [row.get("split") for row in rows]
    place = config.get("metadata_path") or config.get("train_data_dir")
    examples = say(
        "{all}: {train} learned; {held} held out and never learned; {aside} in neither, because they resemble both",
        all=len(rows),
        train=sides.count("train"),
        held=sides.count("held-out"),
        aside=sides.count("set aside"),
    )
    review = say(
        "somebody answers for {reviewed} rows ({approved} approved) and nobody for {unreviewed}; {rejected} were rejected and left out",
        **_counts(data, "review", "reviewed", "approved", "unreviewed", "rejected"),
    )
    findings = say(
        "open: {error} errors, {warning} warnings, {hint} hints; besides, {waived} were waived by somebody",
        **_counts(data, "findings", "error", "warning", "hint", "waived"),
    )
    reviewers = _part(data, "review", "reviewers")
    notes = data.get("notes")
    return [
        *items([
            (say("source"), code(PureWindowsPath(str(place)).name) if place else None),
            (say("examples"), examples),
            (say("review"), review if data.get("review") else None),
            (say("reviewers"), "; ".join(f"{code(name)} ({number(n)})" for name, n in reviewers.items())),
            (say("findings of the checks"), findings if data.get("findings") else None),
            (say("SHA-256 of all rows"), code(data["sha256"]) if data.get("sha256") else None),
        ]),
        *(f"- {text(note)}" for note in (notes if isinstance(notes, list) else [])[:_NOTES]),
        *_waivers(_list(data.get("waivers"))),
    ]  # fmt: skip


def _waivers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every waived finding with the reason that was given: a reviewer will ask for it."""
    if not rows:
        return []
    head = (say("waived finding"), say("severity"), say("where"), say("reason"))
    cells = [
        (code(row.get("check")), say(_word(row, "severity")), text("; ".join(map(str, row.get("where") or ()))), text(row.get("reason")))
        for row in rows
    ]
    return ["", *table(head, cells)]


def _counts(data: Mapping[str, Any], key: str, *names: str) -> dict[str, str]:
    found = _part(data, key)
    return {name: number(found.get(name, 0)) for name in names}


def _training(manifest: Mapping[str, Any]) -> list[str]:
    config, facts, chosen = _part(manifest, "config"), _part(manifest, "facts"), _part(manifest, "chosen")
    # What auto came to stands in the facts.
    pairs = [(key, code(facts.get(key, config[key]))) for key in _SETTINGS if config.get(key) not in (None, [])]
    pairs += [("seed", code(manifest["seed"]))] if manifest.get("seed") is not None else []
    by = f" ({text(chosen['by'])})" if chosen.get("by") else ""
    lines = items([
        (say("begun"), code(manifest["started"]) if manifest.get("started") else None),
        (say("steps"), number(facts["steps"]) if facts.get("steps") else None),
        (say("the adapter is from step"), number(chosen["step"]) + by if chosen.get("step") is not None else None),
        (say("trained parameters"), number(facts["trainable_parameters"]) if facts.get("trainable_parameters") else None),
        (say("state of the run"), text(manifest["status"]) if manifest.get("status") not in (None, FINISHED) else None),
    ])  # fmt: skip
    return [*lines, "", *table((say("setting"), say("value")), pairs)] if pairs else lines


def _evaluation(manifest: Mapping[str, Any]) -> list[str]:
    found, metrics = _part(manifest, "evaluation"), _part(manifest, "metrics")
    rows, figures, parts = holdout.in_parts(found), _part(found, "figures"), _part(found, "parts")
    before, after = metrics.get("held_out_loss_base"), metrics.get("held_out_loss")
    lines: list[str] = []
    if rows:
        lines = [say("Base and adapter were asked the same {n} held-out examples.", n=number(found.get("examples", 0))), ""]
    elif before is not None and after is not None:
        words = say(
            "Loss on the held-out examples: {before} for the base, {after} for the adapter.", before=number(before), after=number(after)
        )
        lines = [words, ""]
    head = (say("measure"), *([say("their answer")] if parts else []), say("rows"), say("base"), say("adapter"),
            say("difference, 95 % interval"), say("verdict"))  # fmt: skip
    cells = [(say(_word(r, "measure")), *([text(_answered(new))] if parts else []), number(r.get("rows")),
              *(_figure(r, k) for k in ("base", "adapter")), _interval(r), say("too few") if r.get("too_few") else say(_word(r, "verdict")))
             for new, r in rows]  # fmt: skip
    cells += [
        (say("all measures"), text(_answered(new)), "0", "", "", "", say("cannot be told") if new else "")
        for new, key in ((True, "new"), (False, "reworded")) if parts and not parts.get(key)
    ]  # fmt: skip
    cells += [(say(text(name)), *([""] if parts else []), "", _word(sides, "base"), _word(sides, "adapter"), "", "")
              for name, sides in figures.items()]  # fmt: skip
    lines += [*table(head, cells), ""] if cells else []
    said = found.get("sentence")
    lines += [f"- {text(line)}" for line in (said if isinstance(said, list) else [said]) if line]
    recited = _part(found, "memorisation")
    if isinstance(recited.get("learned_asked"), int):
        words = say(
            "Of {all} questions that it had learned, it answered {n} word for word as it was taught.",
            all=recited["learned_asked"],
            n=number(recited.get("learned_word_for_word", 0)),
        )
        lines.append(f"- {words}")
    return [*lines, *_grades(_part(manifest, "grades"))]


def _answered(new: bool) -> str:
    return say("never learned") if new else say("learned in other words")


def _grades(found: Mapping[str, Any]) -> list[str]:
    """What experts found who did not know which answer was whose."""
    if not found.get("sentence"):
        return []
    graders = ", ".join(dict.fromkeys(text(file.get("grader")) for file in _list(found.get("files"))))
    words = say(
        "Judged blind by {graders}: {graded} of {questions} questions.",
        graders=graders,
        graded=number(found.get("graded", 0)),
        questions=number(found.get("questions", 0)),
    )
    lines = [f"- {words} {text(found['sentence'])}"]
    sides = _part(_part(found, "reworded"), "accuracy")
    if sides:
        means = {side: _part(sides, side).get("mean") for side in ("base", "adapter")}
        shown = {side: f"{mean:.1%}" if isinstance(mean, int | float) else number(mean) for side, mean in means.items()}
        lines.append(f"- {say('Factual accuracy where the answer was learned in other words: base {base}, adapter {adapter}.', **shown)}")
    return lines


def _word(row: object, key: str) -> str:
    return text(row.get(key) or "") if isinstance(row, Mapping) else ""


def _figure(row: Mapping[str, Any], key: str) -> str:
    """A mean or a difference; shares in per cent."""
    value = row.get(key)
    return f"{value:.1%}" if row.get("share") and isinstance(value, int | float) else number(value)


def _interval(row: Mapping[str, Any]) -> str:
    """The interval of a difference; the difference alone where none holds."""
    if row.get("low") is None or row.get("high") is None:
        return _figure(row, "difference")
    return f"{_figure(row, 'difference')} [{_figure(row, 'low')} … {_figure(row, 'high')}]"


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    data, found = _part(manifest, "data"), _part(manifest, "evaluation")
    rows = _list(data.get("rows"))
    held = sum(1 for row in rows if row.get("split") == "held-out")
    review, findings = _part(data, "review"), _part(data, "findings")
    said = manifest.get("cautions")
    lines = [say(text(line)) for line in (said if isinstance(said, list) else [])]
    if rows and held < _FEW:
        lines.append(say("Only {n} examples were held out: small differences between base and adapter cannot be told from chance.", n=held))
    if review.get("unreviewed"):
        lines.append(say("{n} rows have nobody who answers for them.", n=number(review["unreviewed"])))
    open_ = sum(v for k in ("error", "warning") if isinstance(v := findings.get(k), int))
    if open_:
        lines.append(say("The checks found {n} errors and warnings in the data; findings.csv lists them.", n=open_))
    if not found:
        lines.append(say("Base and adapter were not compared."))
    lines += [text(item.get("sentence")) for item in _list(manifest.get("diagnosis")) if item.get("sentence")]
    return [f"- {line}" for line in lines]


def _lineage(manifest: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            code(PureWindowsPath(str(p.get("run", ""))).name),
            code(p.get("started") or ""),
            code(p.get("seal") or ""),
            code(p.get("adapter") or ""),
        )
        for p in _list(manifest.get("lineage"))
    ]
    if not rows:
        return []
    said = say("This run continued from an earlier adapter; the latest stands first.")
    return [said, "", *table((say("run"), say("begun"), say("seal"), say("adapter, SHA-256")), rows)]


def _verifying(run: Path, adapter: Path) -> list[str]:
    weights = adapter / "adapter_model.safetensors"
    name = Path(run.absolute().name)
    return [
        say("The seal of this run is the SHA-256 of manifest.json: `train` printed it, and {file} holds it.", file=code(SEAL)),
        say("Later commands add records in {folder}, each naming the one before it; the seal stays the same.", folder=code(FOLDER)),
        say("Whoever keeps it elsewhere can prove all that the manifest names; whoever has the signer's public key, this card too:"),
        "",
        "```",
        f"{command('loraforge', 'verify', name)} --seal HEX",
        f"{command('loraforge', 'verify', name)} --public-key FILE",
        command("loraforge", "reproduce", name),
        "```",
        *(["", f"- {say('adapter, SHA-256')}: {code(hash_file(weights))}"] if weights.is_file() else []),
    ]


def _machine(manifest: Mapping[str, Any]) -> list[str]:
    machine = {**_part(manifest, "machine")}
    rows = [(text(key), code(value)) for part in (_part(manifest, "versions"), machine) for key, value in part.items() if value is not None]
    rows += [(say("code of {package}", package=text(key)), code(value)) for key, value in _part(manifest, "code").items()]
    return table((say("what"), say("value")), rows)
