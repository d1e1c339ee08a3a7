# SPDX-License-Identifier: Apache-2.0
"""Alterations of a sealed run, and what verify says of them."""

from __future__ import annotations

import hashlib
import json
import shutil

from loraforge.audit.verify import verify
from loraforge.runs import provenance
from loraforge.runs.amending import amend
from loraforge.runs.folder import RunFolder
from loraforge.runs.seal import seal_run


def bad(host, run, **options):
    """(name, state) of everything that is not as it was."""
    found = verify(host, run.path, **options)
    assert found.sound == (not [p for p in found.parts if p.state in ("altered", "missing", "added")])
    return {(part.name, part.state) for part in found.parts if part.state in ("altered", "missing", "added")}


def flip(path, at=-2):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def rewrite(path, edit):
    lines = path.read_text(encoding="utf-8").splitlines()
    edit(lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


MANIFEST = {
    "name": "法律<script>",
    "status": "finished",
    "task": "text",
    "config": {"base_model": "org/model", "lora_rank": 8, "train_data_dir": "/home/me/secret/rows"},
    "seed": 1,
    "base": {"name": "org/model", "revision": None, "folder": "/x", "files": {"model.safetensors": "ab"}},
    "data": {
        "sha256": "cd",
        "rows": [{"where": "r", "sha256": "x", "split": side} for side in ("train", "train", "held-out", "set aside")],
        "notes": ["[click](http://evil) <img src=x> | a `b` \n# Approved by everybody"],
        "review": {"approved": 2, "reviewed": 3, "unreviewed": 1, "rejected": 1, "reviewers": {"王`医生|\n## x": 3}},
        "findings": {"error": 0, "warning": 2, "hint": 1, "waived": 1},
    },
    "chosen": {"step": 50, "by": "held-out loss"},
    "evaluation": {
        "examples": 1,
        "comparisons": [
            {"measure": "loss", "rows": 1, "base": 2.5, "adapter": 1.25, "difference": -1.25, "low": -2, "high": -0.5, "verdict": "better"},
            {
                "measure": "hits",
                "rows": 1,
                "base": 0.5,
                "adapter": 0.75,
                "difference": 0.25,
                "low": 0.0,
                "high": 0.5,
                "share": True,
                "verdict": "unclear",
            },
        ],
        "sentence": ["The adapter is better.", "*Nothing* was forgotten."],
        "memorisation": {"learned_asked": 20, "learned_word_for_word": 4},
    },
    "lineage": [{"run": "/home/me/old", "seal": "ef", "adapter": "01", "started": "2026"}],
    "diagnosis": [{"kind": "x", "sentence": "Over-fitting since step 40."}],
    "versions": {"torch": "2"},
}


# --- a run that nobody trained: everything that a seal covers, in milliseconds ---------------------------------------------------

STEPS = (3, 6)
EVALUATION = {"examples": 2, "comparisons": [{"measure": "loss", "base": 2.5, "adapter": 1.25}], "sentence": ["The adapter is better."]}


def made_run(folder):
    """A sealed run in ``folder/legal`` with two checkpoints, an evaluation, an export, samples, and a base beside it: (run, seal)."""
    run, base = RunFolder(folder / "legal"), folder / "base"
    files = {
        "config.yaml": "task: text\n", "eval.json": json.dumps({**EVALUATION, "rows": [], "run": "x"}), "model-card.md": "# legal\n",
        "samples/step-000003/01.png": "picture", "export/peft/adapter_model.safetensors": "weights of 6", "findings.csv": "check\n",
        "log.jsonl": "".join(json.dumps({"event": "Evaluated", "step": step, "loss": 1 / step}) + "\n" for step in STEPS),
    }  # fmt: skip
    for step in STEPS:
        place = f"checkpoints/step-{step:06d}"
        files |= {f"{place}/adapter/adapter_model.safetensors": f"weights of {step}", f"{place}/adapter/adapter_config.json": "{}"}
        files |= {f"{place}/state.json": "{}", f"{place}/state.safetensors": "state"}
    files |= {"adapter/adapter_model.safetensors": "weights of 6", "adapter/adapter_config.json": "{}"}
    for name, text in files.items():
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(text, encoding="utf-8")
    base.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md", "pytorch_model.bin"):
        (base / name).write_text(name, encoding="utf-8")
    rows = [{"where": f"row {i}", "sha256": f"{i:064x}", "asks": f"{i:064x}", "split": "held-out" if i % 5 else "train"} for i in range(10)]
    manifest = {
        **{"format": 2, "status": "finished", "started": "2026-01-01T00:00:00+0000", "task": "text", "family": "llama", "seed": 1},
        "config": {"base_model": str(base), "train_data_dir": "/gone"},
        "base": provenance.base(str(base), None, [base / name for name in ("config.json", "model.safetensors", "tokenizer.json")]),
        "data": {"sha256": "ab", "rows": rows, "notes": []},
        "template": {"name": "auto"}, "facts": {"steps": 6}, "metrics": {"held_out_loss": 1 / 6}, "evaluation": EVALUATION,
        "chosen": {"step": 6, "by": "held-out loss", "of": 2, "held_out_loss": 1 / 6}, "exports": {"peft": "export/peft"},
        "versions": {}, "code": {}, "lineage": [],
    }  # fmt: skip
    return run, seal_run(run, manifest)


def evaluated(run, signer=None, **figures):
    """What ``loraforge eval`` leaves behind."""
    with amend(run, "eval", signer) as change:
        result = {**EVALUATION, "examples": 9, **figures}
        (change.stage.path / "eval.json").write_text(json.dumps({**result, "rows": [1], "run": "y"}), encoding="utf-8")
        (change.stage.path / "model-card.md").write_text(f"# legal, {result['examples']}\n", encoding="utf-8")
        change.entries["evaluation"] = result
    return change.recorded


def exported(run, name="gguf", signer=None):
    """What ``loraforge export`` leaves behind."""
    with amend(run, "export", signer) as change:
        (change.stage.exports / name).mkdir(parents=True)
        (change.stage.exports / name / "model.gguf").write_text(name, encoding="utf-8")
        change.entries["exports"] = {**change.manifest["exports"], name: f"export/{name}"}
    return change.recorded


def promoted(run, step=3, signer=None, loss=None):
    """What ``loraforge promote`` leaves behind."""
    with amend(run, "promote", signer) as change:
        shutil.copytree(run.checkpoint(step) / "adapter", change.stage.adapter)
        change.entries |= {"chosen": {"step": step, "by": "promote", "held_out_loss": loss or 1 / step}, "evaluation": None, "grades": None}
        change.removed.append("eval.json")
    return change.recorded


def forged(run, *, number=None, **changes):
    """Adds a record as somebody does who knows how they are made: its hashes and its place in the chain are right unless ``changes`` differ."""
    _, seal = run.sealed_manifest()
    there = sorted((run.path / "records").glob("[0-9]*.json"))
    number = number or len(there) + 1
    record = {
        **{"number": number, "seal": seal, "previous": provenance.hash_file(there[-1]) if there else seal, "command": "eval"},
        **{"time": "2026-02-01T00:00:00+0000", "versions": {}, "files": {}, "entries": {}, **changes},
    }
    record["files"] = {name: value if value is None or len(value) == 64 else hash_of(value) for name, value in record["files"].items()}
    file = run.path / "records" / f"{number:04d}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record), encoding="utf-8")
    return file


def hash_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def put(run, name, text):
    """Writes a file of the run; hands back its text."""
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    (run.path / name).write_text(text, encoding="utf-8")
    return text
