# SPDX-License-Identifier: Apache-2.0
"""The one loop, in whole runs: no way of cutting a step changes the result, a stopped run goes on, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loraforge import RunConfig, TrainingError
from loraforge.training import loop


def weights(run_folder: Path):
    import safetensors.torch

    return safetensors.torch.load_file(run_folder / "adapter" / "adapter_model.safetensors")


def steps(run_folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run_folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == "StepFinished"]


def same(a: Path, b: Path, tolerance: float) -> None:
    import torch

    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=tolerance, atol=tolerance)


# --- invariances -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(project, train, tmp_path):
    def go(name: str, **values) -> Path:
        train(project(f"{name}.yaml", output_dir=str(tmp_path / name), **values))
        return tmp_path / name

    return go


def test_four_by_one_two_by_two_and_one_by_four_are_the_same(runs):
    a = runs("4x1", batch_size=4, gradient_accumulation=1, lora_dropout=0.0)
    b = runs("2x2", batch_size=2, gradient_accumulation=2, lora_dropout=0.0)
    c = runs("1x4", batch_size=1, gradient_accumulation=4, lora_dropout=0.0)
    for other in (b, c):
        assert [s["loss"] for s in steps(other)] == pytest.approx([s["loss"] for s in steps(a)], rel=1e-5)
        same(a, other, 2e-4)


def test_two_equal_runs_are_equal_to_the_bit_and_another_seed_is_not(runs):
    a, b, c = runs("a", lora_dropout=0.1), runs("b", lora_dropout=0.1), runs("c", lora_dropout=0.1, seed=1)
    files = [(folder / "adapter" / "adapter_model.safetensors").read_bytes() for folder in (a, b, c)]
    assert files[0] == files[1] != files[2]
    assert (a / "adapter" / "adapter_config.json").read_bytes() == (b / "adapter" / "adapter_config.json").read_bytes()


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "schedule_free", "learning_rate": 0.02}])
def test_stopped_and_resumed_equals_never_stopped(project, train, tmp_path, monkeypatch, optimizer):
    settings = {"lora_dropout": 0.1, "epochs": 3, "batch_size": 2, "gradient_accumulation": 2, "save_steps": 2, **optimizer}
    train(project("whole.yaml", output_dir=str(tmp_path / "whole"), **settings))
    config = project("cut.yaml", output_dir=str(tmp_path / "cut"), **settings)
    real = loop.Loop.step

    def dies(self, indices, step):
        if step == 6:
            raise KeyboardInterrupt
        return real(self, indices, step)

    monkeypatch.setattr(loop.Loop, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert json.loads((tmp_path / "cut" / "manifest.json").read_text(encoding="utf-8"))["status"] == "stopped"
    train(config, resume=True)
    whole, cut = ((tmp_path / n / "adapter" / "adapter_model.safetensors").read_bytes() for n in ("whole", "cut"))
    assert whole == cut
    numbers = [s["step"] for s in steps(tmp_path / "cut")]
    assert numbers[:5] == [1, 2, 3, 4, 5] and numbers[5] == 5  # from the checkpoint of step 4
    if optimizer:
        _holds_the_average(tmp_path / "cut")


def _holds_the_average(run: Path) -> None:
    """The adapter of every checkpoint is the paper's x, and what is gone on from its y: x = y + (1 - 1 / beta1) (z - y)."""
    import safetensors.torch
    import torch

    from loraforge.runs.folder import RunFolder, load_state

    for checkpoint in RunFolder(run).checkpoints():
        state = load_state(checkpoint)[0]["loop"]
        saved = safetensors.torch.load_file(checkpoint / "adapter" / "adapter_model.safetensors")
        for number, (name, y) in enumerate(state["parameters"].items()):
            z = state["optimizer"]["state"][number]["z"]
            x = saved[f"base_model.model.{name.replace('.default', '')}"]
            torch.testing.assert_close(x, y + (1 - 1 / 0.9) * (z - y), rtol=1e-5, atol=1e-6)
            assert not torch.equal(x, y)
        assert all(group["train_mode"] for group in state["optimizer"]["param_groups"])


