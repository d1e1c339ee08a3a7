# SPDX-License-Identifier: Apache-2.0
"""Adapters in PEFT's layout: what is written is what peft reads, what peft wrote is read, and nothing damaged is taken."""

from __future__ import annotations

import dataclasses
import json
import math

import peft
import pytest
import safetensors.torch
import torch

from loraforge import Adapter, ExportError, RunError
from loraforge.adapters import peft_format
from loraforge.adapters.peft_format import differs, probe, read_peft, refuse, verify, write_peft


def adapter(**more) -> Adapter:
    """Two linear layers of rank 4 and 2, and a convolution of rank 4; alpha / rank is 3 / 4."""
    torch.manual_seed(0)
    tensors = {}
    for name, rank, wide, high, tail in (("a.q", 4, 6, 5, ()), ("a.v", 2, 6, 3, ()), ("b.conv", 4, 3, 7, (3, 3))):
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, wide, *tail)
        tensors[f"{name}.lora_B.weight"] = torch.randn(high, rank, *([1] * len(tail)))
    made = Adapter(tensors=tensors, rank=4, alpha=3, targets=("q", "v", "conv"), probes={}, base_model="org/base", ranks={"a.v": 2}, **more)
    return dataclasses.replace(made, probes={name: probe(name, delta(made, name)) for name in ("a.q", "a.v", "b.conv")})


def delta(made: Adapter, name: str) -> torch.Tensor:
    a, b = (made.tensors[f"{name}.lora_{part}.weight"].flatten(1) for part in "AB")
    return 0.75 * (b @ a)


# --- probes ------------------------------------------------------------------------------------------------------------------


def test_a_probe_is_a_projection_that_follows_from_the_name():
    one, other = torch.randn(5, 7), torch.randn(5, 7)
    assert probe("x", one).shape == (16,) and torch.equal(probe("x", one), probe("x", one))
    torch.testing.assert_close(probe("x", one + 2 * other), probe("x", one) + 2 * probe("x", other))
    assert not torch.allclose(probe("x", one), probe("y", one)) and not torch.allclose(probe("x", one), probe("x", other))
    # Each row of the projection sees every entry.
    for place in ((0, 0), (4, 6), (2, 3)):
        single = torch.zeros(5, 7)
        single[place] = 1.0
        assert (probe("x", single) != 0).all()


@pytest.mark.parametrize(
    ("factor", "other"), [(1.0, False), (1 + 5e-5, False), (1 - 5e-5, False), (1 + 2e-4, True), (-1.0, True), (math.nan, True)]
)
def test_what_counts_as_another_weight_change(factor, other):
    made = adapter()
    assert differs(made, "a.q", delta(made, "a.q") * factor) is other
    assert differs(made, "unknown", torch.zeros(2, 2)) is False


def test_a_layer_that_learned_nothing_has_to_stay_so():
    made = dataclasses.replace(adapter(), probes={"a.q": torch.zeros(16)})
    assert differs(made, "a.q", torch.zeros(5, 6)) is False and differs(made, "a.q", torch.full((5, 6), 1e-9)) is True


def test_every_module_is_verified_and_the_first_five_are_named():
    made = adapter()
    verify(made)
    for name in ("a.q", "a.v", "b.conv"):
        spoiled = {**made.tensors, f"{name}.lora_A.weight": made.tensors[f"{name}.lora_A.weight"] * 1.001}
        with pytest.raises(ExportError, match=f"differ: {name}$"):
            verify(dataclasses.replace(made, tensors=spoiled))
    refuse([])
    with pytest.raises(ExportError, match="differ: 0, 1, 2, 3, 4$"):
        refuse([*"01234"])
    with pytest.raises(ExportError, match=r"differ: 0, 1, 2, 3, 4 \.\.\.$"):
        refuse([*"012345"])


