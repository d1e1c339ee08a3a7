# SPDX-License-Identifier: Apache-2.0
"""Commands that take long: they outlive page and studio, and what became of them is told as it is."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from builders import nightly
from builders.studios import Quick
from loraforge_studio.problems import Refused
from loraforge_studio.work import jobs
from loraforge_studio.work.processes import alive, identity

FOREVER = ["studio", "inner", "--port", "0", "--no-browser"]  # a command that only a signal ends
ENDED = ("done", "stopped")  # it depends on when the signal finds it
STARTER = """
import sys, time
from pathlib import Path
from builders.studios import Quick
quick = Quick(Path(sys.argv[1]))
quick.studio.start(quick.work("w"), "test", sys.argv[2:])
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def quick(tmp_path):
    made = Quick(tmp_path / "home")
    yield made
    made.studio.close()
    for job in made.studio.jobs.all():
        until(lambda job=job: told(job) or job.state != "running")  # a keeper that is just starting it would be missed
    for process in below(tmp_path):
        process.kill()
        process.wait(10)


def below(folder):
    """The processes whose working directory lies in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(true, seconds=90):
    """Waits for something to become true; its value."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


def begun(quick, words=FOREVER, work=None):
    """A job whose process is known and, if it is FOREVER, listens."""
    work = work or quick.work("w")
    job = quick.studio.jobs.find(work, quick.studio.start(work, "test", words)["id"])
    until(lambda: jobs._object(job.folder / "process.json"))
    if words is FOREVER:
        until(lambda: "token=" in (job.folder / "out.txt").read_text())
    return job


def told(job):
    return jobs._object(job.folder / "process.json")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_job_goes_on_when_its_studio_is_killed_or_ctrl_c_is_pressed(quick, number):
    home = quick.studio.folders.home
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home), *FOREVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert starter.stdout.readline() == "started\n"
    job = next(iter(Quick(home).studio.jobs.all()))
    os.killpg(starter.pid, number)  # a terminal sends its Ctrl-C to all that was started in it
    starter.wait(10)
    starter.stdout.close()
    until(lambda: told(job) and "token=" in (job.folder / "out.txt").read_text())
    again = Quick(home)  # a studio that is started again
    shown = again.ask("GET", "/api/jobs").json()
    assert [one["id"] for one in shown] == [job.id] and shown[0]["state"] == "running" and shown[0]["stopping"] is False
    answer = again.ask("POST", f"/api/works/w/jobs/{job.id}/stop").json()
    assert answer["stopping"] or answer["state"] != "running"
    until(lambda: job.state != "running")
    assert job.state in ENDED and again.ask("GET", "/api/jobs").json() == []


def test_whoever_is_killed_the_page_is_told_the_truth(quick):
    first = begun(quick)
    os.kill(told(first)["pid"], signal.SIGKILL)
    until(lambda: first.state != "running")
    shown = first.as_json()
    assert (shown["state"], shown["code"]) == ("failed", -9) and "memory" in shown["problems"][0]

    second = begun(quick, work=first.work)
    os.kill(told(second)["keeper"], signal.SIGKILL)
    until(lambda: not alive(told(second)["keeper"], told(second)["keeper_identity"]))
    assert second.state == "running"  # the command goes on, and can be stopped
    with pytest.raises(Refused, match="runs already"):
        begun(quick, work=first.work)
    second.stop()
    until(lambda: second.state != "running")
    assert second.state == "gone" and second.as_json()["problems"] == []

    third = begun(quick, work=first.work)
    for who in ("keeper", "pid"):
        os.kill(told(third)[who], signal.SIGKILL)
    until(lambda: third.state == "gone")


