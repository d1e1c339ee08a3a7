# SPDX-License-Identifier: Apache-2.0
"""Every malformed input of the corpus ends in a message that names it, exit code 2, no traceback, and nothing written or changed."""

from __future__ import annotations

import os
import signal
import tracemalloc
from pathlib import Path

import pytest
from builders.malformed.case import Case
from builders.malformed.corpus import CASES

SECONDS = 120  # a hang is what it is there for; a busy machine is not one


class TooLong(BaseException):
    """Not an Exception: nothing in between may catch it."""


@pytest.fixture
def watchdog():
    """Ends a test that takes longer than it may."""

    def bark(*_):
        raise TooLong(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, base) -> Path:
    """One finished run with a checkpoint."""
    from builders.malformed.case import sound

    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost

    here = tmp_path_factory.mktemp("finished")
    sound(here, base)
    host = PluginHost(blocked=())
    run_training(make_plan(host, "text", here / "config.yaml", ["save_steps=1", "max_steps=2"]), host)
    return here / "out"


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file with its kind, size and time, and every folder: a run's own is made for its lease, and goes with it. Not the log of a
    training that did not begin, which is kept beside it."""
    found = {}
    for path in [folder, *(path for path in sorted(folder.rglob("*")) if not path.name.endswith(".failed.jsonl"))]:
        told = path.lstat()
        found[str(path)] = (told.st_mode, 0, 0) if path.is_dir() else (told.st_mode, told.st_size, told.st_mtime_ns)
    return found


def ids(case: Case) -> str:
    return str(case).replace("\0", "").replace("::", ":")


@pytest.mark.parametrize("case", CASES if "LORAFORGE_ALL_HOSTILE" in os.environ else CASES[::3], ids=ids)  # every third: minutes
def test_a_malformed_input_ends_in_a_message_and_leaves_nothing_behind(case, tmp_path, base, finished, command, monkeypatch, watchdog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("loraforge_text.templates.prompting.SECONDS", 1)
    case.build(tmp_path, base, finished)
    before, shared = snapshot(tmp_path), snapshot(finished)
    code, out, err = command(*case.command)
    told = out + err
    assert code == case.code, told
    assert "Traceback" not in told and (err.strip() or case.code == 1), told
    assert all(words in told for words in case.says), told
    assert max(map(len, told.splitlines()), default=0) < 25_000, "a line that nobody reads"
    assert snapshot(tmp_path) == before and snapshot(finished) == shared
    assert "pwned" not in os.listdir(tmp_path)


def test_a_workbook_that_unpacks_to_gigabytes_is_refused_before_anything_is_unpacked(tmp_path):
    from builders.malformed.workbooks import WORKBOOKS
    from loraforge_text.data.readers import read_tables
    from loraforge_text.data.readers.rows import Reading, Source

    from loraforge import DataError

    file = tmp_path / "bomb.xlsx"
    file.write_bytes(WORKBOOKS["a sheet that unpacks to 300 MB"][0]())
    tracemalloc.start()
    with pytest.raises(DataError, match="bomb.xlsx: unpacks to 300 MB"):
        read_tables(Source.of(file), Reading())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
