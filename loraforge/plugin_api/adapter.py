# SPDX-License-Identifier: Apache-2.0
"""``Adapter``: what a run has learned, detached from its model. torch is imported by the methods that compute."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# What stands after a module's name in ``Adapter.tensors``; of a LoRA each module has one A.
_FIRST = {"lora": re.compile(r"\.lora_A\.weight$"), "lokr": re.compile(r"\.lokr_[wt]\d\w*$"), "loha": re.compile(r"\.hada_[wt]\d\w*$")}


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, detached from its model.

    For every adapted module ``m`` the change of the weight is ``alpha / rank`` times a product of a few tensors, which is what ``delta``
    computes. Which product it is, ``kind`` says; the tensors have peft's names.

    - ``lora``: ``B @ A`` with ``A = tensors[m + ".lora_A.weight"]`` of shape (rank, in) and ``B = tensors[m + ".lora_B.weight"]`` of shape
      (out, rank). Scales of other kinds (rsLoRA, PiSSA) are already folded in, so that a reader that knows only alpha / rank is right.
      DoRA alone keeps ``m + ".lora_magnitude_vector"``. A convolution's ``A`` is (rank, in, height, width) and its ``B`` (out, rank, 1, 1).
    - ``lokr``: ``kron(w1, w2)``, each a matrix of its own (``.lokr_w1``) or the product of two (``.lokr_w1_a`` @ ``.lokr_w1_b``); of a
      convolution ``w2`` may be (c, d, height, width), or be made of three with ``.lokr_t2`` (LyCORIS, arXiv:2309.14859).
    - ``loha``: ``(w1_a @ w1_b) * (w2_a @ w2_b)``, ``.hada_w1_a`` and so on, of a convolution also with ``.hada_t1`` and ``.hada_t2``
      (FedPara, arXiv:2108.06098).

    Attributes:
        tensors: float32 tensors on the CPU, by name.
        rank: the number of rows of every ``A`` but those in ``ranks``. The scale alpha / rank is the same for all.
        alpha: the numerator of the scale; always a whole number, because some readers parse it as one.
        ranks: the modules that have another rank, with that rank.
        targets: the shortest names that select exactly the adapted modules (``q_proj``), sorted.
        parameters: the modules that peft has to be told by their weight, as it takes their names for fused experts' (see
            ``adapters.exact_names``); ``targets`` are full names then.
        probes: for every adapted module, what the trained model's own weight change does to a fixed input (see ``lora.probe``);
            a file is compared with it before it is handed over.
        base_model: what the YAML said.
        base_folder: where the base lay when the adapter was opened; None if it is not known.
        kind: lora, lokr or loha. An exporter is given the kinds that it names in ``Exporter.kinds``.
        options: what peft's config needs beside rank and alpha to make layers for these tensors: LoKr's ``decompose_factor``.
        facts: what else a reader should know: task, family, template, how it was trained (``config``). Plain JSON values.
        files: small files that travel with it, by name: ``preview.png``.
    """

    tensors: Mapping[str, Tensor]
    rank: int
    alpha: int
    targets: tuple[str, ...]
    probes: Mapping[str, Tensor]
    base_model: str
    base_folder: str | None = None
    dora: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    kind: str = "lora"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the adapted modules, sorted."""
        first = _FIRST[self.kind]
        return tuple(sorted({name[: found.start()] for name in self.tensors if (found := first.search(name))}))

    def delta(self, module: str) -> Tensor:
        """The change of the weight of ``module``, in the tensors' own precision: (out, in), of a convolution (out, in x height x width) in
        the order of its weight. DoRA's is without the magnitude.

        Raises:
            KeyError: if a factor lacks.
            RuntimeError: torch's own, if two of them do not fit.
        """

        def part(name: str) -> Tensor | None:
            return self.tensors.get(f"{module}.{name}")

        scale = self.alpha / self.rank
        if self.kind == "lora":
            b, a = self.tensors[f"{module}.lora_B.weight"], self.tensors[f"{module}.lora_A.weight"]
            return scale * b.flatten(1) @ a.flatten(1)
        return scale * (_kronecker(part) if self.kind == "lokr" else _hadamard(part))


def _given(part: Callable[[str], Tensor | None], name: str) -> Tensor:
    found = part(name)
    if found is None:
        raise KeyError(name)
    return found


def _kronecker(part: Callable[[str], Tensor | None]) -> Tensor:
    """LoKr: the Kronecker product of two factors, which may be products themselves."""
    import torch

    first, second, core = part("lokr_w1"), part("lokr_w2"), part("lokr_t2")
    if first is None:
        first = _given(part, "lokr_w1_a") @ _given(part, "lokr_w1_b")
    if second is None:
        a, b = _given(part, "lokr_w2_a"), _given(part, "lokr_w2_b")
        second = a @ b if core is None else torch.einsum("ijkl,ip,jr->prkl", core, a, b)
    if second.ndim == 4:
        first = first[:, :, None, None]
    return torch.kron(first, second.contiguous()).flatten(1)


def _hadamard(part: Callable[[str], Tensor | None]) -> Tensor:
    """LoHa: two low-rank products, multiplied number by number."""
    import torch

    factors = []
    for number in (1, 2):
        a, b, core = _given(part, f"hada_w{number}_a"), _given(part, f"hada_w{number}_b"), part(f"hada_t{number}")
        factors.append(a @ b if core is None else torch.einsum("ijkl,jr,ip->prkl", core, b, a))
    return (factors[0] * factors[1]).flatten(1)
