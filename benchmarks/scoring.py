# SPDX-License-Identifier: Apache-2.0
"""The common judge: base plus adapter through PEFT, mean loss per learned token of the held-out rows. Runs in a process of its own.

``python -m benchmarks.scoring SPEC RESULT``, where SPEC names base, rows and ``adapters`` (name -> folder).
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .measuring import environment
from .workload import read_rows


def mean_loss(model: Any, rows: Sequence[dict[str, list[int]]]) -> float:
    """Nats per learned token, row by row: no padding, no batch that could favour anyone."""
    import torch

    total, count = 0.0, 0
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row["ids"]])
            learned = torch.tensor(row["learned"], dtype=torch.bool)[1:]
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1][learned].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:][learned], reduction="sum"))
            count += int(learned.sum())
    return total / count


def losses(base: str, rows: Sequence[dict[str, list[int]]], adapters: Mapping[str, str]) -> dict[str, float]:
    """The loss of each adapter on a fresh copy of the base's layers, and of the base itself as ``base``."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.eval()
    found = {"base": mean_loss(model, rows)}
    for name, folder in adapters.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mounted = PeftModel.from_pretrained(model, folder)
        mounted.eval()
        found[name] = mean_loss(mounted, rows)
        model = mounted.unload()
    return found


def score(base: Path, rows: Path, adapters: Mapping[str, str], folder: Path) -> dict[str, float]:
    """``losses`` in a fresh process; empty if that fails."""
    given, wanted = folder / "scoring.json", folder / "losses.json"
    given.write_text(json.dumps({"base": str(base), "rows": str(rows), "adapters": dict(adapters)}), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.scoring", str(given), str(wanted)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(f"scoring failed: {done.stderr[-2000:]}\n")
        return {}
    found: dict[str, float] = json.loads(wanted.read_text(encoding="utf-8"))
    return found


def main(given: str, wanted: str) -> None:
    """The process."""
    spec = json.loads(Path(given).read_text(encoding="utf-8"))
    found = losses(spec["base"], read_rows(spec["rows"])["held"], spec["adapters"])
    Path(wanted).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
