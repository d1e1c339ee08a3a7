# SPDX-License-Identifier: Apache-2.0
"""A run is trained again to the bit."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest
from builders.sealed_runs import bad, rewrite

from loraforge import RunError
from loraforge.pipeline.reproduce import compare, reproduce
from loraforge.runs import opened, provenance
from loraforge.runs.folder import RunFolder
from loraforge.runs.seal import seal_run


def test_a_run_is_reproduced_to_the_bit_and_is_not_touched(sealed, host):
    run, seal = sealed
    told = []
    result = reproduce(host, run.path, None, told.append)
    assert result["verdict"] == "identical" and result["modules"] == [] and told
    new = RunFolder(run.path / "reproduced")
    weights = "adapter_model.safetensors"
    assert (new.adapter / weights).read_bytes() == (run.adapter / weights).read_bytes()
    assert result["losses"]["run"] == result["losses"]["reproduced"] and result["losses"]["run"]["adapter"] is not None
    assert not bad(host, run, seal=seal) and not (new.path / "export").exists()
    assert reproduce(host, run.path, None, told.append)["reproduced"].endswith("reproduced-2")
    assert not bad(host, run, seal=seal)


def test_the_recorded_number_of_threads_is_used_and_given_back(sealed, host, monkeypatch):
    import torch

    run, _ = sealed
    manifest = run.manifest()
    before = torch.get_num_threads()
    manifest["machine"] = {**manifest["machine"], "threads": before + 1}
    seal_run(run, manifest)
    asked = []
    real = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda n: asked.append(n) or real(n))
    reproduce(host, run.path, None, lambda text: None)
    assert asked == [before + 1, before] and torch.get_num_threads() == before


@pytest.mark.skipif("LORAFORGE_TWO_PROCESSES" not in os.environ, reason="half a minute; the loop's own test of two processes is always run")
def test_what_two_processes_made_one_process_makes_again(project, host, tmp_path):
    import subprocess

    config = project(batch_size=1, lora_dropout=0.0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port", "0",
         "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m", "loraforge", "train", "text", str(config)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunFolder(tmp_path / "out")
    manifest = run.manifest()
    for machine in ({"processes": 2}, {}):  # an earlier LoRAForge wrote it nowhere but in the name of the device
        kept = {key: value for key, value in manifest["machine"].items() if key != "processes"}
        seal_run(run, {**manifest, "machine": {**kept, **machine}})
        told = []
        result = reproduce(host, run.path, None, told.append)
        assert result["verdict"] in ("identical", "close"), result["sentence"]
        new = RunFolder(run.path / "reproduced").manifest()
        assert new["config"]["gradient_accumulation"] == 2 and new["facts"]["steps"] == manifest["facts"]["steps"]
        assert any("2 processes" in line for line in told)
    run.config_file.write_text(
        run.config_file.read_text(encoding="utf-8").replace("lora_dropout: 0.0", "lora_dropout: 0.05"), encoding="utf-8"
    )
    seal_run(run, {**manifest, "config": {**manifest["config"], "lora_dropout": 0.05}})
    with pytest.raises(RunError, match="One process draws other dropout"):
        reproduce(host, run.path, None, lambda text: None)


def test_reproduce_wants_one_process_and_a_config_of_the_usual_form(sealed, host, monkeypatch, command):
    run, _ = sealed
    manifest = run.manifest()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="trains in one process"):
        reproduce(host, run.path, None, lambda text: None)
    monkeypatch.undo()
    manifest["machine"]["processes"] = 2
    manifest["config"] |= {"gradient_accumulation": "x", "lora_dropout": 0}
    seal_run(run, manifest)
    code, _, err = command("reproduce", run.path)
    assert code == 2 and "Traceback" not in err


def test_a_promoted_step_is_compared_with_the_checkpoint_of_that_step(sealed, host):
    run, _ = sealed
    manifest = run.manifest()
    shutil.rmtree(run.adapter)
    shutil.copytree(run.checkpoint(3) / "adapter", run.adapter)
    manifest["chosen"] = {"step": 3, "by": "promote"}
    seal_run(run, manifest)
    result = reproduce(host, run.path, None, lambda text: None)
    assert result["verdict"] == "identical" and result["step"] == 3


def test_another_seed_in_the_config_is_refused_and_named(sealed, host, command):
    run, _ = sealed
    text = run.config_file.read_text(encoding="utf-8")
    run.config_file.write_text(text.replace("seed: 42", "seed: 7"), encoding="utf-8")
    assert ("config.yaml", "altered") in bad(host, run)
    with pytest.raises(RunError, match=r"seed: was 42, is now 7"):
        reproduce(host, run.path, None, lambda text: None)
    assert not (run.path / "reproduced").exists()
    assert command("reproduce", run.path)[0] == 2


def test_changed_data_or_base_is_refused_and_named(sealed, host, data):
    run, _ = sealed
    rewrite(data, lambda lines: lines.__setitem__(3, lines[3].replace("第12条", "第99条")))
    with pytest.raises(RunError, match="row does not say what it said"):
        reproduce(host, run.path, None, lambda text: None)
    shutil.rmtree(data.parent)
    with pytest.raises(RunError, match="not on this computer"):
        reproduce(host, run.path, None, lambda text: None)


def test_a_base_whose_name_leads_elsewhere_today_is_refused(sealed, host, tmp_path, monkeypatch):
    """As of a hub's name without a revision, or of a GGUF file that another one was put in place of: the first folder is still there."""
    run, _ = sealed
    family = host.component("loraforge_model_families", "text", "causal-lm")
    then = family.base_files(opened.load_run(host, run.path).config)
    other = shutil.copytree(then[0].parent, tmp_path / "other")
    monkeypatch.setattr(type(family), "base_files", lambda self, config: sorted(other.iterdir()))
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    with pytest.raises(RunError, match="another one today than it was in training"):
        reproduce(host, run.path, None, lambda text: None)
    assert not (run.path / "reproduced").exists()


