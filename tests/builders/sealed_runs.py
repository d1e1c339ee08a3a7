"""Alterations of a sealed run, and what verify says of them."""

from __future__ import annotations

from loraforge.audit.verify import verify


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
            {"measure": "loss", "rows": 1, "base": 2.5, "adapter": 1.25, "low": -2, "high": -0.5, "verdict": "better"},
            {"measure": "hits", "rows": 1, "base": 0.5, "adapter": 0.75, "low": 0.0, "high": 0.5, "share": True, "verdict": "unclear"},
        ],
        "sentence": ["The adapter is better.", "*Nothing* was forgotten."],
        "memorisation": {"learned_asked": 20, "learned_word_for_word": 4},
    },
    "lineage": [{"run": "/home/me/old", "seal": "ef", "adapter": "01", "started": "2026"}],
    "diagnosis": [{"kind": "x", "sentence": "Over-fitting since step 40."}],
    "versions": {"torch": "2"},
}
