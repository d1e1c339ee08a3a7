"""The wheel, installed into a fresh virtual environment and run from elsewhere; a stranger's package beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from builders import ROOT

THIRD_PARTY = ROOT / "tests" / "thirdparty" / "loraforge-echo"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_XDIST_WORKER")}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**inherited, **environment},
        encoding="utf-8",
        timeout=500,
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this working tree."""
    out = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", out, ROOT, cwd=out)
    assert done.returncode == 0, done.stderr
    return next(out.glob("loraforge-*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """A fresh virtual environment with the wheel and the third-party plugin; the heavy libraries are those of this environment."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    # What this environment has, minus the editable loraforge, is lent through a .pth file: nothing of gigabytes is installed again.
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).stdout.strip()
    theirs = run(sys.executable, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).stdout.strip()
    Path(site, "lent.pth").write_text(theirs + "\n", encoding="utf-8")
    third = run(python, "-m", "pip", "install", "-q", "--no-deps", THIRD_PARTY, cwd=folder)
    assert third.returncode == 0, third.stderr
    return python


def test_the_wheel_holds_the_packages_and_the_embedded_model_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "loraforge",
        "loraforge_text",
        "loraforge_image",
        "loraforge_serve",
    }
    for file in (
        "loraforge/zh.json",
        "loraforge/locale/zh/LC_MESSAGES/click.mo",
        "loraforge/py.typed",
        "loraforge/data/findings.html",
        "loraforge_text/zh.json",
        "loraforge_text/py.typed",
        "loraforge_text/evaluation/general_knowledge.tsv",
        "loraforge_text/tiny_chat/model/model.safetensors",
        "loraforge_text/tiny_chat/model/chat_template.jinja",
        "loraforge_serve/zh.json",
        "loraforge_serve/page/assets/index.html",
        "loraforge_serve/page/assets/icons.svg",
        "loraforge_serve/py.typed",
        "loraforge_image/zh.json",
        "loraforge_image/py.typed",
        "loraforge_image/families/stable_diffusion/keys/sdxl.json",
        "loraforge_image/tiny_sd/model/unet/diffusion_pytorch_model.safetensors",
    ):
        assert file in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 24_000_000


def test_the_installed_wheel_is_what_runs(installed, tmp_path):
    code = "import loraforge, loraforge_text; print(loraforge.__file__); print(loraforge_text.__file__)"
    where = run(installed, "-c", code, cwd=tmp_path).stdout.splitlines()
    assert all(str(installed.parents[1]) in line for line in where), where


def test_a_strangers_package_is_as_good_as_a_built_in(installed, tmp_path):
    listed = json.loads(run(installed, "-m", "loraforge", "plugins", "--json", cwd=tmp_path).stdout)
    mine = next(p for p in listed["plugins"] if p["name"] == "echo")
    assert mine["origin"] == "loraforge-echo 1.2.3" and mine["error"] is None and listed["clashes"] == []
    assert run(installed, "-m", "loraforge", "echo", "a", "b", cwd=tmp_path).stdout == "a b\n"
    (tmp_path / "lines.txt").write_text("".join(f"问题{i}？ | 答案{i}。\n" for i in range(6)), encoding="utf-8")
    (tmp_path / "c.yaml").write_text(
        "train_data_dir: .\nbase_model: tiny-chat\ndata_loader: lines\nrepeat: 2\nprompt_template: echo\nexport: [summary]\n"
        "max_steps: 2\noutput_dir: out\nlora_rank: 2\neval_ratio: 0\nlearning_rate: 1e-3\n",
        encoding="utf-8",
    )
    done = run(installed, "-m", "loraforge", "train", "text", "c.yaml", cwd=tmp_path, LORAFORGE_LANG="en", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "export" / "summary" / "summary.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "echo.txt").read_text(encoding="utf-8").startswith("finished after")
    asked = json.loads(run(installed, "-m", "loraforge", "sample", "out", "问？", "--json", "--max-tokens", "2", cwd=tmp_path).stdout)
    assert asked[0]["prompt"] == "问？"
    rows = run(installed, "-m", "loraforge", "keys", "text", cwd=tmp_path, LORAFORGE_LANG="en").stdout
    assert "How often each line is repeated" in rows


def test_blocking_the_stranger_takes_his_parts_away(installed, tmp_path):
    done = run(installed, "-m", "loraforge", "echo", "x", cwd=tmp_path, LORAFORGE_BLOCK="echo", LORAFORGE_LANG="en")
    assert done.returncode == 2 and "plugin 'echo' is not in use: blocked by LORAFORGE_BLOCK" in done.stderr


def test_the_strangers_package_keeps_the_contracts(installed, tmp_path):
    done = run(
        installed,
        "-c",
        "import loraforge_echo; from loraforge.testing import check_plugin; check_plugin(loraforge_echo)",
        cwd=tmp_path,
        LORAFORGE_BLOCK="echo",
    )
    assert done.returncode == 0, done.stderr
