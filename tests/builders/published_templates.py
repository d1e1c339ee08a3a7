# SPDX-License-Identifier: Apache-2.0
"""Chat templates and the tokens of the bases that they belong to; the oracle is transformers' own rendering."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from builders.tiny_text import make_tokenizer

# By a part of the template's text: what ends an answer (eos_token, then what generation_config.json adds).
_ENDS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("<|im_end|>", ("<|im_end|>",)),
    ("<|return|>", ("<|return|>", "<|call|>")),
    ("<|eot_id|>", ("<|eot_id|>",)),
    ("<turn|>", ("<turn|>",)),
    ("<end_of_turn>", ("<eos>", "<end_of_turn>")),
    ("<|END_OF_TURN_TOKEN|>", ("<|END_OF_TURN_TOKEN|>",)),
    ("<｜end▁of▁sentence｜>", ("<｜end▁of▁sentence｜>",)),
    ("<seed:eos>", ("<seed:eos>",)),
    ("[e~[", ("[e~[",)),
    ("<end_of_sentence>", ("<end_of_sentence>",)),
    ("<|end_of_text|>", ("<|end_of_text|>",)),
    ("<|role_end|>", ("<|role_end|>",)),
    ("<|message_sep|>", ("<|message_sep|>",)),
    ("<|assistant_end|>", ("<|assistant_end|>",)),
    ("<|observation|>", ("<|endoftext|>", "<|user|>", "<|observation|>")),
    ("<SPECIAL_12>", ("<SPECIAL_12>",)),
    ("<|end_of_msg|>", ("<|end_of_msg|>",)),
    ("</assistant>", ("<eos>", "</assistant>")),
    ("<|begin_assistant|>", ("<|end|>",)),
    ("<|end|>", ("<|endoftext|>", "<|end|>")),
    ("<|eot|>", ("<|eot|>",)),
    ("<sep>", ("<sep>",)),
    ("hy_Assistant", ("<｜hy_eos｜>",)),
)
_SPECIAL = re.compile(r"<[|｜][^<>'\"{}\s]{1,40}[|｜]>|<[|/]?[\w:]{2,30}[|]?>|\[/?[A-Z_]{3,20}\]")


def stops_of(jinja: str) -> tuple[str, ...]:
    return next((ends for part, ends in _ENDS if part in jinja), ("</s>",))


def make_base(folder: Path, jinja: str, stops: tuple[str, ...] = (), marks: Sequence[str] = ()) -> Path:
    """A base without weights: the template, a tokenizer with its tokens, a config."""
    folder.mkdir(parents=True)
    stops = stops or stops_of(jinja)
    found = [mark for mark in dict.fromkeys(_SPECIAL.findall(jinja)) if mark.startswith(("<|", "<｜")) and mark.endswith((">", "]"))]
    special = ["<pad>", "<s>", *stops, *(marks or found)]
    make_tokenizer(folder, jinja, tuple(dict.fromkeys(special)), stops[0])
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<s>"}, ensure_ascii=False), encoding="utf-8")
    ids = {one["content"]: one["id"] for one in json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]}
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [ids[stop] for stop in stops]}), encoding="utf-8")
    return folder


def oracle(
    folder: Path, messages: Sequence[Mapping[str, Any]], ask: bool, kwargs: Mapping[str, Any], day: str, tools: Sequence[Any] | None = None
) -> str:
    """What ``apply_chat_template`` of transformers makes of messages when its clock says ``day``; raises what the template raises."""
    from unittest import mock

    from transformers import AutoTokenizer
    from transformers.utils import chat_template_utils

    clock = mock.Mock(wraps=datetime)
    clock.now.return_value = datetime.strptime(day, "%d %b %Y")
    chat_template_utils._compile_jinja_template.cache_clear()
    with mock.patch.object(chat_template_utils, "datetime", clock):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        text = tokenizer.apply_chat_template(
            [dict(one) for one in messages], tokenize=False, add_generation_prompt=ask, tools=tools, **{"date_string": day, **kwargs}
        )
    chat_template_utils._compile_jinja_template.cache_clear()
    return str(text)


def published(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each template in a folder and those below it."""
    for file in sorted(folder.rglob("*.jinja")):
        yield f"{file.parent.name}/{file.stem}", file.read_text(encoding="utf-8")
