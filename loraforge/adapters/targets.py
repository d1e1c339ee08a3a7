# SPDX-License-Identifier: Apache-2.0
"""Which layers ``lora_target`` means, by their names alone: for the model itself, and for what is said before it is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from ..errors import ConfigError
from ..messages import speaker

say = speaker(__name__)

# Model types whose scan, where it has a kernel of its own, reads weights past the layers' forward pass: an adapter there learns nothing.
_SCANNED = frozenset({"bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "mamba", "mamba2", "nemotron_h", "zamba2"})
_READ_BY_THE_SCAN = ("out_proj", "conv1d")
# What architectures call the layers that no LoRA sits on.
_OUTPUT = frozenset({"lm_head", "embed_out", "output", "output_layer", "score"})
_EMBEDDINGS = frozenset({"embed_tokens", "wte", "wpe", "word_embeddings", "tok_embeddings", "embed_in", "embeddings"})
_ALL = frozenset({"all", "alllinear", "linear", "alllayers", "全部", "所有"})


def scanned_layers(model_type: str | None) -> tuple[str, ...]:
    """The last parts of the names of the linear layers that cannot be adapted in a model of this ``model_type``: Mamba's scan reads their
    weights itself."""
    return _READ_BY_THE_SCAN if model_type in _SCANNED else ()


def match_layers(wanted: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of ``names`` that ``lora_target`` means, in their order.

    Args:
        wanted: ``all-linear``, ``attention``, ``q,v``, a regular expression for full names, or the last parts of names.
        names: the full names of the layers that a LoRA can sit on.

    Raises:
        ConfigError: if nothing matches; it lists what there is.
    """
    attention = [n for n in names if re.search(r"attn|attention", n, re.IGNORECASE)]
    if wanted == "all-linear":
        chosen = list(names)
    elif wanted == "attention":
        chosen = attention
    elif isinstance(wanted, str) and re.sub(r"[\s_]", "", wanted) in ("q,v", "qv"):
        # Models with one fused projection have no q and v of their own: the fused one is adapted.
        last = re.compile(r"^(q|v|q_proj|v_proj|query|value|to_q|to_v|wq|wv|q_lin|v_lin|query_key_value|qkv_proj|c_attn|W_pack|Wqkv|qkv)$")
        chosen = [n for n in attention if last.match(n.rpartition(".")[2])]
    elif isinstance(wanted, str) and re.search(r"[\\^$*+?()\[\]|]", wanted):
        try:
            pattern = re.compile(wanted)
        except re.error as error:
            raise ConfigError(say("lora_target: '{value}' is not a regular expression: {error}.", value=wanted, error=error)) from None
        chosen = [n for n in names if pattern.fullmatch(n)]
    else:
        suffixes = [s.strip() for s in (wanted.split(",") if isinstance(wanted, str) else wanted) if s.strip()]
        chosen = [n for n in names if any(n == s or n.endswith("." + s) for s in suffixes)]
        missing = [s for s in suffixes if not any(n == s or n.endswith("." + s) for n in names)]
        if missing:
            raise ConfigError(_no_target(missing, names))
    if not chosen:
        raise ConfigError(_no_target([wanted] if isinstance(wanted, str) else wanted, names))
    return chosen


def _no_target(missing: Sequence[str], names: Sequence[str]) -> str:
    last = sorted({n.rpartition(".")[2] for n in names})
    hint = next((said for name in missing if (said := _meant(str(name), last))), "")
    return (
        say(
            "lora_target: the base model has no linear layer '{value}'. It has: {have}.",
            value="', '".join(map(str, missing)),
            have=", ".join(last),
        )
        + hint
    )


def _meant(name: str, last: Sequence[str]) -> str:
    """What was probably meant by a name that no layer has, with a leading space, or nothing.

    Args:
        last: the last parts of the layers' names.
    """
    if re.search("[，、；]", name):
        return say(" Write the names with commas between: {names}.", names=re.sub(r"\s*[，、；]\s*", ",", name))
    part = name.strip().rpartition(".")[2]
    if part in _OUTPUT or part in _EMBEDDINGS:
        return say(
            " '{name}' is its output layer or its embedding; a LoRA sits on the linear layers between them only.",
            name=part,
        )
    several = [one for one in re.split(r"[\s,，、;；/+|\[\]'\"()]+", name) if one]
    if len(several) > 1 and all(one in last for one in several):
        return say(" Write the names with commas between: {names}.", names=",".join(several))
    if re.sub(r"[\s_-]", "", name).casefold() in _ALL:
        return say(" Did you mean '{word}'?", word="all-linear")
    alike = [
        one for one in last if one.casefold() == part.casefold() or re.fullmatch(rf"{re.escape(part)}_?proj|to_{re.escape(part)}", one)
    ]
    close = alike or difflib.get_close_matches(part, [one for one in (*last, "attention", "all-linear") if one != part], n=1)
    return say(" Did you mean '{word}'?", word=close[0]) if close else ""
