# SPDX-License-Identifier: Apache-2.0
"""A training command starts itself anew once, with settings of glibc's allocator; nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from loraforge.training import allocator
from loraforge.training.allocator import tuned

linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc")


@linux
def test_only_training_and_only_once():
    here = {"PATH": "/bin"}
    made = tuned(["-p", "mine.py", "train", "text", "a.yaml"], here)
    if made is None:
        pytest.skip("another C library")
    assert made["PATH"] == "/bin" and "glibc.malloc.tcache_count=0" in made["GLIBC_TUNABLES"]
    assert "glibc.malloc.trim_threshold=" in made["GLIBC_TUNABLES"], "what a step freed is not given back, to be fetched anew"
    assert tuned(["train", "text", "a.yaml"], made) is None, "not twice"
    assert tuned(["check", "text", "a.yaml"], here) is None
    kept = tuned(["train"], {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2"})
    assert kept is not None and kept["GLIBC_TUNABLES"].startswith("glibc.cpu.hwcaps=-AVX2:glibc.malloc.")
    assert tuned(["train"], {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}) is None, "the user's own settings stay"


@linux
def test_the_settings_are_glibcs_and_nothing_else_of_the_environment_changes(monkeypatch):
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    given = {"A": "1", "GLIBC_TUNABLES": ""}
    made = tuned(["train"], given)
    # The names and the largest threshold stand in the manual of glibc, "Memory Allocation Tunables"; DEFAULT_MMAP_THRESHOLD_MAX is 32 MiB.
    wanted = {"tcache_count": 0, "mxfast": 0, "mmap_threshold": 32 * 2**20, "trim_threshold": 2**30}
    assert dict(one.split("=") for one in made["GLIBC_TUNABLES"].split(":")) == {f"glibc.malloc.{k}": str(v) for k, v in wanted.items()}
    assert {**made, "GLIBC_TUNABLES": ""} == given and given["GLIBC_TUNABLES"] == ""


def test_another_system_goes_on_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert tuned(["train"], {}) is None


@linux
@pytest.mark.parametrize("says", ["musl 1.2", "", None, ValueError, OSError])
def test_another_c_library_goes_on_as_it_is(monkeypatch, says):
    def confstr(name):
        if isinstance(says, type):
            raise says
        return says

    monkeypatch.setattr(os, "confstr", confstr)
    assert tuned(["train"], {}) is None


@linux
def test_the_new_start_is_the_same_command(monkeypatch):
    started = []
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    monkeypatch.setattr(os, "execve", lambda *how: started.append(how))
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "argv", ["loraforge", "train", "text"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "-m", "loraforge", "train", "text"])
    allocator.start_anew()
    ((program, arguments, environment),) = started
    assert (program, arguments) == (sys.executable, [sys.executable, "-X", "utf8", "-m", "loraforge", "train", "text"])
    assert environment == tuned(["train"], os.environ)
    for name, value in (("executable", ""), ("orig_argv", []), ("argv", ["train", "check"])):  # argv[0] is the command's own name
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, value)
            allocator.start_anew()
    assert len(started) == 1

    def refused(*how):
        raise OSError

    monkeypatch.setattr(os, "execve", refused)
    allocator.start_anew()  # goes on as it is


@linux
@pytest.mark.parametrize("command", [["-m", "loraforge"], ["-X", "utf8", "-m", "loraforge"]])
def test_the_command_stays_the_same_process_with_its_arguments(command, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    started = subprocess.Popen(
        [sys.executable, *command, "train", "text", "nothing here.yaml"],
        env={**environment, "LORAFORGE_LANG": "en"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _ = started.communicate(timeout=120)
    assert started.returncode == 2 and "nothing here.yaml" in output


def test_what_was_imported_is_not_looked_through_for_garbage_at_the_end():
    told = "import atexit, gc, sys; atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count())); "
    code = f"{told} sys.argv = ['loraforge', '--version']; from loraforge.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    threshold, frozen = done.stdout.split()[-2:]
    assert done.returncode == 0 and int(threshold) >= 10_000 and int(frozen) > 1_000, done
