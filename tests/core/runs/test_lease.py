# SPDX-License-Identifier: Apache-2.0
"""Who may write into a run's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from loraforge import RunError
from loraforge.cli import report
from loraforge.runs import lease
from loraforge.runs.folder import RunFolder

HOLD = "import sys,time;from pathlib import Path;from loraforge.runs.folder import RunFolder\nwith RunFolder(Path(sys.argv[1])).claimed(): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder, with another folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_with_another_tmpdir_is_told_who_writes_there(tmp_path, holder, monkeypatch):
    run = RunFolder(tmp_path / "out")
    with pytest.raises(RunError, match=rf"another run is writing there now.*process {holder.pid} on .*since 20"), run.claimed():
        pytest.fail("two at once")
    (tmp_path / "link").symlink_to(tmp_path / "out")  # another name for it, as a mount is
    with pytest.raises(RunError, match="another run"), RunFolder(tmp_path / "link").claimed():
        pytest.fail("two at once")
    holder.kill()
    holder.wait()
    with run.claimed():
        assert json.loads((run.path / lease.NAME).read_text())["pid"] == os.getpid()
    assert list(run.path.iterdir()) == []


def test_a_folder_that_was_made_for_it_goes_and_what_is_in_it_stays(tmp_path):
    with RunFolder(tmp_path / "a" / "b").claimed():
        assert (tmp_path / "a" / "b" / lease.NAME).is_file()
    assert list(tmp_path.iterdir()) == []
    with RunFolder(tmp_path / "a" / "b").claimed():
        (tmp_path / "a" / "b" / "mine").touch()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["mine"]


def test_the_lease_stays_with_the_name_when_the_folder_is_renamed_or_replaced(tmp_path):
    run = RunFolder(tmp_path / "out")
    with run.claimed():
        (run.path / "config.yaml").touch()
        kept = run.set_aside()
        assert sorted(p.name for p in kept.iterdir()) == ["config.yaml"]
        with pytest.raises(RunError, match="another run"), RunFolder(tmp_path / "out").claimed():
            pytest.fail("two at once")
        run.put_back(kept)
        assert sorted(p.name for p in run.path.iterdir()) == [lease.NAME, "config.yaml"] and not kept.exists()
        with pytest.raises(RunError, match="another run"), RunFolder(tmp_path / "out").claimed():
            pytest.fail("two at once")
    assert [p.name for p in run.path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("locks", [True, None])
def test_another_machine_holds_it_until_it_gives_no_sign_of_life(tmp_path, locks, monkeypatch):
    if locks is None:
        monkeypatch.setattr(lease, "_lock", lambda handle: None)
        monkeypatch.setattr(lease, "_AGREED", 0)
    run = RunFolder(tmp_path)
    theirs = {"pid": 7, "host": "node12", "since": "2026-11-30 06:00:00+0000", "machine": "another"}
    (tmp_path / lease.NAME).write_text(json.dumps(theirs))
    with pytest.raises(RunError, match=r"process 7 on node12, since 2026-11-30.*another machine.*[01] s ago; after 180 s"), run.claimed():
        pytest.fail("two at once")
    os.utime(tmp_path / lease.NAME, (time.time() - 181,) * 2)
    with run.claimed():
        assert json.loads((tmp_path / lease.NAME).read_text())["pid"] == os.getpid()
        os.utime(tmp_path / lease.NAME, (time.time() - 9999,) * 2) if locks else None
        with pytest.raises(RunError, match="another run"), RunFolder(tmp_path).claimed():
            pytest.fail("two at once")
    assert list(tmp_path.iterdir()) == []


def test_where_the_drive_has_no_locks_the_one_who_wrote_last_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "_lock", lambda handle: None)
    monkeypatch.setattr(lease, "_AGREED", 0)
    real = lease._read
    asked = []

    def overtaken(handle):
        asked.append(handle)
        return real(handle) if len(asked) == 1 else {"pid": 9, "host": "b", "since": "now", "machine": "m"}

    monkeypatch.setattr(lease, "_read", overtaken)
    with pytest.raises(RunError, match="process 9 on b"), RunFolder(tmp_path).claimed():
        pytest.fail("two at once")


def test_it_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.01)
    with RunFolder(tmp_path).claimed():
        os.utime(tmp_path / lease.NAME, (1, 1))
        end = time.monotonic() + 5
        while (tmp_path / lease.NAME).stat().st_mtime < 1000 and time.monotonic() < end:
            time.sleep(0.01)
        assert time.time() - (tmp_path / lease.NAME).stat().st_mtime < 100


def test_a_lease_is_not_under_the_seal(tmp_path):
    from loraforge.runs.seal import sealed_files

    (tmp_path / lease.NAME).touch()
    (tmp_path / "config.yaml").touch()
    assert [name for name, _ in sealed_files(tmp_path)] == ["config.yaml"]


def test_another_users_lease_counts_though_it_can_only_be_read(tmp_path, holder, monkeypatch):
    real = os.open

    def may_read_only(path, flags, *more):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", may_read_only)
    with pytest.raises(RunError, match=f"process {holder.pid}"), RunFolder(tmp_path / "out").claimed():
        pytest.fail("two at once")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_no_reason_to_stop_here(tmp_path):
    tmp_path.chmod(0o500)
    with RunFolder(tmp_path / "out").claimed():
        pass
    tmp_path.chmod(0o700)


def test_whether_somebody_writes_is_asked_without_writing(tmp_path):
    assert not lease.in_use(tmp_path) and not list(tmp_path.iterdir())
    with lease.leased(tmp_path):
        assert lease.in_use(tmp_path)
        left = (tmp_path / lease.NAME).read_bytes()
    assert not lease.in_use(tmp_path)
    file = tmp_path / lease.NAME
    file.write_bytes(left)  # of a process that was killed the file stays, and nobody has its lock
    assert not lease.in_use(tmp_path)
    with file.open("rb") as other:
        fcntl = pytest.importorskip("fcntl")
        fcntl.flock(other, fcntl.LOCK_EX)
        assert lease.in_use(tmp_path)


def test_a_run_whose_process_is_gone_is_not_called_running(tmp_path):
    manifest = {
        "status": "running",
        "started": "now",
        "task": "text",
        "config": {"base_model": "b", "train_data_dir": "d"},
        "data": {"rows": []},
    }
    run = SimpleNamespace(path=tmp_path, manifest=lambda: manifest)
    assert report.run_row(run)["status"] == "interrupted"
    with lease.leased(tmp_path):
        assert report.run_row(run)["status"] == "running"
