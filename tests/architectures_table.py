# SPDX-License-Identifier: Apache-2.0
"""Writes docs/architectures.md: every causal language model of the installed transformers, trained by the product and by peft beside it.

    PYTHONPATH=tests python tests/architectures_table.py --keep /tmp/found

takes half an hour on two free cores. What has been found is kept in the folder, one file for each model type, and not looked for again;
``--as-is`` writes the page of what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "architectures.md"
_HEAD = """# Architectures

<!-- Written by tests/architectures_table.py; run it again after an update of transformers. -->

Each causal language model of transformers {transformers} was made small, with random weights, and trained for five steps on
the CPU in float32 by `loraforge train` with the default `lora_target: all-linear`; beside it, by transformers {transformers},
peft {peft} and torch {torch} alone. *Trains*: the losses of the five steps and the weights of the LoRA are the same.
*Exports*: plain peft loads the exported folder, with the logits that were trained. *Merged equal*: so does plain transformers
the merged model. The same means: losses and logits within 1e-4 (logits as a part of the largest), weights within 1 % of their way.

{equal} of {all} are the same in all three. {refused} are refused by `loraforge check` or before the first step, in one sentence.
{unbuilt} could not be made small and were not tried. {other}

| model type | class | trains | exports | merged equal | remarks |
|---|---|---|---|---|---|
"""


def look(kind: str) -> dict[str, Any]:
    """What became of one model type."""
    import pytest
    from builders import small_bases
    from builders.architectures import architectures, small

    from loraforge import LoraForgeError

    name = ""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch().context() as patch:
        try:
            model = small(architectures()[kind])
            name = type(model).__name__
            found = small_bases.compare(small_bases.make_base(kind, Path(folder) / "base", model), Path(folder), patch)
        except pytest.skip.Exception as error:
            return {"class": name, "unbuilt": str(error).splitlines()[0]}
        except LoraForgeError as error:
            return {"class": name, "refused": str(error).replace(folder, "...").splitlines()[0]}
        except Exception as error:
            return {"class": name, "failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    same = [found.loss < 1e-4 and found.weights < 1e-2 and not found.still, found.trained < 1e-4, found.merged < 1e-4]
    return {"class": name, "same": same, "notes": found.notes, "figures": [found.loss, found.weights, found.trained, found.merged]}


def row(kind: str, found: dict[str, Any]) -> str:
    same = ["yes" if yes else "NO" for yes in found["same"]] if "same" in found else ["", "", ""]
    remarks = " ".join(f"{note.rstrip('.')}." for note in found.get("notes", ()))
    if "same" in found and not all(found["same"]):
        remarks += " apart by {:.0e} (losses), {:.0e} (weights), {:.0e} (logits), {:.0e} (merged)".format(*found["figures"])
    if "refused" in found:
        same, remarks = ["refused", "", ""], found["refused"]
    elif "failed" in found:
        same, remarks = ["NO", "", ""], found["failed"]
    elif "waiting" in found:
        remarks = "not looked at yet"
    elif "unbuilt" in found:
        remarks = "not tried: it cannot be made small"
    return f"| `{kind}` | {found['class']} | {' | '.join(same)} | {remarks.replace('|', '/')} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--part", default="0/1", help="2/3: every third model type, beginning with the third; writes no page")
    parser.add_argument("--as-is", action="store_true")
    options = parser.parse_args()
    os.environ.update({"LORAFORGE_LANG": "en", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"})
    import peft
    import torch
    import transformers
    from builders.architectures import architectures
    from builders.plots import blank_plots

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options.keep.mkdir(parents=True, exist_ok=True)
    mine, parts = map(int, options.part.split("/"))
    with blank_plots(real=lambda: False):
        for kind in list(architectures())[mine::parts] if not options.as_is else ():
            kept = options.keep / f"{kind}.json"
            if not kept.exists():
                kept.write_text(json.dumps(look(kind)), encoding="utf-8")
                print(kind, kept.read_text(encoding="utf-8"), flush=True)
    if parts > 1:
        return
    files = {kind: options.keep / f"{kind}.json" for kind in sorted(architectures())}
    waiting = {"class": "", "waiting": True}
    rows = {kind: json.loads(file.read_text(encoding="utf-8")) if file.exists() else waiting for kind, file in files.items()}
    equal = sum(all(found.get("same", [False])) for found in rows.values())
    refused, unbuilt = (sum(key in found for found in rows.values()) for key in ("refused", "unbuilt"))
    ahead = sum("waiting" in found for found in rows.values())
    other = len(rows) - equal - refused - unbuilt - ahead
    versions = {"transformers": transformers.__version__, "peft": peft.__version__, "torch": torch.__version__.partition("+")[0]}
    rest = (f"{other} differ or fail." if other else "None differs.") + (f" {ahead} have not been looked at yet." if ahead else "")
    head = _HEAD.format(equal=equal, all=len(rows), refused=refused, unbuilt=unbuilt, other=rest, **versions)
    PAGE.write_text(head + "".join(row(kind, found) for kind, found in rows.items()), encoding="utf-8")


if __name__ == "__main__":
    main()