# --- writing and reading -------------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_peft_reads(tmp_path):
    facts = {"revision": "main", "peft_task_type": "CAUSAL_LM", "config": {"path": "/home"}, "note": "中文"}
    made = adapter(facts=facts, files={"b.txt": b"two", "a.txt": b"one"})
    write_peft(made, tmp_path / "deep" / "a")
    folder = tmp_path / "deep" / "a"
    read = peft.PeftConfig.from_pretrained(str(folder))
    assert (read.r, read.lora_alpha, read.rank_pattern, read.alpha_pattern) == (4, 3, {"a.v": 2}, {"a.v": 1.5})
    assert (set(read.target_modules), read.base_model_name_or_path, read.revision) == ({"q", "v", "conv"}, "org/base", "main")
    assert (read.task_type, read.peft_type, read.bias, read.lora_dropout) == ("CAUSAL_LM", "LORA", "none", 0.0)
    assert read.inference_mode and read.init_lora_weights is True
    assert not (read.use_dora or read.use_rslora or read.fan_in_fan_out or read.modules_to_save)
    text = (folder / "loraforge.json").read_text(encoding="utf-8")
    own = json.loads(text)
    assert own["facts"] == {k: v for k, v in facts.items() if k != "config"} and "中文" in text and own["files"] == ["a.txt", "b.txt"]
    assert list(own["probes"]) == ["a.q", "a.v", "b.conv"] and own["base_model"] == "org/base"
    again = read_peft(folder)
    for field in ("rank", "alpha", "ranks", "base_model", "dora", "files"):
        assert getattr(again, field) == getattr(made, field), field
    assert again.targets == ("conv", "q", "v") and again.base_folder == "org/base" and again.facts == own["facts"]
    assert again.tensors.keys() == made.tensors.keys() and all(torch.equal(again.tensors[n], t) for n, t in made.tensors.items())
    assert all(torch.allclose(again.probes[name], values, rtol=1e-6) for name, values in made.probes.items())
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    write_peft(made, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files, "equal adapters are equal files"
    write_peft(dataclasses.replace(made, base_folder="/模型"), tmp_path / "b")
    assert "/模型" in (tmp_path / "b" / "adapter_config.json").read_text(encoding="utf-8")
    write_peft(dataclasses.replace(made, base_folder="/where/it/is"), tmp_path / "b")
    assert peft.PeftConfig.from_pretrained(str(tmp_path / "b")).base_model_name_or_path == "/where/it/is"


def test_a_file_that_would_do_something_else_is_not_left_in_silence(tmp_path):
    made = adapter()
    with pytest.raises(ExportError, match=r"a\.v"):
        write_peft(dataclasses.replace(made, probes={**made.probes, "a.v": made.probes["a.q"]}), tmp_path)


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.one, self.two, self.three = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(
    ("ranks", "alphas"),
    [({}, {}), ({"two": 2}, {}), ({}, {"two": 7}), ({"two": 2, "three": 6}, {"three": 9}), ({"t.*": 2, "three": 6}, {"t.*": 1, "two": 12})],
)
def test_ranks_and_scales_of_their_own_are_read_as_peft_applies_them(tmp_path, rslora, ranks, alphas):
    config = peft.LoraConfig(
        r=4, lora_alpha=5, use_rslora=rslora, target_modules=["one", "two", "three"], rank_pattern=ranks, alpha_pattern=alphas,
        init_lora_weights=False,
    )  # fmt: skip
    model = peft.get_peft_model(Two(), config)
    model.save_pretrained(tmp_path)
    read = read_peft(tmp_path)
    for name in ("one", "two", "three"):
        a, b = (read.tensors[f"{name}.lora_{part}.weight"] for part in "AB")
        wanted = getattr(model.base_model.model, name).get_delta_weight("default").detach()
        torch.testing.assert_close(read.alpha / read.rank * b @ a, wanted)
        assert read.ranks.get(name, read.rank) == a.shape[0] and read.ranks.get(name) != 4
    assert read.rank == 4 and isinstance(read.alpha, int) and read.alpha == (10 if rslora else 5)
    assert read.probes == {} and read.facts == {} and read.files == {} and set(read.targets) == {"one", "two", "three"}


def test_the_smallest_scale_is_one_over_rank(tmp_path):
    """An alpha below a half is not rounded to nothing."""
    write(tmp_path, lora_alpha=0.25)
    read = read_peft(tmp_path)
    assert read.alpha == 1
    torch.testing.assert_close(read.tensors["m.lora_B.weight"] / 4, torch.full((3, 4), 0.25 / 4))


# --- what is not taken ---------------------------------------------------------------------------------------------------------

USUAL = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["m"]}
PAIR = {"m.lora_A.weight": torch.ones(4, 5), "m.lora_B.weight": torch.ones(3, 4)}


