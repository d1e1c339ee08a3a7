# SPDX-License-Identifier: Apache-2.0
"""The ranks of ``init_from_adapter`` where the config names none, as kohya's ``--dim_from_weights``. Without torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from loraforge import KeySet, RunConfig, speaker

from ...lora_files.factors import peek_ranks
from ...lora_files.names import canonical
from ...records import ImageKeys
from ..webui_format import WebuiFormat, WebuiTable

say = speaker(__name__)


def settle_ranks(keys: KeySet, webui: WebuiFormat | None, *, conv: bool) -> tuple[KeySet, Sequence[str]]:
    """``lora_rank`` and ``conv_rank`` as the file has them, if they were left open, with a sentence on each.

    Args:
        conv: whether ``conv_rank`` means something for the base.
    """
    config, mine = keys[RunConfig], keys[ImageKeys]
    if not config.init_from_adapter:
        return keys, ()
    file = Path(config.init_from_adapter)
    found = peek_ranks(file)
    # A layer of the original model that stands for several of diffusers' may hold the ranks of all, one after the other.
    shared = (
        [canonical("lora_unet_" + name.replace("{i}", "0").replace(".", "_")) for name in webui.fused]
        if isinstance(webui, WebuiTable)
        else []
    )
    lines = []
    chosen = Counter(rank for called, (rank, wide) in found.items() if not wide and re.sub(r"_\d+_", "_0_", called) not in shared)
    wide_ones = Counter(rank for rank, wide in found.values() if wide)
    if chosen and "lora_rank" not in config.model_fields_set and chosen.most_common(1)[0][0] != config.lora_rank:
        rank = chosen.most_common(1)[0][0]
        keys = keys.replaced(config.model_copy(update={"lora_rank": rank}))
        lines.append(say("lora_rank is {rank}, as {name} has it (init_from_adapter); the config names none", rank=rank, name=file.name))
    if conv and wide_ones and "conv_rank" not in mine.model_fields_set and wide_ones.most_common(1)[0][0] != mine.conv_rank:
        rank = wide_ones.most_common(1)[0][0]
        keys = keys.replaced(mine.model_copy(update={"conv_rank": rank}))
        lines.append(say("conv_rank is {rank}, as {name} has it (init_from_adapter); the config names none", rank=rank, name=file.name))
    return keys, lines
