# SPDX-License-Identifier: Apache-2.0
"""What an adapter changes a weight by, against the published formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loraforge import Adapter

RANDOM = np.random.default_rng(0)


def numbers(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def lokr(first, second, conv):
    """(tensors, delta): kron(w1, w2) of a (6 x 4) by (5 x 3) layer, with a kernel of 2 x 2 if ``conv``."""
    parts = {"lokr_w1": numbers(6, 4)} if first == "whole" else {"lokr_w1_a": numbers(6, 2), "lokr_w1_b": numbers(2, 4)}
    w1 = parts.get("lokr_w1") if first == "whole" else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    kernel = (2, 2) if conv else ()
    if second == "whole":
        parts["lokr_w2"] = w2 = numbers(5, 3, *kernel)
    elif second == "pair":
        parts |= {"lokr_w2_a": numbers(5, 2), "lokr_w2_b": numbers(2, 3 * 2 ** len(kernel))}
        w2 = (parts["lokr_w2_a"] @ parts["lokr_w2_b"]).reshape(5, 3, *kernel)
    else:
        parts |= {"lokr_w2_a": numbers(2, 5), "lokr_w2_b": numbers(2, 3), "lokr_t2": numbers(2, 2, 2, 2)}
        w2 = sum(
            np.multiply.outer(np.outer(parts["lokr_w2_a"][i], parts["lokr_w2_b"][j]), parts["lokr_t2"][i, j])
            for i in (0, 1)
            for j in (0, 1)
        )
    blocks = [[w1[a, b] * w2 for b in range(4)] for a in range(6)]  # the block at (a, b) is w1[a, b] times the second factor
    return parts, np.concatenate([np.concatenate(row, axis=1) for row in blocks], axis=0)


def loha(core):
    parts, factors = {}, []
    for n in (1, 2):
        if core:
            a, b, t = numbers(2, 7), numbers(2, 5), numbers(2, 2, 3, 3)
            parts |= {f"hada_w{n}_a": a, f"hada_w{n}_b": b, f"hada_t{n}": t}
            factors.append(sum(np.multiply.outer(np.outer(a[i], b[j]), t[i, j]) for i in (0, 1) for j in (0, 1)))
        else:
            parts |= {f"hada_w{n}_a": numbers(7, 2), f"hada_w{n}_b": numbers(2, 5)}
            factors.append(parts[f"hada_w{n}_a"] @ parts[f"hada_w{n}_b"])
    return parts, factors[0] * factors[1]


CASES = {
    **{f"lokr-{first}-{second}-{conv}": ("lokr", lambda f=first, s=second, c=conv: lokr(f, s, c))
       for first in ("whole", "pair") for second, conv in (("whole", False), ("whole", True), ("pair", False), ("pair", True), ("core", True))},
    "loha": ("loha", lambda: loha(False)),
    "loha-core": ("loha", lambda: loha(True)),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_the_change_of_a_weight(case):
    kind, make = CASES[case]
    parts, wanted = make()
    tensors = {f"a.b.{name}": torch.tensor(value) for name, value in parts.items()}
    adapter = Adapter(tensors, 4, 6, ("b",), {}, "base", kind=kind)
    assert adapter.modules == ("a.b",)
    np.testing.assert_allclose(adapter.delta("a.b").numpy(), 1.5 * wanted.reshape(len(wanted), -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [(), (3, 2)])
def test_the_change_of_a_weight_by_a_lora(kernel):
    a, b = numbers(4, 5, *kernel), numbers(7, 4, *(1 for _ in kernel))
    adapter = Adapter({"m.lora_A.weight": torch.tensor(a), "m.lora_B.weight": torch.tensor(b)}, 4, 6, ("m",), {}, "base")
    wanted = 1.5 * b.reshape(7, 4) @ a.reshape(4, -1)
    assert adapter.modules == ("m",) and adapter.kind == "lora"
    np.testing.assert_allclose(adapter.delta("m").numpy(), wanted, rtol=1e-4, atol=1e-5)