def write(folder, tensors=PAIR, own=None, **config) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({**USUAL, **config}), encoding="utf-8")
    safetensors.torch.save_file({f"base_model.model.{k}": v for k, v in tensors.items()}, folder / "adapter_model.safetensors")
    if own is not None:
        (folder / "loraforge.json").write_text(json.dumps(own), encoding="utf-8")


@pytest.mark.parametrize(
    "config",
    [{}, {"lora_alpha": 0.5}, {"lora_alpha": 2**31 - 1}, {"target_modules": "m"}, {"target_modules": None}, {"alpha_pattern": None},
     {"alpha_pattern": {"m": 0.5}}, {"base_model_name_or_path": None}, {"modules_to_save": None}, {"rank_pattern": {"other": 9}}],
)  # fmt: skip
def test_the_usual_forms_are_read(tmp_path, config):
    write(tmp_path, **config)
    read = read_peft(tmp_path)
    assert read.rank == 4 and read.targets == (() if config.get("target_modules", 1) is None else ("m",)) and read.base_model == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [("r", 0), ("r", -1), ("r", True), ("r", 4.0), ("r", "4"), ("r", None), ("r", 2**31), ("lora_alpha", 0), ("lora_alpha", -1.0),
     ("lora_alpha", math.nan), ("lora_alpha", math.inf), ("lora_alpha", 2**31), ("lora_alpha", 10**400), ("lora_alpha", True), ("lora_alpha", "8"),
     ("alpha_pattern", {"m": math.inf}), ("alpha_pattern", {"m": 0}), ("alpha_pattern", {"m": "1"}), ("alpha_pattern", {"m(": 1}),
     ("alpha_pattern", ["m"]), ("rank_pattern", {"m": math.nan}), ("rank_pattern", {"m": True}), ("target_modules", [1]), ("target_modules", 1),
     ("base_model_name_or_path", 1)],
)  # fmt: skip
def test_an_entry_of_another_form_is_named(tmp_path, key, value):
    write(tmp_path, **{key: value})
    with pytest.raises(RunError, match=f"cannot be read: '{key}' in adapter_config.json is"):
        read_peft(tmp_path)


@pytest.mark.parametrize(
    ("own", "named"),
    [({"probes": {"m": [0.0] * 15}}, "probes"), ({"probes": {"m": [0.0] * 17}}, "probes"), ({"probes": {"m": ["0"] * 16}}, "probes"),
     ({"probes": {"m": "0" * 16}}, "probes"), ({"probes": []}, "probes"), ({"files": "a"}, "files"), ({"files": [1]}, "files"),
     ({"facts": []}, "facts"), ({"base_model": 1}, "base_model")],
)  # fmt: skip
def test_an_entry_of_ours_of_another_form_is_named(tmp_path, own, named):
    write(tmp_path, own=own)
    with pytest.raises(RunError, match=f"cannot be read: '{named}' in loraforge.json is"):
        read_peft(tmp_path)


def test_what_stands_beside_is_read_and_nothing_outside(tmp_path):
    (tmp_path / "outside.txt").write_bytes(b"secret")
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "in.txt").write_bytes(b"in")
    (folder / "dir").mkdir()
    write(
        folder,
        own={"files": ["in.txt", "../outside.txt", "gone.txt", "dir"], "facts": {"a": 1}, "probes": {"m": [1] * 16}, "base_model": "b"},
    )
    read = read_peft(folder)
    assert (read.files, read.facts, read.base_model) == ({"in.txt": b"in"}, {"a": 1}, "b") and read.probes["m"].shape == (16,)
    for own in ([], "x", 1):
        write(folder, own=own)
        with pytest.raises(RunError, match="loraforge.json is no JSON object"):
            read_peft(folder)