def test_a_number_that_another_process_has_now_is_not_taken_for_the_job(quick):
    job = begun(quick, ["list"])
    until(lambda: job.state == "done")
    until(lambda: not alive(told(job)["keeper"], told(job)["keeper_identity"]))
    (job.folder / "ended.json").unlink()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = {**told(job), "pid": other.pid, "keeper": other.pid}
        (job.folder / "process.json").write_text(json.dumps(process))
        assert job.state == "gone"
        job.stop()
        job.stop(now=True)
        assert other.poll() is None
        for odd in ({}, {"pid": "x"}, {"pid": None, "identity": None}, {"pid": -1, "identity": None}, {"pid": other.pid}, []):
            (job.folder / "process.json").write_text(json.dumps(odd))
            job.stop(now=True)
            assert job.state == "gone" or ((odd == [] and job.state in ("running", "gone")) and other.poll() is None)
    finally:
        other.kill()
        other.wait()
    assert identity(other.pid) is None and identity(0) is None and identity(os.getpid())


def test_the_clock_does_not_decide_what_runs(quick, monkeypatch):
    job = begun(quick)
    now = time.time()
    for shift in (-30 * 86400, -3600, 3600, 30 * 86400):
        monkeypatch.setattr(time, "time", lambda shift=shift: now + shift)
        assert job.state == "running"
        (job.folder / "process.json").rename(job.folder / "aside")
        assert job.state == "running"  # its keeper has just been started
        (job.folder / "aside").rename(job.folder / "process.json")


def test_of_many_clicks_in_two_studios_one_starts(quick):
    work = quick.work("w")
    studios = [quick.studio, Quick(quick.studio.folders.home).studio]
    heard = []

    def click(number):
        try:
            heard.append(studios[number % 2].start(work, "test", FOREVER)["id"])
        except Refused as refused:
            heard.append(refused.status)

    clicks = [threading.Thread(target=click, args=(number,)) for number in range(8)]
    for one in clicks:
        one.start()
    for one in clicks:
        one.join()
    assert sorted(map(str, heard))[1:] == ["409"] * 7 and len(list((work.hidden / "jobs").iterdir())) == 1
    assert (work.folder / "commands.sh").read_text().count("loraforge studio") == 1
    assert studios[1].jobs.of(work)[0].state == "running"


