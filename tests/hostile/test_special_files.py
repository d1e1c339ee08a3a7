# SPDX-License-Identifier: Apache-2.0
"""Pipes, devices, sockets and files that the system makes up, wherever a path is taken: a sentence, at once."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest
from builders.tiny_text import make_base, write_config, write_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
SECONDS = 5


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def noise(path: Path) -> None:
    path.symlink_to("/dev/random")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        made.bind(path.name if hasattr(contextlib, "chdir") else str(path))


def made_up(path: Path) -> None:
    path.symlink_to("/proc/self/environ")


KINDS = (pipe, zeros, noise, listening, made_up)


def told(*arguments: object) -> tuple[int, str]:
    """The exit code of a command and what it said, in a fork that may take no 5 seconds and no 3 GB more."""
    place = Path(tempfile.gettempdir()) / f"told-{os.getpid()}"
    pid = os.fork()
    if not pid:
        code = 99
        with place.open("w") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                from loraforge.cli.main import main

                used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
                resource.setrlimit(resource.RLIMIT_AS, (used + 3_000_000_000,) * 2)
                main([str(word) for word in arguments])
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException:
                traceback.print_exc()
        os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            text = place.read_text()
            place.unlink()
            return os.waitstatus_to_exitcode(status), text
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -9, "it hangs"


@pytest.fixture(scope="module")
def text_base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What every command imports, so that the forks are quick."""
    import loraforge_text.task  # noqa: F401
    import openpyxl  # noqa: F401
    import safetensors.torch  # noqa: F401
    import tokenizers  # noqa: F401

    from loraforge.cli.main import main

    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(["list"])


def refused(code: int, text: str, *, name: str) -> None:
    assert code == 2, (name, code, text)
    assert "Traceback" not in text and "Errno" not in text, text


@pytest.mark.parametrize("kind", [pipe, zeros])
@pytest.mark.parametrize("key", ["train_data_dir", "metadata_path", "base_model", "init_from_adapter", "waivers", "word_list"])
def test_keys_of_a_text_run(tmp_path, text_base, key, kind):
    write_rows(tmp_path / "data" / "metadata.csv")
    kind(tmp_path / "odd.csv")
    values = {"train_data_dir": str(tmp_path / "data"), "base_model": str(text_base), key: str(tmp_path / "odd.csv")}
    refused(*told("check", "text", write_config(tmp_path / "c.yaml", **values)), name=key)


@pytest.mark.parametrize("kind", KINDS)
def test_the_config_itself(tmp_path, kind):
    kind(tmp_path / "c.yaml")
    refused(*told("check", "text", tmp_path / "c.yaml"), name="config")


@pytest.mark.parametrize("kind", [pipe])
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "chat_template.jinja", "generation_config.json",
             "special_tokens_map.json", "model.safetensors.index.json", "adapter_config.json", "vocab.json"]
)  # fmt: skip
def test_files_of_a_base(tmp_path, text_base, name, kind):
    write_rows(tmp_path / "data" / "metadata.csv")
    shutil.copytree(text_base, tmp_path / "base")
    (tmp_path / "base" / name).unlink(missing_ok=True)
    kind(tmp_path / "base" / name)
    config = write_config(tmp_path / "c.yaml", train_data_dir=str(tmp_path / "data"), base_model=str(tmp_path / "base"))
    code, text = told("check", "text", config)
    refused(code, text, name=name)
    assert name in text


@pytest.mark.parametrize("kind", [pipe, zeros, made_up])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "loraforge.json"])
def test_files_of_an_adapter(tmp_path, text_base, name, kind):
    from loraforge import RunError
    from loraforge.adapters.peft_format import read_peft

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    import safetensors.torch
    import torch

    safetensors.torch.save_file({"x": torch.zeros(1)}, folder / "adapter_model.safetensors")
    (folder / name).unlink(missing_ok=True)
    kind(folder / name)
    with pytest.raises(RunError, match="no file but"):
        read_peft(folder)


@pytest.mark.parametrize("kind", [zeros])
@pytest.mark.parametrize(
    "command", ["verify", "sample", "eval", "export", "card", "runs", "golden", "chat", "inspect", "grade", "metadata"]
)
def test_commands(tmp_path, command, kind):
    run = tmp_path / "run"
    run.mkdir()
    kind(run / "manifest.json")
    kind(run / "adapter_model.safetensors")
    kind(run / "golden_prompts.json")
    kind(run / "rows.csv")
    words = {
        "sample": ["sample", run, "x"],
        "export": ["export", run, "--to", "peft"],
        "golden": ["golden", run, "http://127.0.0.1:9"],
        "inspect": ["inspect", run / "adapter_model.safetensors"],
        "grade": ["eval", run, "--grade", run / "rows.csv"],
        "metadata": ["metadata", run / "rows.csv", "--out", tmp_path / "made.csv"],
    }.get(command, [command, run])
    code, text = told(*words)
    if command == "runs":
        assert code == 0 and "Traceback" not in text, text
    else:
        refused(code, text, name=command)


@pytest.mark.parametrize("kind", [pipe])
@pytest.mark.parametrize("what", ["picture", "caption", "metadata.csv", "metadata.jsonl", "base", "unet/config.json", "model_index.json",
                                  "unet/diffusion_pytorch_model.safetensors", "tokenizer/vocab.json"])  # fmt: skip
def test_pictures_and_their_bases(tmp_path, what, kind):
    from builders.tiny_images import draw_pictures
    from loraforge_image.families.base_files import EMBEDDED

    draw_pictures(tmp_path / "data", 3)
    base = tmp_path / "base"
    shutil.copytree(EMBEDDED["tiny-sd"], base, copy_function=os.link)
    place = {
        "picture": next((tmp_path / "data").glob("*.png")),
        "caption": next((tmp_path / "data").glob("*.png")).with_suffix(".txt"),
        "base": tmp_path / "base.safetensors",
    }.get(what, tmp_path / "data" / what if what.startswith("metadata") else base / what)
    place.unlink(missing_ok=True)
    kind(place)
    config = write_config(
        tmp_path / "c.yaml", train_data_dir=str(tmp_path / "data"), base_model=str(place if what == "base" else base), resolution=64
    )
    code, text = told("check", "image", config)
    assert code in (0, 2) and "Traceback" not in text and "Errno" not in text, (code, text)
    assert code == 2 or what in ("picture", "caption", "metadata.csv", "metadata.jsonl"), text