@pytest.mark.parametrize(
    ("config", "what"),
    [({"peft_type": "OFT", "r": None}, "OFT"), ({"modules_to_save": ["head"]}, "modules_to_save"), ({"layer_replication": [[0, 1]]}, "layer_replication"),
     ({"modules_to_save": ["x"], "layer_replication": [1]}, "modules_to_save, layer_replication")],
)  # fmt: skip
def test_another_kind_of_adapter_is_named(tmp_path, config, what):
    write(tmp_path, **config)
    with pytest.raises(RunError, match=f"only LoRA, LoKr and LoHa adapters can be read; this one has {what}"):
        read_peft(tmp_path)


A, B = torch.ones(4, 5), torch.ones(3, 4)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"m.lora_A.weight": A}, r"the pair of m is - x \(4, 5\), not of rank 4"),
        ({"m.lora_B.weight": B}, r"the pair of m is \(3, 4\) x -, not of rank 4"),
        ({"m.lora_A.weight": A[:3], "m.lora_B.weight": B}, "not of rank 4"),
        ({"m.lora_A.weight": A, "m.lora_B.weight": B[:, :3].contiguous()}, "not of rank 4"),
        ({"m.lora_A.weight": A[:3], "m.lora_B.weight": B[:, :3].contiguous()}, "not of rank 4"),
        ({"m.lora_A.weight": A[..., None], "m.lora_B.weight": B[..., None]}, "not of rank 4"),
        ({"m.lora_A.weight": A[..., None, None], "m.lora_B.weight": B}, "not of rank 4"),
        ({"m.lora_A.weight": A[:, :0].contiguous(), "m.lora_B.weight": B}, "not of rank 4"),
        ({"m.lora_A.weight": A, "m.lora_B.weight": B[:0].contiguous()}, "not of rank 4"),
        ({"m.lora_A.weight": A, "m.lora_B.weight": B * math.nan}, "m.lora_B.weight holds values that are not numbers"),
        ({"m.lora_A.weight": A * math.inf, "m.lora_B.weight": B}, "m.lora_A.weight holds values that are not numbers"),
        ({"m.lora_A.weight": A.long(), "m.lora_B.weight": B}, "m.lora_A.weight holds values that are not numbers"),
        ({**PAIR, "m.lora_embedding_A": A}, "only plain LoRA adapters can be read; this one has m.lora_embedding_A"),
        ({**PAIR, "head.weight": A}, "this one has head.weight"),
        ({}, "there is no tensor in it"),
    ],
)
def test_weights_that_are_no_pairs_are_named(tmp_path, tensors, told):
    write(tmp_path, tensors)
    with pytest.raises(RunError, match=told):
        read_peft(tmp_path)


def test_convolutions_half_precision_and_magnitudes_are_read(tmp_path):
    conv = {"m.lora_A.weight": torch.ones(4, 5, 3, 3).half(), "m.lora_B.weight": torch.ones(3, 4, 1, 1).bfloat16()}
    write(tmp_path, {**conv, "m.lora_magnitude_vector": torch.ones(3)}, use_dora=True)
    read = read_peft(tmp_path)
    assert read.dora and {t.dtype for t in read.tensors.values()} == {torch.float32} and len(read.tensors) == 3


@pytest.mark.parametrize(
    ("module", "value"), [("x.two", 2), ("two", 2), ("xtwo", 1), ("two.x", 1), ("a.two", 2), ("a.three", 9), ("three", 3), ("", 1)]
)
def test_a_pattern_means_the_end_of_a_name_and_the_first_that_fits_counts(module, value):
    from peft.utils.other import get_pattern_key

    patterns = {"two": 2, r"a\..*": 9, "three": 3}
    assert peft_format._for_module(patterns, module, 1) == value == patterns.get(get_pattern_key(list(patterns), module), 1)
    assert peft_format._for_module(None, module, 1) == 1 == peft_format._for_module({".*": 5}, "", 1)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for missing in ("adapter_config.json", "adapter_model.safetensors"):
        write(tmp_path)
        (tmp_path / missing).unlink()
        with pytest.raises(RunError, match=f"no adapter folder: it has no {missing}"):
            read_peft(tmp_path)


def test_a_file_in_place_of_a_folder_is_called_what_it_is(tmp_path):
    file = tmp_path / "style.safetensors"
    file.write_bytes(b"weights")
    with pytest.raises(RunError, match="is no adapter folder") as caught:
        read_peft(file)
    assert "Errno" not in str(caught.value)