@pytest.mark.slow
def test_two_processes_are_the_same_as_one(project, runs, tmp_path):
    one = runs("one", batch_size=4, lora_dropout=0.0)
    config = project("two.yaml", output_dir=str(tmp_path / "two"), batch_size=2, lora_dropout=0.0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port", "0",
         "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m", "loraforge", "train", "text", str(config)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = tmp_path / "two"
    assert [s["loss"] for s in steps(two)] == pytest.approx([s["loss"] for s in steps(one)], rel=1e-5)
    same(one, two, 2e-4)


# --- what goes wrong ---------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_before_the_step_and_names_the_rows(project, train, tmp_path, monkeypatch):
    real = loop.Loop.backward

    def breaks(self, indices, step):
        loss, weight, units = real(self, indices, step)
        if step == 3:
            raise loop.NotFinite("loss", step, indices)
        return loss, weight, units

    monkeypatch.setattr(loop.Loop, "backward", breaks)
    with pytest.raises(TrainingError) as error:
        train(project(save_steps=2))
    text = str(error.value)
    assert "step 3: the loss is not a number" in text and "metadata.csv, row" in text and "step-000002" in text
    assert error.value.exit_code == 1


def test_infinity_in_the_model_is_noticed(project, train):
    from loraforge_text.families.causal_lm import TrainableCausalLM

    real = TrainableCausalLM.loss
    try:
        TrainableCausalLM.loss = lambda self, model, batch: real(self, model, batch) * float("nan")
        with pytest.raises(TrainingError, match="not a number"):
            train(project(eval_ratio=0))
    finally:
        TrainableCausalLM.loss = real


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_training_lowers_the_loss(project, train, tmp_path, optimizer):
    train(project(optimizer=optimizer, epochs=10, eval_ratio=0, lora_rank=8, lora_dropout=0.0, learning_rate=0.03))
    losses = [s["loss"] for s in steps(tmp_path / "out")]
    assert losses[-1] < losses[0] - 0.15, losses


def test_stored_losses_of_a_tiny_model(project, train, tmp_path):
    """The numbers that this model, these rows and this seed gave when the loop was checked against plain PyTorch."""
    import torch
    from loraforge_text.base_files import read_base
    from loraforge_text.families.encoding import tokenizer_of
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    outcome = train(
        project(eval_ratio=0, lora_dropout=0.0, epochs=5, max_steps=3, batch_size=12, lr_scheduler="constant", warmup=0, lora_rank=4)
    )
    got = [s["loss"] for s in steps(tmp_path / "out")]
    # The same by hand: every row by itself, no batches, no loop of ours.
    base = Path(outcome.run.manifest()["base"]["folder"])
    tokenizer, stop = tokenizer_of(base), read_base(base).stops[0]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    start = {n.replace(".default", ""): t for n, t in _initial(project, base, tmp_path).items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(start[name.replace(".default", "").removeprefix("base_model.model.")])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.0)
    expected = []
    for _ in range(3):
        total, count = 0.0, 0
        for i in range(12):
            prompt = f"<|im_start|>user\n第{i}问：试用期工资怎么算？<|im_end|>\n<|im_start|>assistant\n"
            answer = f"答案{i}：根据《劳动合同法》第{i + 10}条。{stop}"
            before, after = (tokenizer.encode(t, add_special_tokens=False).ids for t in (prompt, answer))
            logits = model(torch.tensor([before + after]), use_cache=False).logits[0, len(before) - 1 : -1]
            total = total + torch.nn.functional.cross_entropy(logits.float(), torch.tensor(after), reduction="sum")
            count += len(after)
        (total / count).backward()
        expected.append(float((total / count).detach()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert got == pytest.approx(expected, rel=1e-4)


def _initial(project, base: Path, tmp_path: Path) -> dict:
    """The adapter's weights before the first step, as a run of the same seed begins."""
    import torch
    from accelerate.utils import set_seed
    from transformers import AutoModelForCausalLM

    from loraforge.adapters import lora

    set_seed(42)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = RunConfig(train_data_dir=".", base_model="x", lora_rank=4, lora_dropout=0.0)
    lora.inject(model, config)
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


# --- memory ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_of_memory(monkeypatch):
    """Passes of more than ``rows`` rows do not fit, as torch says it on one device or another."""
    import torch
    from loraforge_text.families.causal_lm import TrainableCausalLM

    real = TrainableCausalLM.loss

    def use(rows: int, error: Exception, from_step: int = 0) -> list[int]:
        made: list[int] = []

        def loss(self, model, batch):
            count = len(batch["row_lengths"])
            made.append(count)
            if count > rows and len(made) > from_step:
                torch.rand(7)  # what was drawn before the failure must not matter
                raise error
            return real(self, model, batch)

        monkeypatch.setattr(TrainableCausalLM, "loss", loss)
        return made

    return use


def errors():
    import torch

    return [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
        ),
        MemoryError(),
    ]


@pytest.mark.parametrize("number", range(3))
def test_out_of_memory_halves_the_batch_and_nothing_else(runs, short_of_memory, tmp_path, number):
    plain = runs("plain", batch_size=4, gradient_accumulation=1, lora_dropout=0.0, eval_ratio=0.3)
    made = short_of_memory(1, errors()[number], from_step=5)
    short = runs("short", batch_size=4, gradient_accumulation=1, lora_dropout=0.0, eval_ratio=0.3)
    assert max(made) == 4 and set(made[-8:]) == {1}
    assert [s["loss"] for s in steps(short)] == pytest.approx([s["loss"] for s in steps(plain)], rel=1e-5)
    same(plain, short, 2e-4)
    events = [json.loads(line) for line in (short / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    told = [(e["rows"], e["passes"]) for e in events if e["event"] == "MemoryRanOut"]
    assert told == [(2, 2), (1, 4)], "it is said each time"


def test_too_little_memory_for_one_row_is_explained(project, train, short_of_memory):
    import torch

    short_of_memory(0, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(TrainingError) as error:
        train(project())
    text = str(error.value)
    assert (
        "the memory does not suffice (CUDA out of memory.)" in text
        and "gradient_checkpointing: true" in text
        and "max_seq_length" in text
        and "loraforge check" in text
    )


def test_other_errors_are_not_taken_for_a_lack_of_memory(project, train, short_of_memory):
    made = short_of_memory(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(project())
    assert len(made) == 1


def test_a_resumed_run_does_not_run_out_of_memory_again(project, train, short_of_memory, monkeypatch):
    import torch

    config = project(epochs=6, batch_size=4, save_steps=2, lora_dropout=0.0, eval_ratio=0)
    real = loop.Loop.step

    def dies(self, indices, step):
        if step == 6:
            raise KeyboardInterrupt
        return real(self, indices, step)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", dies)
        short_of_memory(2, torch.OutOfMemoryError("CUDA out of memory."))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    made = short_of_memory(2, torch.OutOfMemoryError("CUDA out of memory."))
    train(config, resume=True)
    assert max(made) <= 2
