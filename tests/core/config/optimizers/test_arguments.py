# SPDX-License-Identifier: Apache-2.0
"""``optimizer_args``: as other trainers write them, typed, and held against the optimizer's own signature."""

from __future__ import annotations

import inspect

import pytest

from loraforge import RunConfig
from loraforge.config.optimizers.arguments import problems, read, signature
from loraforge.config.optimizers.profiles import PROFILES
from loraforge.training.optimizers import _kind


def listed(value) -> list[str]:
    return RunConfig(train_data_dir=".", base_model="x", optimizer_args=value).optimizer_args


@pytest.mark.parametrize("name", [name for name in PROFILES if name != "muon"])
def test_the_signature_is_that_of_the_class(name):
    """Read from the source; here beside the imported class."""
    known = [one for one in inspect.signature(_kind(name).__init__).parameters if one not in ("self", "params")]
    assert list(signature(name)) == known


def test_muons_signature():
    import torch

    assert list(signature("muon")) == [
        one for one in inspect.signature(torch.optim.Muon.__init__).parameters if one not in ("self", "params")
    ]


@pytest.mark.parametrize(
    ("entry", "value"),
    [("decouple=True", True), ("decouple = false", False), ("d_coef=2", 2), ("d_coef=1e-3", 1e-3), ("d_coef=.5", 0.5), ("beta3=None", None),
     ("betas=0.9,0.99", (0.9, 0.99)), ("betas=(0.9, 0.99)", (0.9, 0.99)), ("betas=[0.9,0.99]", (0.9, 0.99)), ("x='a b'", "a b"),
     ("growth_rate=inf", float("inf")), ("adjust_lr_fn=original", "original"), ("x=-3", -3)],
)  # fmt: skip
def test_a_value_is_what_python_takes_it_for(entry, value):
    values, wrong = read([entry])
    assert wrong == [] and list(values.values()) == [value] and type(next(iter(values.values()))) is type(value)


@pytest.mark.parametrize(
    "written",
    [["decouple=True", "betas=0.9,0.99"], "decouple=True betas=0.9,0.99", "decouple=True, betas=(0.9,0.99)", {"decouple": True, "betas": [0.9, 0.99]},
     "decouple=True，betas=0.9,0.99", [{"decouple": True}, {"betas": [0.9, 0.99]}], ["decouple=True", "betas=0.9", 0.99],
     ["decouple=True", "betas=(0.9", "0.99)"], ["decouple=True betas=0.9,0.99"]],
)  # fmt: skip
def test_lists_lines_and_mappings_say_the_same(written):
    assert read(listed(written)) == ({"decouple": True, "betas": (0.9, 0.99)}, [])


def test_what_sd_scripts_wikis_recommend_is_taken():
    """The lines that are passed around with Prodigy, Adafactor, Lion and AdamW."""
    for name, entries in {
        "prodigy": [
            "decouple=True",
            "weight_decay=0.01",
            "d_coef=2",
            "use_bias_correction=True",
            "safeguard_warmup=True",
            "betas=0.9,0.99",
        ],
        "adafactor": ["scale_parameter=False", "relative_step=False", "warmup_init=False", "clip_threshold=1.0", "eps=1e-30,1e-3"],
        "adamw_8bit": ["weight_decay=0.1", "betas=.9,.99", "eps=1e-8"],
        "lion": ["weight_decay=0.01", "betas=0.95,0.98"],
        "came": ["weight_decay=0.01", "betas=0.9,0.999,0.9999", "eps=1e-30,1e-16"],
        "schedule_free": ["r=0.5", "weight_lr_power=2", "foreach=True"],
        "muon": ["momentum=0.95", "nesterov=True", "ns_steps=5", "ns_coefficients=3.4445,-4.775,2.0315"],
        "adamw": ["amsgrad=True", "fused=False"],
    }.items():
        assert problems(name, entries) == [], name


@pytest.mark.parametrize(
    ("optimizer", "entry", "said"),
    [
        ("prodigy", "d_coeff=2", "prodigy has no 'd_coeff'. Did you mean 'd_coef'? It has: betas, beta3, eps,"),
        ("adamw", "decouple=True", "adamw has no 'decouple'."),
        ("prodigy", "decouple=maybe", "decouple: must be true or false; got 'maybe'"),
        ("prodigy", "d_coef=big", "d_coef: must be a number; got 'big'"),
        ("prodigy", "d_coef=-1", "d_coef: must be more than 0; got -1"),
        ("prodigy", "d_coef=inf", "d_coef: must be a finite number"),
        ("prodigy", "slice_p=2.5", "slice_p: must be a whole number; got 2.5"),
        ("prodigy", "growth_rate=0.5", "growth_rate: must be more than 1"),
        ("adamw", "betas=0.9", "betas: must be 2 numbers, like 0.9, 0.99; got 0.9"),
        ("came", "betas=0.9,0.99", "betas: must be 3 numbers, like 0.9, 0.99, 0.999; got 0.9,0.99"),
        ("adamw", "betas=0.9,1", "betas: must be less than 1; got 0.9,1"),
        ("schedule_free", "betas=0,0.99", "betas: must be more than 0"),
        ("adamw", "weight_decay=-1", "weight_decay: must be 0 or more"),
        ("adamw", "lr=1e-3", "lr: that is the key learning_rate"),
        ("schedule_free", "warmup_steps=10", "warmup_steps: that is the key warmup"),
        ("adafactor", "relative_step=True", "relative_step: learning_rate and lr_scheduler say what the rate is"),
        ("adamw", "maximize=True", "maximize: it is not for training adapters"),
        ("prodigy", "fsdp_in_use=True", "fsdp_in_use: it is not for training adapters"),
        ("muon", "adjust_lr_fn=best", "adjust_lr_fn: must be one of original, match_rms_adamw"),
        ("adamw", "0.9", "'0.9' must be of the form name=value"),
        ("adamw", "betas", "'betas' must be of the form name=value"),
        ("adamw", "eps=", "'eps=' must be of the form name=value"),
    ],
)
def test_what_is_wrong_is_said(optimizer, entry, said):
    (problem,) = problems(optimizer, [entry])
    assert problem.startswith("optimizer_args: ") and said in problem


def test_twice_and_against_the_key():
    assert problems("adamw", ["eps=1e-8", "eps=1e-6"]) == ["optimizer_args: eps is given twice"]
    assert problems("adamw", ["weight_decay=0.1"], 0.2) == ["weight_decay: 0.2 here and 0.1 in optimizer_args. Keep one of them."]
    assert problems("adamw", ["weight_decay=0.1"], 0.1) == problems("adamw", ["weight_decay=0.1"]) == []


def test_check_says_all_of_them_with_their_place(project, command):
    code, _, err = command("check", "text", project(optimizer="prodigy", optimizer_args=["d_coeff=2", "decouple=perhaps"], learning_rate=1))
    said = " ".join(err.split())
    assert code == 2 and said.count("config.yaml:") == 2 and "Did you mean 'd_coef'?" in said and "must be true or false" in said
