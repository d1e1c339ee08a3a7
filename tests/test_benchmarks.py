# SPDX-License-Identifier: Apache-2.0
"""The benchmarks at a tiny scale: that every command runs to its end, that operations are counted right, that the judge is just."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from click.testing import CliRunner

from benchmarks import limit, measuring, picturescoring, reporting, scoring, sdbase
from benchmarks.__main__ import main
from benchmarks.contenders.bare_loop import batches, loss_of
from benchmarks.measuring import Contender, Run
from benchmarks.workload import TINY, Size, encode, prepare

pytestmark = pytest.mark.xdist_group("benchmarks")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def workload(work):
    return prepare(TINY, work)


@pytest.fixture(scope="module")
def pictures(work):
    return sdbase.assemble(work, "sd15", 16, 4, 64, 2, 4, [limit.DIFFUSERS])


def _call(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """``python -m MODULE ARGUMENTS`` in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = importlib.import_module(module).main(*arguments)
    return subprocess.CompletedProcess([module, *arguments], code or 0, said.getvalue(), "")


@pytest.fixture
def inside(monkeypatch):
    """What the benchmarks run in processes of their own, here in this one: each costs seconds. Call it to have the contenders here too."""
    real, here = subprocess.run, {"benchmarks.workload", "benchmarks.sdbase", "benchmarks.scoring", "benchmarks.picturescoring"}

    def run(command, **more):
        return _call(*command[2:]) if command[1] == "-m" and command[2] in here else real(command, **more)

    monkeypatch.setattr(subprocess, "run", run)
    return lambda: here.add("benchmarks.contender")


def bench(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(part) for part in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def shape(workload, targets=("q_proj", "k_proj", "v_proj", "o_proj"), rank=4):
    return limit.shape_of(json.loads((workload.base / "config.json").read_text()), rank, targets)


# --- the workload ------------------------------------------------------------------------------------------------------------


def test_the_rows_are_as_long_as_the_issue_says():
    from benchmarks.workload import row_lengths

    lengths = sorted(row_lengths(Size(), random.Random(7)))
    assert abs(sum(lengths) / 600 - 174) < 2 and abs(lengths[540] - 215) <= 6


def test_half_of_the_tokens_are_learned_and_all_spreads_have_equal_tokens(tmp_path):
    sums = []
    for kind in ("even", "wide", "tailed"):
        made = prepare(dataclasses.replace(TINY, hidden=16, heads=2, kv_heads=1, layers=1, rows=60, mean=100, lengths=kind), tmp_path)
        sums.append(made.tokens)
        assert 0.42 < made.learned / made.tokens < 0.58
    assert max(sums) / min(sums) < 1.03


def test_loraforge_sees_the_same_tokens_and_the_same_learned_ones(workload, host):
    from loraforge_text.base_files import locate
    from loraforge_text.families.encoding import encode as ours
    from loraforge_text.families.encoding import tokenizer_of

    from loraforge.data.dataset import load_data
    from loraforge.plan import make_plan

    config = workload.folder / "same.yaml"
    config.write_text(json.dumps({
        "train_data_dir": str(workload.folder / "data"), "base_model": str(workload.base), "output_dir": str(workload.folder / "never"),
        "eval_ratio": 0, "stop_on": "never", "learning_rate": 2e-4,
    }))  # fmt: skip
    data = load_data(make_plan(host, "text", config, ()))
    tokenizer = tokenizer_of(locate(str(workload.base)))
    got = [ours(tokenizer, spans) for spans in data.texts]
    assert [list(row.ids) for row in got] == [row["ids"] for row in workload.train]
    assert [[int(x) for x in row.learned] for row in got] == [row["learned"] for row in workload.train]


def test_the_answer_and_its_end_are_learned(workload):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(workload.base / "tokenizer.json"))
    row = encode(tokenizer, "试用期工资怎么办？", "按照合同。")
    learned = [token for token, learn in zip(row["ids"], row["learned"], strict=True) if learn]
    assert tokenizer.decode(learned, skip_special_tokens=False) == "按照合同。<|im_end|>"