def test_a_work_that_gets_another_name_or_is_thrown_away_keeps_nobody(quick, tmp_path):
    job = begun(quick)
    job.work.folder.rename(quick.studio.folders.home / "renamed")
    moved = next(iter(quick.studio.jobs.all()))
    assert moved.work.name == "renamed" and moved.state == "running"
    moved.stop()
    until(lambda: moved.state in ENDED)  # its end was written where the folder is now
    assert not job.work.folder.exists()

    second = begun(quick, work=moved.work)
    process = told(second)
    shutil.rmtree(moved.work.folder)
    assert quick.ask("GET", "/api/works/renamed").status_code == 404 and quick.ask("GET", "/api/jobs").json() == []
    assert quick.ask("GET", f"/api/works/renamed/jobs/{second.id}/events").status_code == 404
    os.kill(process["pid"], signal.SIGINT)
    until(lambda: not alive(process["keeper"], process["keeper_identity"]))
    assert not moved.work.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_the_end_of_a_job_that_fills_the_disk_is_told(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", home], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        job = begun(Quick(home))
        with (home / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"x" * 4096)
        job.stop()  # the disk does not even take the mark for it
        until(lambda: job.state != "running", 10)
        assert job.state in (*ENDED, "failed")
    finally:
        for process in below(home):
            process.kill()
        subprocess.run(["umount", "-l", home], check=True)


@nightly
def test_a_training_that_is_stopped_saves_once_and_goes_on_where_it_was(quick):
    work = quick.work("Müller & Söhne's work")
    work.data.mkdir()
    (work.data / "t.csv").write_text(
        "instruction,output\n" + "".join(f"How long is period {n}?,Period {n} is {n} days.\n" for n in range(12))
    )
    work.config.write_text(
        "train_data_dir: ./data\nbase_model: tiny-chat\ntask_type: text-generation\nlora_rank: 4\nbatch_size: 4\nepochs: 400\nsave_steps: 1000\n"
        "output_dir: ./output/run\nlearning_rate: 0.001\n"
    )
    log = work.folder / "output" / "run" / "log.jsonl"
    job = begun(quick, ["train", "text", work.config.name, "--json"], work)
    until(lambda: log.exists() and log.read_text().count("\n") > 20)
    for _ in range(3):  # somebody presses Stop again and again: it still saves what it has
        job.stop()
    assert job.as_json()["stopping"]
    until(lambda: job.state != "running")
    assert job.state == "stopped", job.as_json()
    assert list((work.folder / "output" / "run").rglob("*checkpoint*")), sorted(work.folder.rglob("*"))
    steps = log.read_text().count("\n")

    work.config.write_text(work.config.read_text())
    typed = [line for line in (work.folder / "commands.sh").read_text().splitlines() if not line.startswith("#")]
    assert typed == [f"loraforge train text {shlex.quote(work.config.name)}"]
    job = begun(quick, ["train", "text", work.config.name, "--resume", "--json"], work)
    until(lambda: job.state != "running" or log.read_text().count("\n") > steps + 20)
    assert job.state == "running", job.problems()
    job.stop(now=True)
    until(lambda: job.state != "running", 10)
    assert job.state == "stopped"


def test_the_notes_are_commands_that_a_shell_gives_as_they_were(quick):
    words = [
        "check",
        "text",
        "a b.yaml",
        "it's",
        "$(touch pwned)",
        "`id`",
        "-x",
        "",
        "中文 文件.csv",
        "a\nb",
        '"',
        "\\",
        "!!",
        "*",
        "~",
        "#",
        "a\tb",
        "\x1b[0m",
    ]
    work = quick.work("w")
    work.note(words)
    work.append("# between")
    work.note(["list"])
    script = 'loraforge() { for word in "$@"; do printf "%s\\0" "$word"; done; }\n' + (work.folder / "commands.sh").read_text()
    for shell in ("sh", "bash"):
        done = subprocess.run([shell], input=script.encode(), capture_output=True, cwd=work.folder)
        assert done.stdout.decode().split("\0")[:-1] == [*words, "list"] and not done.stderr
    assert not (work.folder / "pwned").exists()


def test_what_a_command_says_before_it_fails_is_shown_and_what_cannot_start_too(quick, monkeypatch):
    job = begun(quick, ["train", "text", "none.yaml", "--json"])
    until(lambda: job.state != "running")
    shown = quick.ask("GET", f"/api/works/w/jobs/{job.id}").json()
    assert shown["state"] == "failed" and shown["code"] == 2 and "none.yaml" in shown["problems"][0] and shown["lines"]
    assert shown["command"] == "loraforge train text none.yaml"
    with quick.studio.jobs.find(job.work, job.id).folder.joinpath("err.txt").open("ab") as file:
        file.write(b"\x1b]0;x\x07" + b"\xff" * 10 + b"\n" * 5 + b"last\n" + b"y" * 500_000)
    assert len(job.lines()) <= 200 and "\x1b" not in "".join(job.lines())
    assert quick.ask("GET", "/api/works/w/jobs/x").status_code == 404
    (job.folder / "job.json").write_text("[1")
    assert quick.studio.jobs.of(job.work) == []
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Refused, match="no process can be started"):
        quick.studio.start(job.work, "test", ["list"])


# --- commands that take seconds ---------------------------------------------------------------------------------------------


def test_a_question_is_answered_by_the_command_itself_and_no_file_in_the_folder_is_taken_for_a_part_of_python(quick):
    work = quick.work("w")
    for name in ("yaml", "torch", "json", "loraforge"):
        (work.folder / f"{name}.py").write_text("open('pwned', 'w')\nraise SystemExit('pwned')\n")
    said = quick.studio.ask(["list", "--json"], work, note=True)
    assert said.code == 0 and isinstance(said.value, list) and said.command == "loraforge list"
    failed = quick.studio.ask(["train", "text", "none.yaml", "--json"], work, note=True)  # `train` starts anew by itself, in a terminal
    assert failed.code == 2 and "none.yaml" in failed.problems[0]
    with pytest.raises(Refused) as refused:
        failed.done()
    assert refused.value.status == 422 and refused.value.command == "loraforge train text none.yaml"
    assert [line for line in (work.folder / "commands.sh").read_text().splitlines() if line[0] != "#"] == ["loraforge list"]
    assert not (work.folder / "pwned").exists()
    shutil.rmtree(work.folder)
    with pytest.raises(Refused, match="not there any more"):
        quick.studio.ask(["list"], work)


