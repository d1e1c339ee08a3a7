# SPDX-License-Identifier: Apache-2.0
"""What does not go together in an optimizer's keys, as `check` says it."""

from __future__ import annotations

import pytest

from loraforge import ConfigError, RunConfig
from loraforge.config.optimizers.rules import refusals, remarks
from loraforge.plan import make_plan


def config(**values) -> RunConfig:
    return RunConfig(train_data_dir=".", base_model="x", **values)


REFUSED = [
    ({"optimizer": "schedule_free", "lr_scheduler": name}, "lr_scheduler: ")
    for name in ("cosine", "linear", "cosine_with_restarts", "polynomial", "warmup_stable_decay", "rex")
] + [
    ({"optimizer": "schedule_free", "ema_decay": 0.99}, "ema_decay: optimizer: schedule_free keeps an average already"),
    ({"optimizer": "prodigy", "lora_plus_ratio": 16}, "lora_plus_ratio: optimizer: prodigy finds one rate"),
    ({"lora_variant": "lokr", "lora_plus_ratio": 16}, "lora_plus_ratio: lora_variant: lokr has no A and B"),
    ({"lora_variant": "loha", "lora_plus_ratio": 16}, "lora_plus_ratio: lora_variant: loha has no A and B"),
    ({"optimizer": "prodigy", "lr_advice": "apply"}, "lr_advice: optimizer: prodigy finds the rate by itself"),
]


@pytest.mark.parametrize(("values", "begins"), REFUSED)
def test_what_contradicts_itself_is_refused(values, begins):
    (problem,) = refusals(config(**values))
    assert problem.startswith(begins)


@pytest.mark.parametrize(
    "values",
    [{"optimizer": "schedule_free", "lr_scheduler": "constant_with_warmup"}, {"optimizer": "schedule_free"}, {"optimizer": "adamw", "ema_decay": 0.99},
     {"optimizer": "prodigy", "lr_scheduler": "cosine"}, {"lora_plus_ratio": 16, "lora_variant": "dora"}, {"lr_advice": "apply"}],
)  # fmt: skip
def test_what_goes_together_is_not(values):
    assert refusals(config(**values)) == []


@pytest.mark.parametrize(("rate", "refused"), [(1e-4, True), (1, False), (None, False)])
def test_a_rate_of_its_own_beside_an_optimizer_that_finds_one_for_all(tmp_path, host, rate, refused):
    file = tmp_path / "c.yaml"
    own = f"train_text_encoder: true\ntext_encoder_lr: {rate}\n" if rate else ""
    file.write_text(f"train_data_dir: {tmp_path}\nbase_model: tiny-sd\noptimizer: prodigy\n{own}", encoding="utf-8")
    if refused:
        with pytest.raises(ConfigError, match=r"c.yaml:5: text_encoder_lr: optimizer: prodigy finds one rate.*Write text_encoder_lr: 1,"):
            make_plan(host, "image", file)
    else:
        make_plan(host, "image", file)


REMARKS = [
    ({"optimizer": "prodigy", "learning_rate": 1e-4}, "learning_rate: prodigy finds the rate by itself"),
    ({"optimizer": "prodigy", "warmup": 0.1}, "warmup: prodigy estimates its rate wrongly"),
    ({"lr_scheduler_cycles": 3}, "lr_scheduler_cycles: does nothing without lr_scheduler: cosine_with_restarts"),
    ({"lr_scheduler_power": 2, "lr_scheduler": "linear"}, "lr_scheduler_power: does nothing without lr_scheduler: polynomial"),
    ({"lr_scheduler_decay": 0.5}, "lr_scheduler_decay: does nothing without lr_scheduler: warmup_stable_decay"),
    ({"lr_scheduler": "cosine_with_restarts"}, "lr_scheduler: cosine_with_restarts with lr_scheduler_cycles: 1"),
]


@pytest.mark.parametrize(("values", "begins"), REMARKS)
def test_what_is_seldom_meant_is_remarked_on(values, begins):
    (remark,) = remarks(config(**values), set(values))
    assert remark.startswith(begins)


@pytest.mark.parametrize(
    "values",
    [{"optimizer": "prodigy"}, {"optimizer": "prodigy", "warmup": 0.1, "optimizer_args": ["safeguard_warmup=True"]}, {},
     {"lr_scheduler_cycles": 1}, {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_cycles": 2}],
)  # fmt: skip
def test_what_is_meant_is_not(values):
    assert remarks(config(**values), set(values)) == []


@pytest.mark.parametrize(
    ("optimizer", "rate", "advised"),
    [("adamw", 2e-4, False), ("lion", 2e-4, True), ("lion", 5e-5, False), ("prodigy", 1, False), ("schedule_free", 9e-4, False),
     ("came", 1e-4, False), ("muon", 2e-4, False), ("muon", 2e-2, True)],
)  # fmt: skip
def test_the_usual_range_is_the_optimizers(tmp_path, host, optimizer, rate, advised):
    file = tmp_path / "c.yaml"
    file.write_text(f"train_data_dir: {tmp_path}\nbase_model: org/name\noptimizer: {optimizer}\nlearning_rate: {rate}\n", encoding="utf-8")
    advice = [line for line in make_plan(host, "text", file, paths=False).advice if "learning_rate" in line]
    assert bool(advice) is advised
    if optimizer == "lion" and advised:
        assert "usual is 1e-05 to 0.0001" in advice[0] and "That is for lion" in advice[0]
