# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of the parsers, to be run by hand for as long as one likes; any exception but LoraForgeError ends it.

pip install --target /tmp/atheris atheris
PYTHONPATH=/tmp/atheris python tests/hostile/atheris_fuzz.py yaml -max_total_time=300
(yaml, csv, json, xlsx, adapter)
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
TARGET = sys.argv.pop(1) if len(sys.argv) > 1 else "yaml"
with atheris.instrument_imports(include=["loraforge", "loraforge_text", "yaml", "openpyxl"]):
    import loraforge_text.data.table_loader  # noqa: F401 (so that it is instrumented)
    from hostile.test_fuzz import CSV, JSONL, YAML, rows_of, workbook

    from loraforge import LoraForgeError, RunConfig
    from loraforge.config.schema import validate
    from loraforge.config.yaml_reader import read

FOLDER = Path(tempfile.mkdtemp(prefix="atheris-"))
SEEDS = {"yaml": YAML, "csv": CSV, "json": JSONL, "xlsx": workbook()}


def parse(data: bytes) -> None:
    """What a run does with these bytes."""
    if TARGET == "yaml":
        (FOLDER / "c.yaml").write_bytes(data)
        validate(read(FOLDER / "c.yaml"), [RunConfig])
    elif TARGET == "adapter":
        from loraforge.adapters.peft_format import read_peft

        (FOLDER / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"]}')
        (FOLDER / "adapter_model.safetensors").write_bytes(data)
        read_peft(FOLDER)
    else:
        rows_of(FOLDER, {"csv": "d.csv", "json": "d.jsonl", "xlsx": "d.xlsx"}[TARGET], data)


def one(data: bytes) -> None:
    with contextlib.suppress(LoraForgeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parse(data)


if __name__ == "__main__":
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    if TARGET == "adapter":
        import safetensors.torch
        import torch

        pair = {"m.q.lora_A.weight": torch.ones(2, 3), "m.q.lora_B.weight": torch.ones(4, 2)}
        safetensors.torch.save_file(pair, corpus / "seed")
    else:
        (corpus / "seed").write_bytes(SEEDS[TARGET])
    atheris.Setup([sys.argv[0], *sys.argv[1:], str(corpus)], one)
    atheris.Fuzz()
