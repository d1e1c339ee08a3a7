# SPDX-License-Identifier: Apache-2.0
"""What a config has to know of an optimizer before torch is loaded, held against the packages themselves."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import get_args

import pytest

from loraforge import ConfigError, RunConfig
from loraforge.config.optimizers.profiles import PROFILES, missing, usual_rates
from loraforge.device import make_accelerator, require_optimizer


def config(**values) -> RunConfig:
    return RunConfig(train_data_dir=".", base_model="x", **values)


def test_every_name_has_a_profile_and_a_package():
    assert list(get_args(RunConfig.model_fields["optimizer"].annotation)) == list(PROFILES)
    assert [name for name in PROFILES if missing(name)] == []


@pytest.mark.parametrize("name", ["prodigy", "schedule_free", "lion", "came", "adamw_8bit"])
def test_a_missing_package_is_said_with_the_command_before_anything_is_loaded(name, monkeypatch, project, command):
    package, real = PROFILES[name].package, importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, *rest: None if asked == package else real(asked, *rest))
    code, _, err = command("check", "text", project(optimizer=name))
    assert code == 2 and f"needs the package {package}: pip install 'loraforge[" in " ".join(err.split())
    with pytest.raises(ConfigError, match=f"needs the package {package}"):
        require_optimizer(config(optimizer=name), "cpu")
    make_accelerator(config(optimizer=name))  # who only asks a trained run does without


def test_muon_wants_a_torch_that_has_it(monkeypatch, tmp_path):
    monkeypatch.setattr(type(PROFILES["muon"]), "folder", lambda self: tmp_path)
    assert "torch 2.9" in missing("muon") and missing("adamw") == ""


@pytest.mark.parametrize(
    ("version", "device", "fine"), [("0.47.0", "cpu", False), ("0.48.0", "cpu", True), ("0.45.3", "cuda", True), ("1.0.dev1", "cpu", True)]
)
def test_eight_bits_on_a_cpu_want_a_bitsandbytes_that_can(version, device, fine, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    if fine:
        require_optimizer(config(optimizer="adamw_8bit"), device)
    else:
        with pytest.raises(ConfigError, match=r"0.48 or newer on a CPU; this is 0.47.0"):
            require_optimizer(config(optimizer="adamw_8bit"), device)


def test_what_is_not_said_suits_the_optimizer_and_what_is_said_stays():
    assert (config().learning_rate, config().warmup, config().lr_scheduler) == (2e-4, 0.03, "cosine")
    prodigy = config(optimizer="prodigy")
    assert (prodigy.learning_rate, prodigy.warmup, prodigy.lr_scheduler) == (1.0, 0.0, "cosine")
    assert config(optimizer="schedule_free").lr_scheduler == "constant"
    assert config(optimizer="lion").learning_rate == pytest.approx(5e-5) and config(optimizer="came").learning_rate == pytest.approx(1e-4)
    given = config(optimizer="prodigy", learning_rate=0.5, warmup=0.1, lr_scheduler="linear")
    assert (given.learning_rate, given.warmup, given.lr_scheduler) == (0.5, 0.1, "linear")


def test_lions_rates_are_a_tenth_to_a_third_of_adamws():
    assert usual_rates("lion", (1e-4, 3e-4)) == pytest.approx((1e-5, 1e-4))
    assert usual_rates("adamw_8bit", (5e-4, 1e-2)) == (5e-4, 1e-2)
    assert usual_rates("prodigy", (5e-4, 1e-2)) == (1.0, 1.0)


@pytest.mark.parametrize("name", PROFILES)
def test_the_memory_of_an_optimizer_is_what_it_keeps(name):
    """Of a LoRA of rank 16 on a layer of 1024, in a step that none of its values is zero at."""
    import torch

    from loraforge.training.optimizers import make_optimizer

    parameters = [torch.nn.Parameter(torch.randn(16, 1024)), torch.nn.Parameter(torch.randn(1024, 16))]
    made = make_optimizer(config(optimizer=name), parameters)
    if hasattr(made, "train"):
        made.train()
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    made.step()
    held = {t.data_ptr(): t.nbytes for state in made.state.values() for t in state.values() if torch.is_tensor(t)}
    numbers = sum(p.numel() for p in parameters)
    assert sum(held.values()) / numbers == pytest.approx(PROFILES[name].state_bytes(16), rel=0.07)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from loraforge.config.optimizers import arguments, profiles, rules;"
        "[arguments.signature(n) for n in profiles.PROFILES];"
        "print({'torch', 'prodigyopt', 'schedulefree', 'lion_pytorch', 'came_pytorch', 'bitsandbytes', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
