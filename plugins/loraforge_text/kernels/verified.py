# SPDX-License-Identifier: Apache-2.0
"""The programs of transformers that were read, and that our kernels replace or rely on, by the digest of their statements.

transformers generates most of its models from a few: 142 norms share one forward pass, 127 gated blocks another. Each digest below is of a
forward pass whose statements somebody has read, with what they must not do: a norm or a block works on each token by itself; an attention
hands all that tokens know of each other to the attention function that is registered by name; all hand on what they do not know themselves
(StableLM's layers drop it, so its attention would never hear of rows). Whatever is not here is left to the library.
A class that transformers changes gets another digest and is left to the library too, until somebody has read it:

    python -m loraforge_text.kernels.verified llama qwen3

prints the digests and statements of a model type's classes, and whether they are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from loraforge.kernels import program


def _digests(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# The same programs as transformers 5.0 to 5.23 wrote them: other names for the cache, positions as a product, no function that cuts the
# hidden states. Read beside those below.
_EARLIER = {
    "heads": _digests(
        "1b177111ae78d254 2218413881295e49 36a5f0c0775fdd58 4888ac20379e89f3 53d9010d999e20d1 54291ab4dc899c1c 5d24c580650ed3d6 "
        "68694a8f979b8bdc 6d044bbac0710388 99af26e2c54737a1 9bb53563549eeb27 9bdda1be100ec94f a90a395d26349574 c2a3d4aa84077dce "
        "dc40956d04b66483 f27668f33910885d f9f72957617c9809"
    ),
    "capped heads": _digests("2d0e4f09aa4af06c ab8731295151cdf2 ed69ca8ddb95d8c0"),
    "scaled heads": _digests("1977772af35f6123 20b3fe314c0453f4 5c323f1e87bd704a 6c5123add2ae40cd aba32d3551ae493d f6e1d19ad4da394d"),
    "plain layers": _digests("1a8125909341e389 9d0bf910095bf025"),
    "feed forward": _digests("45cfcb6c7b0feea7 56b390882f2d9ed4 9f3f4ace6905f300 c06ef4e143e65471 e7aef0c2abf5f6a2"),
    "layers": _digests(
        "037e38b7741530d3 1d6c4f3544678205 4094d191e8a6de0a 47f108ddd2453482 4ac568ddf405a5f0 6e3e5d565dd58ac8 7fe7181e32c74b74 "
        "866e043de2ac886e 8f384a034dff3ad1 9469804e4de490be a67cc23622c42460 ac1f011f50c3b86c bb8119d990e32de7 be888a3333f01797 "
        "c559e06fb9ccf563 d099670e697390a8 d4699009e63a2518 d4836c99d5b2b4c6 df580f10cfd4279e e55c5b6b3ebaa1ab eb03c623c021985a "
        "fc5387da9e4c6aa5"
    ),
    "positions": _digests(
        "251534c899dd9e9f 41fa1ae8ff69941f 850717ea685935b4 c3079aefb9704cc5 cd41311919707819 dcb818f9e8affb03 ee6612337e0fff82 "
        "f6d06fb3fc92565d fc8a3fa81b8efa36"
    ),
    "windowed": _digests(
        "0a88802c2838d189 0bf1e71cd24fd740 1f81dd329f684662 3af0033ee000bdd2 3b17dc0c6dec9b96 4303b9d12716b783 4b0e9f754d114703 "
        "5c514af68ddf0777 67774a5e66c0e1f4 6e068777ed465cac 72641f7bde727a39 74e8ddbb2c30c2e6 812f16f034260f80 95cd53c564839392 "
        "9fd52adda2db73b6 b0ad2d337f1e8b2e e3c2d13e4a77c913 fcb77c19d050f84a"
    ),
    "unwindowed": _digests(
        "1fe81bfb1719d8bd 1fead545f3af3cf7 282b2ffc67b71719 3ebed8db3c7bc93e 6b855e834678af22 70f2756c5e7d9e77 a685bc36d0163826 "
        "affafaecd078079d b9697fa03dc20125 c4669a9c8d2c547b e346bb05ed4412fe ea49972a84d2a555 ec8ea81bdb711ea2 ee9b11aafecd166c "
        "f20a8641bde43c7b f61d5889ca3637d4 fa2f220d6a34590c"
    ),
    "causal models": _digests(
        "0a3474e701f9cd62 190db0d2b852a877 416acff248c65992 607fef072d27711e 60b9739df740ca90 6aa72bd0ffcc3ebc 73c776f3183fd618 "
        "7bfabb618a981cf7 80e8a778ad12db96 8c24b9f9c13e682e 8e9282971cfa47b9 b850f5cf0db5c282 baff1526252a96c6 c14045096ff3bf7b "
        "d6da85edab235cb4 ea265d1881052bbf eebc6356fe8d5836 f4bce4af5618f57a"
    ),
    "windowed models": _digests(
        "0d425b3b0cf9ea39 1157de2f8e660a07 128b85c21ad2ae7c 31a2a6f7a2ce86ca 3e106c8cfc95b78a 49d68f42ba793e75 4a135640499555a2 "
        "7082cc645fa7709b 74067ab07ba4afe5 81a6ff11f7206ce3 851e9999148b6cd5 b12feaa9a468175c fd456123d5d78c1f"
    ),
}

# weight * (x / rms(x)).to(dtype of x), the first in float32, with ``variance_epsilon``: what ``fast_blocks`` computes.
RMS_NORM = frozenset({"9635bcd843f309a0"})
# down_proj(act_fn(gate_proj(x)) * up_proj(x)), and SiLU as a module: the same.
GATED = frozenset({"7d2027d4464e3e71"})
SILU = frozenset({"e730f54291b81588"})

# The logits are the head of the last hidden states and nothing else; CAPPED are so where no soft cap is set.
HEADS = (
    frozenset({"c5672eb4025393d3", "16288d46547b269a", "5c163749e68c48e4", "9072bcc3414b7b50", "e1c10627dd03200d", "c1e58a861554ccf2"})
    | _EARLIER["heads"]
)
CAPPED_HEADS = frozenset({"4819accc9ce6275f"}) | _EARLIER["capped heads"]
# The same with a constant factor, which may as well stand before a head without bias.
SCALED_HEADS = frozenset({"39a6643152ea4b32", "7955de2c63402ea0"}) | _EARLIER["scaled heads"]

# Pre-norm layers without dropout: x + attention(norm(x)), then x + mlp(norm(x)). What ``last_layer`` computes for some positions only.
PLAIN_LAYERS = frozenset({"625e5c2cd738f124"}) | _EARLIER["plain layers"]

_NORMS = RMS_NORM | {"2dad5f5760750e09", "ec976d1bff6235ff", "eef4e978a32aa4a4", "b8440eb33e1a94ab", "b6d7ab076811b6bb"}
_FEED_FORWARD = (
    GATED
    | {
        *("d52dc7c02b15aa1c", "e8d404cbecb96285", "0b6a7b1ab2be0f92", "81bc4bc569be56c2", "ecad2648c964e712", "07bca05e110aca0f"),
        *("13885f42f2bbb7aa", "24ed32eb8cb32194", "a229bab296e899d7", "99cc8ec3bb8e23aa", "bb8252a71831e46d", "bfaa8bbbaf2564e5"),
        *("af5142f06f49b790", "41ab05398d2adda7"),
    }
    | _EARLIER["feed forward"]
)
_ACTIVATIONS = SILU | {"618093a6bcb89521", "9d0b9dd7175386e1", "daeb651d4a935f98", "e918e504bff2ecac", "2de078e4b215d5ec"}
_LAYERS = (
    PLAIN_LAYERS
    | {
        *("d38577d49ced2a2f", "9e2d281758608b92", "bf5a509ce04c44c5", "5cbb48e16f7edcbf", "e1d5dec28ce20ef7"),
        *("5ae6fa9dbe03cb0f", "34153000209dc32b", "99046d450f64ab2e", "ee6a0682493b5d93", "91869d350d610865", "823c366502c87209"),
    }
    | _EARLIER["layers"]
)
_POSITIONS = frozenset({"6344fc8ca69b0494", "29e8c250af50c316", "6be2fc82354bd930", "5953d00adf74cde3"}) | _EARLIER["positions"]
# Attention that hands its window on to the attention function, and attention that has none.
_WINDOWED = frozenset({
    *("01bdd254b187aa57", "056366e2852ef809", "7bb942e5fb711359", "6c16831fb6cf54c3", "9c49b9c429efe647", "85e2caf53a5339ee"),
    *("1df293d0b6ce3e34", "78cde3c52fda7729", "c68451bdabaaba56"),
}) | _EARLIER["windowed"]  # fmt: skip
_UNWINDOWED = frozenset({
    *("c1547c34335ea2e3", "72a35d2d7467a05a", "3a8d1909bcb82f98", "a2f4d81d2a61a932", "363ad45fdd315bf4", "57cfc217c9447675"),
    *("1a60873314d0cc78", "404b39f214e47689", "fc1f06dccf486810"),
}) | _EARLIER["unwindowed"]  # fmt: skip
# Models that mask what lies behind a token, and those that may mask what lies before a window too.
_CAUSAL_MODELS = frozenset({
    *("5f6dfc0858316e10", "21e59a592baf06a0", "f9faa54a4d743ac1", "dae7b8d95353470c", "00111a9534c4e106", "d824a8b757fe5c70"),
    *("eb6dc1d40aadeaae", "2fb1a45482ff0cf2"),
}) | _EARLIER["causal models"]  # fmt: skip
_WINDOWED_MODELS = frozenset({
    *("2ec69e564e96a336", "08f457854c4190b0", "1e7467924a2cc503", "ae4b57a0c43fbcbc", "32430960d144196f", "fe3897da6bf1327e"),
}) | _EARLIER["windowed models"]  # fmt: skip
_PER_TOKEN = _NORMS | _FEED_FORWARD | _ACTIVATIONS | _LAYERS | _POSITIONS | HEADS | CAPPED_HEADS | SCALED_HEADS
# torch's own modules that work on each token by itself.
_TORCH = (
    *(nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.Dropout, nn.Identity, nn.SiLU, nn.GELU, nn.ReLU, nn.Tanh),
    *(nn.ModuleList, nn.ModuleDict, nn.ParameterDict, nn.ParameterList),
)


def is_one_of(module: nn.Module, programs: frozenset[str]) -> bool:
    """Whether the forward pass of ``module`` is one of these programs, statement for statement, and nobody has put another around it."""
    return "forward" not in vars(module) and program.digest(type(module).forward) in programs


def keeps_rows_apart(model: Any) -> bool:
    """Whether tokens of ``model`` see each other in the registered attention function alone, and all of its masks are causal or windows
    that the attention function is told of: then rows may lie end to end.

    Modules that are ours, or that peft has put around a verified one, count as what they are put around.
    """
    windows = windowed = unwindowed = False
    for module in model.modules():
        kind = type(module)
        if kind in _TORCH or kind.__module__.startswith(("peft.", "loraforge", "bitsandbytes.")):
            continue
        digest = program.digest(kind.forward)
        if digest in _WINDOWED_MODELS:
            windows = True
        elif digest in _UNWINDOWED:
            unwindowed = True
        elif digest in _WINDOWED:
            windowed = True
        elif digest not in _PER_TOKEN | _CAUSAL_MODELS:
            return False
        if getattr(module, "is_causal", True) is not True or "forward" in vars(module):
            return False
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) is not None
    if window and windowed and not windows:
        return False  # the attention would be told of a window that the model's own mask does not have
    if getattr(config, "use_sliding_window", True) is False and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return False  # and here the other way round
    if _follows_length(getattr(config, "rope_parameters", None)):
        return False
    if getattr(config, "use_bidirectional_attention", None) or getattr(config, "is_encoder_decoder", False):
        return False
    return not (windows and unwindowed)


def _follows_length(rope: Any) -> bool:
    """Whether these settings of rotary positions choose frequencies by the longest row: a short one beside it would have them too."""
    if not isinstance(rope, Mapping):
        return False
    kind = str(rope.get("rope_type", ""))
    return "dynamic" in kind or kind == "longrope" or any(_follows_length(part) for part in rope.values())


def head_stands_last(model: Any, bias: bool) -> bool:
    """Whether the logits of ``model`` are its head applied to the last hidden states, or to a multiple of them, and nothing more.

    Args:
        bias: whether the head has one.
    """
    if is_one_of(model, HEADS) or (is_one_of(model, SCALED_HEADS) and not bias):
        return True
    return is_one_of(model, CAPPED_HEADS) and getattr(model.config.get_text_config(), "final_logit_softcapping", None) is None


def main(model_types: list[str]) -> None:
    """Prints what the classes of model types do, and whether it is known."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    known = _PER_TOKEN | _WINDOWED | _UNWINDOWED | _CAUSAL_MODELS | _WINDOWED_MODELS
    for model_type in model_types:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type]())
        for kind in dict.fromkeys(type(module) for module in model.modules() if not type(module).__module__.startswith("torch.")):
            digest = program.digest(kind.forward)
            print(f"{digest} {'known' if digest in known else 'UNKNOWN'} {kind.__name__}\n{program.statements(kind.forward)}\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
