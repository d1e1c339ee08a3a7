# SPDX-License-Identifier: Apache-2.0
"""Values that other programs know and this one does not: what there is instead, said beside the refusal.

A key declares them: ``Field(..., json_schema_extra={"refused": {"prodigy* lion": {"why": "..."}}})``; names stand with spaces between,
a star stands for anything, and upper and lower case, ``-`` and ``_`` inside a name are the same. ``"instead"`` is the value that such a
sentence names, where there is one that can be written into a translated config without a further choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from ...messages import speaker

say = speaker(__name__)

ALPHA: dict[str, Any] = {
    "0.*": {
        "why": "The scale is lora_alpha / lora_rank: one below 1 has no equal here unless lora_rank is raised with it. Write "
        "lora_alpha: 1, and learning_rate a little lower."
    }
}
OPTIMIZERS: dict[str, Any] = {
    "prodigyplus* *prodigyplus*": {
        "instead": "prodigy",
        "why": "Both halves of it are there, each by itself: write optimizer: prodigy, or optimizer: schedule_free with a learning_rate.",
    },
    "prodigy* *prodigy": {"instead": "prodigy", "why": "The plain one is there: write optimizer: prodigy and learning_rate: 1."},
    "dadapt*": {
        "instead": "prodigy",
        "why": "Its authors' later one is there, which finds the rate likewise: write optimizer: prodigy and learning_rate: 1.",
    },
    "schedulefree* *schedulefree": {
        "instead": "schedule_free",
        "why": "AdamW's is there: write optimizer: schedule_free, and a learning_rate of the usual size.",
    },
    "pagedadamw8bit": {
        "instead": "adamw_8bit",
        "why": "adamw_8bit is the same without the paging, which only moves memory: write optimizer: adamw_8bit.",
    },
    "pagedadamw pagedadamw32bit": {
        "instead": "adamw",
        "why": "adamw is the same without the paging, which only moves memory: write optimizer: adamw.",
    },
    "lion8bit pagedlion*": {
        "instead": "lion",
        "why": "lion is the same in 32 bits, and keeps half of what AdamW keeps: write optimizer: lion.",
    },
    "came*": {"instead": "came", "why": "The one of 32 bits is there, which keeps about half of what AdamW keeps: write optimizer: came."},
    "*muon*": {"instead": "muon", "why": "torch's own is there, with AdamW for what is no matrix: write optimizer: muon."},
    "adam adam8bit": {"why": "AdamW with weight_decay: 0 is Adam: write optimizer: adamw, or adamw_8bit."},
    "sgd* rmsprop* adagrad* galore* lomo* adalomo* apollo* radam* adopt* ademamix* soap* stableadamw grokadamw": {
        "why": "Write optimizer: adamw, or adafactor for the least memory; each wants a learning_rate of its own."
    },
}
NO_SCHEDULES: dict[str, Any] = {
    "inversesqrt *minlr* *minlr piecewiseconstant reducelronplateau onecycle logsweep greedy": {
        "instead": "cosine",
        "why": "Nearest is cosine; a rate that stays, and falls at the end, is warmup_stable_decay.",
    },
    "adafactor": {
        "instead": "constant_with_warmup",
        "why": "Adafactor has the rate that learning_rate says: write lr_scheduler: constant_with_warmup.",
    },
}
SAVES: dict[str, Any] = {
    "no none off best": {"why": "save_steps: 0 saves at the end only; the best checkpoint is kept in any case. Take the line out."}
}
PRECISIONS: dict[str, Any] = {
    "8 2 3 5 6 int8 8bit": {
        "why": "Rounded bases that are trained on are 4bit (QLoRA) and, for pictures, fp8: write precision: 4bit, or precision: fp8."
    }
}
VARIANTS: dict[str, Any] = {
    "*oft boft ia3 full diagoft dylora glora vera locon*": {
        "why": "lokr and loha are the kinds of LyCORIS that every reader of pictures' files agrees on: write one of them, or lora (with "
        "conv_rank for LoCon)."
    }
}
RATES: dict[str, Any] = {"0 0.0": {"why": "A rate of 0 trains nothing. For pictures, train_unet: false trains the text encoders alone."}}
SEEDS: dict[str, Any] = {
    "-*": {"why": "No seed is drawn, so that a run can be repeated: write any number from 0, or leave the line out for 42."}
}


def refused(info: FieldInfo | None, got: str) -> str:
    """What there is instead of a value, with a leading space, or nothing.

    Args:
        got: the value as people write it.
    """
    row = _row(info, got)
    return " " + say(str(row["why"])) if row else ""


def instead(info: FieldInfo | None, got: str) -> str:
    """The value of the key that comes nearest to one of another program; empty where somebody has to choose."""
    return str(_row(info, got).get("instead", ""))


def _row(info: FieldInfo | None, got: str) -> Mapping[str, Any]:
    extra = info.json_schema_extra if info is not None else None
    declared = extra.get("refused") if isinstance(extra, dict) else None
    word = re.sub(r"(?<=\w)[-_ ]", "", got).casefold()
    for names, row in declared.items() if isinstance(declared, dict) else ():
        for name in names.split():
            if re.fullmatch(re.escape(name).replace(r"\*", ".*"), word) and isinstance(row, dict):
                return row
    return {}


def share_hint(got: object, bound: object) -> str:
    """For a number of rows or steps, or per cent, where a share is asked for, with a leading space; or nothing."""
    if not isinstance(got, int | float) or not isinstance(bound, int | float) or isinstance(got, bool) or bound > 1 or got < 1:
        return ""
    return say(" It is a share, not a number of things and not per cent: 0.1 is a tenth.")
