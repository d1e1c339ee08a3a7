# SPDX-License-Identifier: Apache-2.0
"""The wheel, installed into a fresh virtual environment and run from elsewhere; a stranger's package beside it."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from builders import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

THIRD_PARTY = ROOT / "tests" / "thirdparty" / "loraforge-echo"
CONFIGS = ROOT / "configs"
EXAMPLES = {
    "loraforge_text": [
        *(CONFIGS / name for name in ("legal.yaml", "medical_qa.yaml", "pharmacy-en.yaml")),
        *(CONFIGS / "data" / name / "metadata.csv" for name in ("legal", "medical", "pharmacy-en")),
    ],
    "loraforge_image": [
        *(CONFIGS / f"{name}.yaml" for name in ("cyberpunk", "sdxl", "zimage", "flux2-klein", "qwen-image")),
        *sorted((CONFIGS / "data" / "cyberpunk").iterdir()),
    ],
}
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


def wheelhouse(folder: Path, wheel: Path) -> Path:
    """The wheel beside all that it needs, directly or not: for each distribution of this environment a wheel with its metadata and no code.
    pip so looks for names, versions, extras and markers as it does with the whole ones, which are gigabytes."""
    folder.mkdir()
    shutil.copy(wheel, folder)
    wanted, seen = [Requirement("loraforge")], set()
    while wanted:
        one = wanted.pop()
        name = canonicalize_name(one.name)
        if (name, frozenset(one.extras)) in seen:
            continue
        seen.add((name, frozenset(one.extras)))
        if name == "loraforge":
            lines = zipfile.ZipFile(wheel).read(f"{wheel.name.rsplit('-', 3)[0]}.dist-info/METADATA").decode()
            needed = email.message_from_string(lines).get_all("Requires-Dist") or []
        else:
            found = metadata.distribution(one.name)
            needed = found.requires or []
            _empty_wheel(folder, name.replace("-", "_"), found)
        for line in needed:
            requirement = Requirement(line)
            if any(requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                wanted.append(requirement)
    return folder


def _empty_wheel(folder: Path, name: str, found: metadata.Distribution) -> None:
    place = f"{name}-{found.version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{found.version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{place}/METADATA", found.read_text("METADATA") or found.read_text("PKG-INFO") or "")
        file.writestr(f"{place}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{place}/RECORD", "".join(f"{place}/{part},,\n" for part in ("METADATA", "WHEEL", "RECORD")))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """A fresh virtual environment in which ``pip install loraforge`` was typed, without a network, and the third-party plugin; the code of the
    libraries is that of this environment."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    house = wheelhouse(folder / "house", wheel)
    done = run(python, "-m", "pip", "install", "-q", "--no-index", "--find-links", house, "loraforge", cwd=folder)
    assert done.returncode == 0, done.stderr
    # What this environment has, minus the editable loraforge, is lent through a .pth file: nothing of gigabytes is installed again.
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).stdout.strip()
    theirs = run(sys.executable, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).stdout.strip()
    Path(site, "lent.pth").write_text(theirs + "\n", encoding="utf-8")
    third = run(python, "-m", "pip", "install", "-q", "--no-deps", THIRD_PARTY, cwd=folder)
    assert third.returncode == 0, third.stderr
    return python


def test_the_version_is_the_tag_and_the_links_lead_to_where_it_was_built(tmp_path):
    """In a clone, since a tag put here would stay."""
    clone = tmp_path / "clone"
    for line in (("clone", "-q", ROOT, clone), ("-C", clone, "tag", "v7.8.9")):
        assert run("git", *line, cwd=tmp_path).returncode == 0
    done = run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-q",
        "-w",
        tmp_path,
        clone,
        cwd=tmp_path,
        PROJECT_URL="https://example.org/fork/",
    )
    assert done.returncode == 0, done.stderr
    wheel = zipfile.ZipFile(tmp_path / "loraforge-7.8.9-py3-none-any.whl")
    metadata = wheel.read("loraforge-7.8.9.dist-info/METADATA").decode()
    assert (
        "Project-URL: Source, https://example.org/fork\n" in metadata
        and "Project-URL: Issues, https://example.org/fork/issues\n" in metadata
    )