def test_the_process_that_waits_is_small_and_one_that_dies_is_replaced(quick):
    asking = quick.studio.asking
    asking.warm()
    spare = asking._spare
    until(lambda: psutil.Process(spare.pid).cpu_times().user > 0.2)
    time.sleep(1)
    assert psutil.Process(spare.pid).memory_full_info().uss < 120e6
    spare.kill()
    spare.wait()
    assert quick.studio.ask(["list", "--json"]).code == 0
    until(lambda: asking._spare)
    asking._spare.kill()  # and nobody has noticed when the question comes
    assert quick.studio.ask(["list", "--json"]).code == 0


def test_of_questions_that_overtake_each_other_the_newest_is_answered(quick):
    heard = {}

    def ask(number, words):
        heard[number] = quick.studio.ask(words, newest="cost").code

    first = threading.Thread(target=ask, args=(1, FOREVER))
    first.start()
    until(lambda: quick.studio.asking._of)
    ask(2, ["list", "--json"])
    first.join(10)
    assert heard[2] == 0 and heard[1] < 0 and not below(quick.studio.folders.home / "inner")


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(quick):
    work = quick.work("w")
    with pytest.raises(Refused, match="longer than 3 seconds"):
        quick.studio.ask(FOREVER, work, seconds=3)
    until(lambda: not below(work.folder), 10)


def test_the_language_changes_while_the_studio_runs(quick, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    work = quick.work("w")
    assert "none.yaml" in quick.studio.ask(["train", "text", "none.yaml", "--json"], work).problems[0]
    assert quick.ask("POST", "/api/language", json={"language": "zh"}).json() == {"language": "zh"}
    assert "。" in quick.studio.ask(["train", "text", "none.yaml", "--json"], work).problems[0]
    assert quick.ask("GET", "/api/works/none").json()["problems"] == [f"{quick.studio.folders.home} 中没有名为“none”的工作。"]
    job = begun(quick, ["train", "text", "none.yaml", "--json"], work)
    until(lambda: job.state != "running")
    assert "。" in job.problems()[0] and quick.ask("GET", "/").status_code == 200


def test_a_studio_that_ends_leaves_no_process_and_no_file(studio, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        running = studio()
        children = until(lambda running=running: psutil.Process(running.process.pid).children(recursive=True))
        running.process.send_signal(number)
        rest = running.process.stdout.read()
        running.process.wait(20)
        psutil.wait_procs(children, 15)
        assert [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == [], number
        assert list((tmp_path / "tmp").iterdir()) == [] and "Traceback" not in "".join(running.said) + rest
        assert sorted(one.name for one in (running.folder / ".studio").iterdir()) == ["session", "session.lock"]


def test_a_studio_that_is_killed_comes_back_with_the_browsers_that_were_let_in(studio):
    import httpx

    running = studio()
    with httpx.Client(base_url=running.address) as browser:
        browser.get(running.url)
        mark = browser.get("/api/session").json()["mark"]
        running.kill()
        running.again()
        assert browser.get("/api/session").json()["mark"] == mark
        assert browser.post("/api/works", json={"name": "w"}, headers={"X-LoRAForge-Studio": mark}).status_code == 201
    second = studio(folder=running.folder)  # two at once, on one folder
    with httpx.Client(base_url=second.address) as browser:
        browser.get(second.url)
        assert [work["name"] for work in browser.get("/api/works").json()] == ["w"]
        assert browser.get("/api/session").json()["mark"] == mark