# --- the limit ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "targets", [("q_proj", "k_proj", "v_proj", "o_proj"), ("o_proj",), ("down_proj", "gate_proj"), ("q_proj", "down_proj")]
)
def test_the_operations_are_those_that_torch_counts(workload, targets):
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(workload.base, dtype=torch.float32, attn_implementation="eager")
    get_peft_model(base, LoraConfig(r=4, target_modules=list(targets), lora_dropout=0.0))
    rows = [{"ids": row["ids"][:40], "learned": [0] * 20 + [1] * 20} for row in workload.train[:2]]
    with FlopCounterMode(display=False) as counter:
        loss_of(base.model, base.lm_head, rows).backward()
    expected = limit.step_flops(shape(workload, targets), [40, 40], 40, causal=False)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_the_products_of_the_rate_are_the_dense_part_of_the_operations(workload):
    made = shape(workload, ())
    operations = sum(2 * rows * i * o * count for rows, i, o, _, count in limit.gemms(made, 100, 50))
    assert operations == 4 * made.parameters() * 100 + 4 * made.hidden * made.vocabulary * 50
    plain, best = limit.rates(limit.gemms(made, 100, 50), seconds=0.1)
    assert best >= plain > 1e8


def test_the_quartered_stable_diffusion_is_the_one_of_the_issue():
    import torch

    with torch.device("meta"):
        config = sdbase._unet(False, 4).config
    work = limit.unet_work(config, 256, 4, 8, limit.DIFFUSERS)
    assert work.parameters == 53_807_604 and work.flops == pytest.approx(111.4e9, rel=0.001)
    # What the rate is measured on is most of the work: all but attention and the LoRA terms.
    dense = sum(2 * rows * size_in * size_out * count for rows, size_in, size_out, _, count in work.gemms)
    dense += sum(2 * n * c * w * k * k * (h // s) * (x // s) * count for n, c, h, x, w, k, s, _, _, count in work.convolutions)
    assert 0.7 < dense / work.flops < 0.78


def test_the_rate_counts_convolutions_and_their_gradients():
    shapes = [(1, 4, 8, 8, 8, 3, 1, 1, False, 2), (1, 4, 8, 8, 8, 3, 2, 1, True, 1)]
    assert min(limit.rates([(8, 8, 8, True, 1)], shapes, 0.05)) > 1e6


# --- measuring ---------------------------------------------------------------------------------------------------------------


def test_steady_rates_leave_the_first_steps_out_and_ratios_stay_inside_a_round():
    steps = [(10.0, 5), (11.0, 10), (12.0, 15), (12.5, 20), (13.0, 25)]
    run = Run("a", started=0.0, wall=20.0, peak=100.0, steps=steps)
    assert run.steady == 10 and run.whole == 25 / 20 and run.first_step == 10 and run.step_seconds == 0.5
    limited = dataclasses.replace(run, rate=100.0, best_rate=200.0)
    assert limited.share(5.0) == 0.5 and limited.share(5.0, best=True) == 0.25 and run.share(5.0) != run.share(5.0)  # not measured: nan
    slow = dataclasses.replace(run, contender="b", steps=[(t * 2, u) for t, u in steps])
    assert measuring.ratios([{"a": run, "b": slow}, {"a": slow, "b": run}], "a", "b", lambda r: r.steady) == (1.25, 0.5, 2.0)


def test_what_fails_or_is_missing_stays_in_the_table_with_its_reason(tmp_path):
    chosen = [Contender("none", "bare_loop", python=None), Contender("broken", "nowhere")]
    found = measuring.interleave(chosen, {}, tmp_path, 1)
    text = reporting.of_runs("t", found, "tokens").markdown()
    assert "none: skipped: no interpreter was given" in text and "broken: failed: ModuleNotFoundError" in text


def test_the_bare_loop_batches_rows_of_like_length():
    made = batches([9, 1, 8, 2, 7, 3, 6], 2, random.Random(0))
    assert sorted(i for part in made for i in part) == list(range(7)) and [1, 3] in made


# --- the judge ---------------------------------------------------------------------------------------------------------------


def test_equal_adapters_have_equal_losses_and_the_base_is_left_as_it_was(workload, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(workload.base), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    for name in ("one", "other"):
        model.save_pretrained(tmp_path / name)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    model.save_pretrained(tmp_path / "nothing")
    adapters = {name: str(tmp_path / name) for name in ("one", "other", "nothing")}
    found = scoring.losses(str(workload.base), workload.held, adapters)
    assert found["one"] == found["other"] != found["base"] and found["nothing"] == found["base"]


def test_picture_adapters_are_judged_alike_under_every_programs_names(pictures, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    unet_names = [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
    ]
    weights = load_file(next((pictures.base / "unet").glob("*.safetensors")))
    torch.manual_seed(0)
    shapes = {name: weights[f"{name}.weight"].shape for name in unet_names}
    pairs = {name: (torch.randn(2, size_in), torch.randn(size_out, 2)) for name, (size_out, size_in) in shapes.items()}
    names = {
        "peft": ("{}.lora_A.weight", "{}.lora_B.weight"),
        "loraforge": ("base_model.model.unet.{}.lora_A.weight", "base_model.model.unet.{}.lora_B.weight"),
        "diffusers": ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight"),
        "kohya": ("lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight"),
    }
    for program, (down, up) in names.items():
        tensors = {}
        for name, (a, b) in pairs.items():
            shown = name.replace(".", "_") if program == "kohya" else name
            tensors |= {down.format(shown): a, up.format(shown): b}
            if program == "kohya":
                tensors[f"lora_unet_{shown}.alpha"] = torch.tensor(2.0)
        (tmp_path / program).mkdir()
        save_file(tensors, str(tmp_path / program / "adapter.safetensors"))
    (tmp_path / "misfit").mkdir()
    tensors[f"lora_unet_{shown}.lora_up.weight"] = torch.ones(3, 2)  # after the first module is in place
    save_file(tensors, str(tmp_path / "misfit" / "adapter.safetensors"))
    spec = {"base": str(pictures.base), "pictures": str(pictures.pictures), "resolution": 64, "alpha": 2, "rank": 2}
    adapters = {name: str(tmp_path / name) for name in ("misfit", *names, "nowhere")}
    found = picturescoring.losses({**spec, "adapters": adapters})
    assert set(found) == {"base", *names}
    assert len({found[name] for name in names}) == 1 and found["peft"] != found["base"]
    assert picturescoring.losses({**spec, "adapters": {}}) == {"base": found["base"]}


# --- peers' scripts ----------------------------------------------------------------------------------------------------------

_SCRIPT = """
import argparse, pathlib, torch
parser = argparse.ArgumentParser()
for name in ("output_dir", "train_batch_size", "num_train_epochs", "train_data_dir"):
    parser.add_argument("--" + name, required=True)
known, others = parser.parse_known_args()
assert "--rank=4" in others and "--adam_weight_decay=0" in others, others
weight = torch.nn.Parameter(torch.zeros(2))
optimizer = torch.optim.AdamW([weight])
pictures = len(list(pathlib.Path(known.train_data_dir).glob("*.png")))
for _ in range(int(known.num_train_epochs) * pictures // int(known.train_batch_size)):
    weight.sum().backward()
    optimizer.step()
pathlib.Path(known.output_dir).mkdir()
"""


def test_a_peers_script_runs_unchanged_and_its_steps_are_timed(pictures, tmp_path):
    from benchmarks.contenders.diffusers_script import train
    from benchmarks.images import spec_of

    script = tmp_path / "examples" / "text_to_image" / "train_text_to_image_lora.py"
    script.parent.mkdir(parents=True)
    script.write_text(_SCRIPT)
    before = sys.argv, sys.path[:]
    spec = {**spec_of(pictures, 4, 3), "folder": str(tmp_path), "checkout": str(tmp_path)}
    assert [done for _, done in train(spec)["steps"]] == [2, 4, 6, 8, 10, 12]
    assert (sys.argv, sys.path) == before
    (tmp_path / "adapter").rmdir()
    with pytest.raises(RuntimeError, match="trained on 12 pictures, the others on 99"):
        train({**spec, "units": 99})


def test_kohyas_widths_are_set_and_its_pictures_laid_out(pictures, tmp_path, monkeypatch):
    from benchmarks.contenders import kohya_script, peer_script
    from benchmarks.images import spec_of

    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "original_unet.py").write_text(
        "BLOCK_OUT_CHANNELS = (320, 640, 1280, 1280)\nTIMESTEP_INPUT_DIM = 320\nTIME_EMBED_DIM = 1280\n"
        "NORM_GROUPS = 32\nTRANSFORMER_NORM_NUM_GROUPS = 32\n"
    )
    (tmp_path / "train_network.py").write_text("")
    lines = []
    monkeypatch.setattr(peer_script, "run", lambda script, line, *more: lines.extend(line) or [])
    monkeypatch.setattr(sys, "path", sys.path[:])
    try:
        kohya_script.train({**spec_of(pictures, 4, 3), "folder": str(tmp_path), "checkout": str(tmp_path)})
        made = sys.modules["library.original_unet"]
        assert made.BLOCK_OUT_CHANNELS == (20, 40, 80, 80) and made.TIME_EMBED_DIM == 80 and made.NORM_GROUPS == 2
    finally:
        for name in ("library.original_unet", "library"):
            sys.modules.pop(name, None)
    assert "--resolution=64,64" in lines and "--cache_latents" in lines
    assert len(list((tmp_path / "pictures").glob("1_*/*.png"))) == len(list((tmp_path / "pictures").glob("1_*/*.txt"))) == 4


# --- the commands ------------------------------------------------------------------------------------------------------------


def test_the_scripts_of_peers_are_rows_with_a_reason_without_their_options(pictures, tmp_path):
    from benchmarks import images

    both = dataclasses.replace(pictures, work={kind: pictures.work[limit.DIFFUSERS] for kind in (limit.DIFFUSERS, limit.KOHYA)})
    named = {one.name: one for one in images.contenders(both, tmp_path, "/checkout")}
    assert named[images.SCRIPT].absent == "skipped: --diffusers-python was not given"
    assert named[images.KOHYA].absent == "skipped: --kohya-checkout and --kohya-python were not given"
    assert all(one.absent is None for one in named.values() if one.name not in (images.SCRIPT, images.KOHYA))
    assert named[images.SCRIPT].options["checkout"] == "/checkout"


def test_the_coverage_of_intervals_is_counted(tmp_path, monkeypatch):
    """Of one that is always right, one that never is, and one that is not printed."""
    from benchmarks import intervals
    from loraforge.evaluation import bootstrap

    draw, truth = intervals.LOSSES["normal"]
    assert intervals.of_comparisons(draw, truth, 7, 3, share=False) is None and intervals.of_means(draw, truth, 7, 3) is None
    monkeypatch.setattr(bootstrap, "_bounds", lambda found, *rest: (found.mean - 99, found.mean + 99, 1.0))
    assert intervals.of_comparisons(draw, truth, 8, 5, share=False) == (1.0, 0.0) and intervals.of_means(draw, truth, 8, 5) == 1.0
    monkeypatch.setattr(bootstrap, "_bounds", lambda found, *rest: (found.mean - 99, found.mean - 98, 1.0))
    assert intervals.of_comparisons(draw, truth, 9, 5, share=False)[0] == intervals.of_means(draw, truth, 9, 5) == 0.0
    monkeypatch.undo()
    monkeypatch.setattr(intervals.style_distance, "_RESAMPLES", 20)
    bench("intervals", "--tiny", "--out", tmp_path)
    text = (tmp_path / "intervals.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| (?:loss|share): ", text, re.MULTILINE)) == len(intervals.LOSSES) + len(intervals.SHARES) + 3
    assert "| style distance, off by 0.2 | " in text and "| loss: normal | - | " in text


def test_a_command_that_fails_is_timed_another_way_or_said_to_have_failed(monkeypatch):
    from benchmarks import startup

    def timed(line):
        if line == ["bad"]:
            raise RuntimeError("torchvision is broken")
        return 1.0

    monkeypatch.setattr(startup, "timed", timed)
    listed = [startup.Command("a", ["good"]), startup.Command("b", ["bad"], ["good"]), startup.Command("c", ["bad"], ["bad"])]
    times, reasons = startup.rounds_of([*listed, startup.Command("d", None)], 2, lambda text: None)
    assert times == {"a": [1.0, 1.0], "b": [1.0, 1.0]} and set(reasons) == {"c", "d"} and "torchvision" in reasons["c"]


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_BENCHMARKS" not in os.environ, reason="most of a minute: set LORAFORGE_BENCHMARKS=1")
def test_text_end_to_end(work, workload, tmp_path, inside):
    only = ["--only", "loraforge", "--only", "trainer-peft", "--only", "bare-loop", "--only", "trl"]
    bench("text", "--tiny", "--rounds", 1, "--work", work, "--out", tmp_path, *only)
    said = json.loads((tmp_path / "text.json").read_text(encoding="utf-8"))
    rows = {row[0]: row for row in said["tables"][0]["rows"]}
    ran = [name for name, row in rows.items() if row[1] not in ("failed", "skipped")]
    kinds = ("loraforge", "bare-loop", "trainer-peft")
    assert ran == list(kinds), said["tables"][0]["notes"]
    assert rows["trl"][1] == "skipped" and "trl: skipped: --trl-python was not given" in said["tables"][0]["notes"]
    losses = said["raw"]["losses"]
    assert all(losses[name] < losses["base"] and losses[name] == pytest.approx(losses["trainer-peft"], rel=0.01) for name in ran)
    tokens = {said["raw"]["rounds"][0][name]["steps"][-1][1] for name in ran}
    assert tokens == {workload.tokens}
    assert "| against | steady rate |" in (tmp_path / "text.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_BENCHMARKS" not in os.environ, reason="most of a minute: set LORAFORGE_BENCHMARKS=1")
def test_image_end_to_end(work, pictures, tmp_path, inside):
    only = ["--only", "loraforge", "--only", "plain-*", "--only", "* script"]
    bench("image", "--tiny", "--rounds", 1, "--work", work, "--out", tmp_path, "--name", "pictures", *only)
    said = json.loads((tmp_path / "pictures.json").read_text(encoding="utf-8"))
    rows = {row[0]: row for row in said["tables"][0]["rows"]}
    assert [name for name, row in rows.items() if row[1] not in ("failed", "skipped")] == ["loraforge", "plain-diffusers"], rows
    assert "-" not in rows["loraforge"] and rows["kohya script"][1] == "skipped"
    assert {said["raw"]["rounds"][0][name]["steps"][-1][1] for name in ("loraforge", "plain-diffusers")} == {16}
    losses = said["raw"]["losses"]
    assert all(losses[name] < losses["base"] for name in ("loraforge", "plain-diffusers"))
    assert "| steady step | loraforge | the ideal |" in (tmp_path / "pictures.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_BENCHMARKS" not in os.environ, reason="most of a minute: set LORAFORGE_BENCHMARKS=1")
def test_lengths_end_to_end(work, tmp_path, inside, monkeypatch, real_plots):
    from benchmarks import lengths

    inside()
    monkeypatch.setattr(lengths, "KINDS", {"tailed": "long tail"})
    bench("lengths", "--tiny", "--rows", 8, "--rounds", 1, "--batch-size", 2, "--work", work, "--out", tmp_path)
    assert (tmp_path / "lengths.png").stat().st_size > 5000
    rows = json.loads((tmp_path / "lengths.json").read_text(encoding="utf-8"))["tables"][0]["rows"]
    assert [row[0] for row in rows] == ["long tail"] and all(cell != "-" for row in rows for cell in row[4:])


def test_every_technique_leaves_the_loss_as_it_is_and_can_be_left_out(work, tmp_path):
    bench("techniques", "--tiny", "--pairs", 1, "--dropout", 0.25, "--work", work, "--out", tmp_path)
    rows = json.loads((tmp_path / "techniques.json").read_text(encoding="utf-8"))["raw"]
    assert all(row["apart"] < 1e-4 and row["ratios"][0] > 0 for row in rows.values()), rows
    less = {name for name, row in rows.items() if row["kept_with"] < 0.999 * row["kept_without"]}
    assert less >= {
        "LoRA in one function",
        "what norms and gates make is made again",
        "of dropout a bit for each number",
        "head and loss on learned positions, in pieces",
        "all of them",
    }, rows
    assert rows["all of them"]["kept_without"] > 1.5 * rows["all of them"]["kept_with"]


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_BENCHMARKS" not in os.environ, reason="most of a minute: set LORAFORGE_BENCHMARKS=1")
def test_startup_end_to_end(work, tmp_path, inside, monkeypatch):
    from benchmarks import startup

    inside()
    monkeypatch.setattr(startup, "_BARE", "pass")  # seconds of imports
    bench("startup", "--tiny", "--rounds", 1, "--cold", "--train-rounds", 1, "--work", work, "--out", tmp_path)
    text = (tmp_path / "startup.md").read_text(encoding="utf-8")
    assert "torch is not imported" in text and "trl --help: skipped" in text
    assert "failed" not in text and "FAILED" not in text


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_BENCHMARKS" not in os.environ, reason="most of a minute: set LORAFORGE_BENCHMARKS=1")
def test_memory_end_to_end(work, tmp_path, inside, monkeypatch):
    from benchmarks import memory

    inside()
    every_text, every_image = memory.text_settings, memory.image_settings
    monkeypatch.setattr(memory, "text_settings", lambda *given: every_text(*given)[:0])
    monkeypatch.setattr(memory, "image_settings", lambda *given: every_image(*given)[:1])
    bench("memory", "--tiny", "--rows", 4, "--work", work, "--out", tmp_path)
    table = json.loads((tmp_path / "memory.json").read_text(encoding="utf-8"))["tables"][0]
    assert len(table["rows"]) == 1 and not table["notes"] and all(float(row[1]) > 100 for row in table["rows"])


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_GPU_BENCHMARK" not in os.environ, reason="a minute: set LORAFORGE_GPU_BENCHMARK=1")
def test_gpu_small_end_to_end_on_the_cpu(work, tmp_path, inside, monkeypatch):
    from benchmarks import gpu

    inside()
    monkeypatch.setattr(gpu, "text_contenders", lambda python: [Contender("loraforge", "product")])
    monkeypatch.setattr(gpu, "SMALL_PICTURES", (("sdxl", 64),))  # the other family has its own table
    bench("gpu", "--small", "--work", work, "--out", tmp_path)
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert text.count("| loraforge |") == 2 and text.count("| diffusers loop |") == 1 and "failed" not in text


def test_a_card_is_measured_beside_the_estimate(tmp_path):
    import torch

    from benchmarks import card

    run = {"peak": 2**30 - 0.75e9, "seconds": 4.2, "loss": 0.5}
    found = card.table({"fp8": (run, 1.1 * 2**30), "4bit": ({"reason": "no bitsandbytes"}, None)})
    assert found.rows == [["fp8", "1.00", "1.10", "1.10", "4", "0.5000"], ["4bit", "-", "-", "-", "-", "-"]]
    assert found.notes == ["4bit: no bitsandbytes"]
    if not torch.cuda.is_available():
        (tmp_path / "c.yaml").touch()
        done = CliRunner().invoke(main, ["card", str(tmp_path / "c.yaml")])
        assert done.exit_code == 1 and "there is none" in done.output


def test_a_gpu_is_compared_with_trl_at_its_best(monkeypatch):
    from benchmarks import gpu

    monkeypatch.setattr(gpu, "has", lambda python, *packages: packages != ("liger_kernel",))
    named = {one.name: one for one in gpu.text_contenders(sys.executable)}
    assert all(one.absent is None for one in named.values())
    assert named["trl flash/liger checkpointing"].options == {
        "attention": "flash_attention_2",
        "padding_free": True,
        "checkpointing": True,
    }
    monkeypatch.setattr(gpu, "has", lambda python, *packages: False)
    assert all(one.absent for one in gpu.text_contenders(sys.executable) if one.kind == "trl_sft")


def test_the_load_of_many_clients_tells_what_was_lost_and_what_was_wrong():
    """On a server that answers by a rule; then on one that forgets a letter now and then."""
    import asyncio
    import itertools

    from builders.serving import fake_server, listening
    from loraforge_serve.backends import Piece
    from loraforge_serve.server import Limits

    from benchmarks.serving import _load

    server = fake_server(names=("one", "two"), pause=0.001, limits=Limits(waiting=64))
    with listening(server) as url:
        told = asyncio.run(_load(url, 1.0, 8, ["hello", "again"], lambda: 1.0))
    assert (told["lost"], told["wrong"], told["busy"], told["still inside"]) == (0, 0, 0, 0)
    assert told["answered"] > 10 and told["left"] > 0 and told["asked"] == told["answered"] + told["left"]
    whole, count = server.library.backend.answer, itertools.count()

    async def forgetting(job):
        async for piece in whole(job):
            yield piece if next(count) % 97 else Piece("", 1, piece.finish)

    server.library.backend.answer = forgetting
    with listening(server) as url:
        assert asyncio.run(_load(url, 1.0, 8, ["hello", "again"], lambda: 1.0))["wrong"] > 0


@pytest.mark.skipif("LORAFORGE_BENCHMARKS" not in os.environ, reason="most of a minute: set LORAFORGE_BENCHMARKS=1")
def test_serve_end_to_end(work, tmp_path, inside):
    few = ["--rounds", 1, "--questions", 8, "--max-tokens", 8, "--clients", 4, "--load", 3, "--load-clients", 4]
    bench("serve", "--tiny", *few, "--work", work, "--out", tmp_path)
    said = json.loads((tmp_path / "serve.json").read_text(encoding="utf-8"))
    rates = {row[0]: row[2] for row in said["tables"][0]["rows"]}
    assert set(rates) == {
        "loraforge serve, base",
        "loraforge serve, base and 2 adapters mixed",
        "transformers serve",
        "generate, one after the other",
    }
    assert "-" not in rates.values(), said["tables"][0]["notes"]
    load = dict(said["tables"][1]["rows"])
    assert (load["lost"], load["wrong"]) == ("0", "0")