def test_the_wheel_holds_the_packages_and_the_embedded_model_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "loraforge",
        "loraforge_text",
        "loraforge_image",
        "loraforge_serve",
        "loraforge_studio",
    }
    for file in (
        "loraforge/zh.json",
        "loraforge/locale/zh/LC_MESSAGES/click.mo",
        "loraforge/py.typed",
        "loraforge/data/findings.html",
        "loraforge/scaffold/kinds/test_loader.py.in",
        "loraforge/scaffold/package/README.zh.md.in",
        "loraforge_text/zh.json",
        "loraforge_text/py.typed",
        "loraforge_text/evaluation/general_knowledge.tsv",
        "loraforge_text/tiny_chat/model/model.safetensors",
        "loraforge_text/tiny_chat/model/chat_template.jinja",
        "loraforge_serve/zh.json",
        "loraforge_serve/page/assets/index.html",
        "loraforge_serve/page/assets/icons.svg",
        "loraforge_serve/py.typed",
        "loraforge_studio/zh.json",
        "loraforge_studio/page/assets/index.html",
        "loraforge_studio/page/assets/steps/train.js",
        "loraforge_studio/page/assets/words/common.js",
        "loraforge_studio/page/assets/vendor/uPlot.iife.min.js",
        "loraforge_studio/page/assets/vendor/LICENSE.uPlot.txt",
        "loraforge_studio/py.typed",
        "loraforge_image/zh.json",
        "loraforge_image/py.typed",
        "loraforge_image/families/stable_diffusion/keys/sdxl.json",
        "loraforge_image/tiny_sd/model/unet/diffusion_pytorch_model.safetensors",
    ):
        assert file in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 25_000_000


def test_the_installed_wheel_is_what_runs(installed, tmp_path):
    code = "import loraforge, loraforge_text; print(loraforge.__file__); print(loraforge_text.__file__)"
    where = run(installed, "-c", code, cwd=tmp_path).stdout.splitlines()
    assert all(str(installed.parents[1]) in line for line in where), where


def test_the_examples_are_in_the_wheel_as_they_are_in_the_repository(wheel):
    file = zipfile.ZipFile(wheel)
    for package, example in ((name, path) for name in ("loraforge_text", "loraforge_image") for path in EXAMPLES[name]):
        assert file.read(f"{package}/examples/{example.relative_to(ROOT / 'configs').as_posix()}") == example.read_bytes(), example
    packed = {name for name in file.namelist() if "/examples/" in name and name.endswith(".yaml")}
    assert packed == {f"{name}/examples/{path.name}" for name, paths in EXAMPLES.items() for path in paths if path.suffix == ".yaml"}


def test_an_example_is_written_and_trained_without_a_repository(installed, tmp_path):
    done = run(installed, "-m", "loraforge", "init", "--example", "legal", "one", cwd=tmp_path, LORAFORGE_LANG="en")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "one/legal.yaml").read_bytes() == (ROOT / "configs/legal.yaml").read_bytes()
    few = ("--set", "max_steps=2", "--set", "eval_answers=false")
    done = run(
        installed, "-m", "loraforge", "train", "text", "--example", "legal", *few, cwd=tmp_path, LORAFORGE_LANG="en", OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output/legal/export/peft/adapter_model.safetensors").is_file() and (tmp_path / "legal.yaml").is_file()
    done = run(installed, "-m", "loraforge", "check", "image", "--example", "cyberpunk", cwd=tmp_path, LORAFORGE_LANG="en")
    assert done.returncode == 0 and "Written: cyberpunk.yaml" in done.stderr, done.stderr


@pytest.mark.skipif("LORAFORGE_ALL_WHEELS" not in os.environ, reason="needs gigabytes of wheels: set LORAFORGE_ALL_WHEELS=FOLDER")
def test_pip_installs_all_of_it_without_a_network(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    links = ("--find-links", wheel.parent, "--find-links", os.environ["LORAFORGE_ALL_WHEELS"])
    done = run(python, "-m", "pip", "install", "-q", "--no-index", *links, "loraforge", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(python, "-m", "loraforge", "train", "text", "--example", "legal", "--set", "max_steps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


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


def test_a_plugin_that_the_installed_wheel_begins_is_installed_and_used(installed, tmp_path):
    begun = run(installed, "-m", "loraforge", "new-plugin", "house-notes", cwd=tmp_path, LORAFORGE_LANG="en")
    assert begun.returncode == 0 and "  pytest house-notes" in begun.stdout, begun.stderr
    site = tmp_path / "site"  # not among the others' plugins
    done = run(installed, "-m", "pip", "install", "-q", "--no-deps", "--target", site, "./house-notes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = json.loads(run(installed, "-m", "loraforge", "plugins", "--json", cwd=tmp_path, PYTHONPATH=str(site)).stdout)
    mine = next(p for p in listed["plugins"] if p["name"] == "house-notes")
    assert mine["origin"] == "loraforge-house-notes 0.1.0" and mine["error"] is None and mine["hooks"] == ["loraforge_data_loaders"]


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