def test_a_run_whose_adapter_is_not_from_its_config_is_not_reproduced(sealed, project, train, host, tmp_path, command):
    run, _ = sealed
    other = train(project("other.yaml", seed=7, output_dir=str(tmp_path / "other"))).run
    shutil.copy(other.adapter / "adapter_model.safetensors", run.adapter)
    seal_run(run, run.manifest())  # somebody who swaps the adapter can seal it anew; training again tells
    assert not bad(host, run)
    code, out, _ = command("reproduce", run.path, "--json", "--out", tmp_path / "again")
    result = json.loads(out)
    assert code == 1 and result["verdict"] == "not reproduced"
    assert len(result["modules"]) == 14 and all(row["absolute"] > 0 and row["cosine"] < 0.9 for row in result["modules"])


def test_on_the_cpu_nearly_equal_is_not_reproduced_unless_the_versions_differ(sealed, host, tmp_path):
    import safetensors.torch

    run, _ = sealed
    file = run.adapter / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    safetensors.torch.save_file({name: value * 1.0001 for name, value in tensors.items()}, file, {"format": "pt"})
    manifest = {**run.manifest(), "code": provenance.code(host)}
    seal_run(run, manifest)
    result = reproduce(host, run.path, tmp_path / "one", lambda text: None)
    assert result["verdict"] == "not reproduced" and result["differences"] == []
    assert all(row["cosine"] > 0.999 and 0 < row["relative"] < 0.001 for row in result["modules"])
    manifest["versions"]["torch"] = "0.1"
    seal_run(run, manifest)
    result = reproduce(host, run.path, tmp_path / "two", lambda text: None)
    assert result["verdict"] == "close" and [line for line in result["differences"] if line.startswith("torch: was 0.1, is now")]


def test_adapters_are_compared_by_their_weight_change(sealed, tmp_path):
    import safetensors.torch
    import torch

    run, _ = sealed
    same = shutil.copytree(run.adapter, tmp_path / "same")
    tensors = safetensors.torch.load_file(same / "adapter_model.safetensors")
    turned = {n: t * (2 if ".lora_A." in n else 0.5) for n, t in tensors.items()}  # other tensors, the same weight change
    safetensors.torch.save_file(turned, same / "adapter_model.safetensors", {"format": "pt"})
    assert all(row["absolute"] == 0 and row["relative"] == 0 and row["cosine"] == pytest.approx(1) for row in compare(run.adapter, same))
    name = sorted(n for n in tensors if ".lora_B." in n)[0]
    torch.manual_seed(0)
    safetensors.torch.save_file({**tensors, name: -tensors[name]}, same / "adapter_model.safetensors", {"format": "pt"})
    rows = {row["module"]: row for row in compare(run.adapter, same)}
    changed = rows.pop(name.removeprefix("base_model.model.").removesuffix(".lora_B.weight"))
    assert changed["cosine"] == pytest.approx(-1) and changed["relative"] == pytest.approx(2)
    assert all(row["relative"] == 0 for row in rows.values())
