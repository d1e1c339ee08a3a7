# SPDX-License-Identifier: Apache-2.0
"""A first config for pictures, and what the folder says of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from loraforge import ConfigLine, Seen, speaker

from ..records import ImageKeys, Picture

say = speaker(__name__)

BASE = "tiny-sd"
TRIGGER = "mystyle"
PROBE = {"trigger_word": TRIGGER}
# The side that the published models of a family were made for; of transformers, and of SDXL, 1024.
_SIDES = {"sd15": 512, "sd2": 768}
_TINY, _STEP = 128, 64
_TAGS, _WORDS = 5, 3.0  # captions of so many parts, and of so few words in each, are tags
_STEPS = (500, 10, 100)  # steps to aim for, fewest and most passes


def first_lines(base: str) -> Sequence[ConfigLine]:
    """What a config for ``base`` says before any pictures are seen."""
    tiny = base == BASE
    demonstration = say(
        "a demonstration that draws toy streets; for real work the folder or the .safetensors file of SD 1.5, SDXL, FLUX.2 ..."
    )
    burnt = say("pictures that look burnt: half of it; a style that does not show: twice as much")
    return [
        *([ConfigLine("base_model", base, demonstration)] if tiny else []),
        ConfigLine("trigger_word", TRIGGER, say("the word that calls what was learned; take one that means nothing else")),
        ConfigLine("resolution", _TINY if tiny else 1024, say("what this base was made for")),
        *([ConfigLine("bucket_step", 32, say("the sides of pictures are multiples of it"))] if tiny else []),
        ConfigLine("lora_rank", 16, say("16 to 32 for a style, 4 to 16 for one subject")),
        ConfigLine("lora_alpha", 16, say("the same as the rank: strength 1 is then as it was trained")),
        ConfigLine("lora_dropout", 0.0, say("with few pictures try 0.1")),
        ConfigLine("batch_size", 4 if tiny else 1, say("more only if the card has room")),
        ConfigLine("epochs", 20 if tiny else 50, say("passes over the pictures; enough when samples get no better")),
        ConfigLine("learning_rate", 2e-3 if tiny else 1e-4, say("tiny-sd needs this; real models 1e-4") if tiny else burnt),
        ConfigLine("save_steps", 50, say("a checkpoint and sample pictures every so many steps")),
    ]


def suggest(seen: Seen[Picture]) -> Sequence[ConfigLine]:
    """What the pictures say: their sizes, the words that all captions have, the number of passes."""
    own = [record for record in seen.records if not record.prior]
    lines = [_resolution(seen, own), *_captions(own, seen)]
    tiny = seen.config.base_model == BASE
    batch = seen.config.batch_size
    per_pass = math.ceil(seen.learned / batch)
    wanted, fewest, most = _STEPS
    epochs = max(fewest, min(most, round((wanted / 2 if tiny else wanted) / per_pass)))
    why = say("{n} pictures a pass in batches of {batch}: {steps} steps in all", n=seen.learned, batch=batch, steps=epochs * per_pass)
    every = int(max(10, round(epochs * per_pass / 5, -1)))
    return [
        *lines,
        ConfigLine("epochs", epochs, why),
        ConfigLine("save_steps", every, say("a checkpoint and sample pictures, about five times in the run")),
    ]


def _resolution(seen: Seen[Picture], own: Sequence[Picture]) -> ConfigLine:
    """The side that the base was made for; less where most pictures are much smaller."""
    from ..data.perceptual_hash import picture_infos

    native = _TINY if seen.config.base_model == BASE else _SIDES.get(seen.family.name, 1024)
    sides = sorted(math.sqrt(info.width * info.height) for info in picture_infos([one.path for one in own]) if not info.problem)
    middle = sides[len(sides) // 2] if sides else native
    if middle * 1.5 >= native or native <= 512:
        return ConfigLine(
            "resolution", native, say("what this base was made for; the pictures have about {side} x {side}", side=round(middle))
        )
    side = max(512, int(middle) // _STEP * _STEP)
    why = say("most pictures have about {side} x {side}; this base was made for {native}", side=round(middle), native=native)
    return ConfigLine("resolution", side, why)


def _captions(own: Sequence[Picture], seen: Seen[Picture]) -> list[ConfigLine]:
    """The trigger word that the captions have already, and whether they are tags."""
    parts = [[part.strip() for part in one.first_caption.split(",") if part.strip()] for one in own if one.first_caption]
    if not parts:
        return []
    first = Counter(one[0] for one in parts if one)
    word, count = first.most_common(1)[0]
    lines = []
    trigger = seen.keys[ImageKeys].trigger_word
    if count == len(own) > 1 and word != trigger and len(word) <= 40:
        lines.append(ConfigLine("trigger_word", word, say("all captions begin with it")))
    many = sorted(map(len, parts))[len(parts) // 2]
    words = sum(len(part.split()) for one in parts for part in one) / sum(map(len, parts))
    if many >= _TAGS and words <= _WORDS:
        lines.append(ConfigLine("caption_shuffle", True, say("the captions are tags with commas: their order means nothing")))
        lines.append(ConfigLine("keep_tokens", 1, say("the trigger word stays in front")))
    return lines
