"""A training command starts itself anew once, with settings of glibc's allocator; nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


def test_another_system_goes_on_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert tuned(["train"], {}) is None


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
