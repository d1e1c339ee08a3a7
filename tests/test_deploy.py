# SPDX-License-Identifier: Apache-2.0
"""``deploy/``, read line by line: what it names is there, what it runs is a command of the product, and nothing has more rights than said."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys

import click
import pytest
import yaml
from builders import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def serve_command():
    """The command ``serve``, where this installation has it."""
    from loraforge.cli.main import cli
    from loraforge.plugin_api.host import PluginHost

    context = click.Context(cli, info_name="loraforge", obj=PluginHost(blocked=()))
    return cli.get_command(context, "serve")


def parsed(words: list[str]) -> dict[str, object]:
    """The options of ``loraforge serve WORDS``, as its own parser reads them; without it, only their form."""
    assert words[0] == "serve"
    command = serve_command()
    if command is not None:
        return command.make_context("serve", words[1:]).params
    assert all(one.startswith("--") for one in words[1::2]) and len(words[1:]) % 2 == 0
    return {"host": "127.0.0.1", "tokens": None} | {
        one[2:].replace("-", "_"): value for one, value in zip(words[1::2], words[2::2], strict=True)
    }


def check_served(words: list[str]) -> None:
    """Whoever lets other computers in wants tokens; adapters, log and port are those of the rest of the file."""
    options = parsed(words)
    assert options["host"] == "127.0.0.1" or options["tokens"], "another host without tokens"
    assert str(options["port"]) == "8000" and str(options.get("adapters") or options.get("folder")) == "/srv/loraforge/adapters"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_the_image_is_built_offline_runs_as_nobody_and_serves():
    steps = instructions()
    assert {kind for kind, _ in steps} <= {"FROM", "ARG", "COPY", "RUN", "USER", "WORKDIR", "ENV", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert ("ARG", "ACCELERATOR=cpu") in steps and [rest for kind, rest in steps if kind == "FROM"] == ["python:3.11-bookworm"]
    for kind, rest in steps:
        if kind == "COPY":
            assert (ROOT / rest.split()[0]).is_file(), rest
    [install] = [rest for kind, rest in steps if kind == "RUN" and "pip install" in rest]
    assert "--no-index" in install and "--constraint /opt/constraints.txt" in install and "source=wheelhouse/${ACCELERATOR}" in install
    kinds = [kind for kind, _ in steps]
    [user] = [rest for kind, rest in steps if kind == "USER"]
    assert user.split(":")[0] not in ("root", "0") and kinds.index("USER") < kinds.index("ENTRYPOINT")
    made = " ".join(rest for kind, rest in steps if kind == "RUN")
    number, group = user.split(":")
    assert f"groupadd --gid {group} " in made and f"useradd --uid {number} --gid {group} " in made
    cache = re.search(r"XDG_CACHE_HOME=(\S+)", dict(steps)["ENV"])[1]
    assert cache in made, "a base that is a GGUF file is turned into a folder there"
    assert json.loads(dict(steps)["ENTRYPOINT"]) == ["loraforge"]
    check_served(json.loads(dict(steps)["CMD"]))
    assert "HF_HUB_OFFLINE=1" in dict(steps)["ENV"]


def test_nothing_but_wheels_and_versions_goes_to_the_builder():
    lines = [line for line in read("Dockerfile.dockerignore").splitlines() if line and not line.startswith("#")]
    assert lines == ["*", "!deploy/constraints.txt", "!wheelhouse"]


def test_the_extras_that_are_installed_are_extras():
    """``serve`` comes with the server."""
    import tomllib

    known = {*tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"], "serve"}
    for text in (read("Dockerfile"), (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")):
        for found in re.findall(r"loraforge\[([\w,]+)\]", text):
            assert set(found.split(",")) <= known


def test_the_lines_of_the_page_are_the_servers():
    """Those of ``loraforge serve``, in blocks of their own; the files that the page names are there."""
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```shell\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["loraforge", "serve"], line
        if serve_command() is not None:
            options = serve_command().make_context("serve", words[2:]).params
            assert options["host"] == "127.0.0.1" or options["tokens"]
    for name in re.findall(r"(?<![\w/])deploy/([\w.-]+)", page):
        assert (DEPLOY / name).is_file() or name in ("access", "adapters", "models"), name


def test_compose():
    file = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    users = [rest for kind, rest in instructions() if kind == "USER"]
    assert set(file["services"]) == {"cpu", "cuda"}
    for name, service in file["services"].items():
        assert (
            service["profiles"] == [name] and service["build"]["args"] == {"ACCELERATOR": name} and service["image"] == f"loraforge:{name}"
        )
        assert (DEPLOY / service["build"]["context"]).resolve() == ROOT and (ROOT / service["build"]["dockerfile"]).is_file()
        assert [service["user"]] == users and service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") and port.endswith(":8000") for port in service["ports"])
        mounted = dict(one.split(":")[:2][::-1] for one in service["volumes"])
        check_served(service["command"])
        options = parsed(service["command"])
        assert mounted["/srv/loraforge/adapters"] == "./adapters" and str(options["audit_log"]).startswith(tuple(mounted))
        assert all(one.endswith(":ro") for one in service["volumes"] if not one.startswith(("logs:", "cache:")))
        folder = os.path.dirname(str(options["tokens"]))
        assert mounted[folder] == "./access", "a folder, so that an exchanged file is seen"
        assert mounted["/var/cache/loraforge"] == "cache"
        assert "localhost:8000/health" in service["healthcheck"]["test"][-1]
        compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")
    assert set(file["volumes"]) == {"logs", "cache"}
    assert file["services"]["cuda"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_the_unit_of_systemd():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read_string(read("loraforge.service"))
    service = unit["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0] == "/opt/loraforge/bin/loraforge"
    check_served(words[1:])
    log = str(parsed(words[1:])["audit_log"])
    assert (
        log.startswith(f"/var/log/{service['LogsDirectory']}/") and service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    )
    assert service["User"] not in ("root", "0") and service["ReadOnlyPaths"] == "/srv/loraforge"
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == ("strict", "yes", "")
    for key in ("ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictNamespaces", "LockPersonality"):
        assert service[key] == "yes"
    assert f"XDG_CACHE_HOME=/var/cache/{service['CacheDirectory']}" in service["Environment"]
    assert unit["Install"]["WantedBy"] == "multi-user.target"


# --- versions --------------------------------------------------------------------------------------------------------------------


def constraints() -> dict[str, str]:
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.!]+", line) for line in lines)
    names = [line.split("==")[0] for line in lines]
    assert names == sorted({*names})
    return dict(line.split("==") for line in lines)


def test_every_requirement_has_a_version_that_it_allows():
    pytest.importorskip("tomllib")
    from packaging.requirements import Requirement

    sys.path.insert(0, str(DEPLOY))
    try:
        import constraints as made
    finally:
        sys.path.remove(str(DEPLOY))
    known = constraints()
    for line in made.requirements(ROOT / "pyproject.toml"):
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate():
            assert made.normal(line) not in known or wanted.specifier.contains(known[made.normal(line)]), line
    assert {made.normal(line) for line in made.requirements(ROOT / "pyproject.toml")[:10]} <= {*known}
    here = made.installed(["torch", "transformers", "peft"])
    assert {"torch", "transformers", "peft", "numpy", "jinja2"} <= {*here} and "+" not in here["torch"]


def test_the_versions_go_together(tmp_path):
    """pip resolves the whole list among what is installed, without an index; a line that contradicts the others would stop it."""
    pytest.importorskip("pip")
    from importlib import metadata

    lines = [f"{name}=={version}" for name, version in constraints().items() if _installed(metadata, name) == version]
    assert len(lines) > 40
    line = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*line, *lines], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def _installed(metadata, name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_WHEELHOUSE" not in os.environ, reason="downloads wheels: set LORAFORGE_WHEELHOUSE=1")
def test_an_offline_machine_is_installed_from_a_wheelhouse(tmp_path):
    """The lines of docs/deploy.md, without torch, transformers and what stands on them, which are gigabytes."""
    light = ("click", "cryptography", "filelock", "huggingface-hub", "imagehash", "jinja2", "numpy", "openpyxl", "pillow", "pluggy", "psutil",
             "pydantic", "pyyaml", "rich", "safetensors", "scipy", "tokenizers")  # fmt: skip
    house, pip = tmp_path / "wheelhouse", [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", house, ROOT], check=True)
    subprocess.run([*pip, "download", "--dest", house, "--constraint", DEPLOY / "constraints.txt", *light], check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PIP_INDEX_URL")} | {"PIP_NO_INDEX": "1"}
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", house, "--constraint", DEPLOY / "constraints.txt"]
    subprocess.run([*install, *light], check=True, env=environment)
    subprocess.run([*install, "--no-deps", "loraforge"], check=True, env=environment)
    program = tmp_path / "venv" / "bin" / "loraforge"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert re.search(r"\b\d+\.\d+", told.stdout)
    keys = subprocess.run([program, "keys", "text"], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert "eval_minutes" in keys.stdout and "max_seq_length" in keys.stdout, keys.stderr
