# SPDX-License-Identifier: Apache-2.0
"""Kills runs at random instants, resumes them until they are finished, and compares what is left with a run that was never stopped.

    python tests/builders/killing.py --kills 200 --task both --seed 1

Every run is a fork of one process that has imported everything and computed nothing, so that a trial costs seconds. The instant is either
a time (SIGKILL, SIGTERM, SIGINT, SIGINT twice) or an operation on the file system: the n-th that changes something in the run's folder or
in its cache, before it is made ("before"), or with the file that was being written cut short ("torn").
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import gc
import hashlib
import importlib
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.update({"LORAFORGE_LANG": "en", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "TOKENIZERS_PARALLELISM": "false"})
os.environ.update({"OMP_NUM_THREADS": "1", "LORAFORGE_BLOCK": "tensorboard", "COLUMNS": "200"})
sys.path.insert(0, str(Path(__file__).parents[1]))

from builders.plots import blank_plots

FAULTS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice", "before", "torn")
STAGES = (
    ("data", "loraforge.pipeline.run", "load_data"), ("loading", "loraforge.pipeline.session", "Session._load"),
    ("encoding", "loraforge.pipeline.session", "Session._encode"), ("probe", "loraforge.training.loop", "Loop.estimate_seconds"),
    ("step", "loraforge.training.loop", "Loop.step"), ("evaluation", "loraforge.training.loop", "Loop.evaluate"),
    ("samples", "loraforge.pipeline.session", "Session._sample"), ("checkpoint", "loraforge.pipeline.session", "Session._save"),
    ("adapter", "loraforge.pipeline.session", "Session._keep_adapter"), ("finish", "loraforge.pipeline.session", "Session._finish"), ("export", "loraforge.pipeline.finish", "write_export"),
    ("comparison", "loraforge.pipeline.finish", "_compared"), ("card", "loraforge.pipeline.finish", "write_card"), ("seal", "loraforge.runs.seal", "_write"),
)  # fmt: skip
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.truncate", "shutil.copyfile")


def warm() -> None:
    """Imports what a run imports."""
    names = {
        "accelerate.utils": (), "matplotlib.backends.backend_agg": (), "peft.tuners.lora": (), "loraforge.adapters.lora": (), "loraforge.cli.main": (),
        "loraforge.pipeline.run": (), "loraforge_image.families.trainable": (), "loraforge_text.families.causal_lm": (), "diffusers.training_utils": (),
        "diffusers": ("AutoencoderKL", "DDIMScheduler", "StableDiffusionPipeline", "UNet2DConditionModel"),
        "transformers": ("AutoModelForCausalLM", "AutoTokenizer", "CLIPTextModel", "CLIPTokenizer", "LlamaForCausalLM"),
    }  # fmt: skip
    for name, parts in names.items():
        module = importlib.import_module(name)
        for part in parts:
            getattr(module, part)  # these libraries import their parts on first use


def forked(work: Callable[[], object], output: Path | None = None) -> int:
    """The process id of a fork that does ``work`` and ends with 0, the code of a ``SystemExit``, or 99 for any other exception."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        if output is not None:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import torch

        torch.set_num_threads(1)
        work()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Waits for a fork; the number of the signal that killed it is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- inside of the fork ------------------------------------------------------------------------------------------------------


class Stage:
    """The stage that a fork has reached, in memory that it shares with its parent."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 64)

    def set(self, name: str) -> None:
        self._page[:] = name.encode().ljust(64)

    def get(self) -> str:
        return self._page[:].decode().strip("\0 ")

    def watch(self) -> None:
        """Notes the stages of the run that this process is going to make."""
        for name, module, path in STAGES:
            owner = importlib.import_module(module)
            *parents, last = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, last, self._noting(name, getattr(owner, last)))

    def _noting(self, name: str, real: Callable) -> Callable:
        def call(*args, **options):
            before = self.get()
            self.set(name)
            result = real(*args, **options)  # an exception leaves the stage that it came from
            self.set(before)
            return result

        return call


def at_change(number: int, places: list[Path], act: Callable[[Path | None], None]) -> list[int]:
    """Calls ``act`` before the ``number``-th change below ``places``, with the file that is being written, if one is.

    Returns:
        a list whose only entry is the number of changes so far.
    """
    import safetensors.torch

    roots = tuple(str(place) for place in places)
    state: dict[str, Path | None] = {"file": None}
    count = [0]

    def change(path: object, then: Path | None) -> None:
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(roots):
            count[0] += 1
            if count[0] == number:
                act(state["file"])
            state["file"] = then

    def hook(event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            change(args[0], Path(os.fsdecode(args[0])) if isinstance(args[0], str | bytes | os.PathLike) else None)
        elif event in _CHANGES:
            change(args[0], None)

    real = safetensors.torch.save_file

    def save_file(tensors, filename, metadata=None):
        change(str(filename), None)
        real(tensors, filename, metadata)
        state["file"] = Path(filename)
        change(str(filename), None)

    safetensors.torch.save_file = save_file
    sys.addaudithook(hook)
    return count


def kill_torn(rng: random.Random) -> Callable[[Path | None], None]:
    """Cuts the file that is being written short, and kills this process."""

    def act(file: Path | None) -> None:
        if file is not None and file.is_file() and (size := file.stat().st_size):
            keep = size - min(size, rng.randint(1, 30)) if file.name == "log.jsonl" else rng.randrange(size)
            os.truncate(file, keep)
        os.kill(os.getpid(), signal.SIGKILL)

    return act


def kill_here(file: Path | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- runs --------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Kind:
    """A config, with what an uninterrupted run of it leaves."""

    task: str
    config: Path
    seconds: float = 0.0
    changes: int = 0
    wanted: dict[str, str] = dataclasses.field(default_factory=dict)


class Bench:
    """A folder with bases, data and configs, in which runs are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stage = Stage()

    def kinds(self, task: str, compared: bool) -> list[Kind]:
        """The configs, their bases and data made and an uninterrupted run of each."""
        made = [Kind("text", self.folder / f"{name}.yaml") for name in ("text", "compared")[: 1 + compared] if task != "image"]
        made += [Kind("image", self.folder / "image.yaml")] if task != "text" else []
        assert ended(forked(lambda: self._make(task))) == 0
        for kind in made:
            place = self.folder / f"whole-{kind.config.stem}"
            started = time.monotonic()
            note = place.with_suffix(".count")
            code = ended(self.start(kind, place, note=note))
            assert code == 0, (place / "output").read_text()
            kind.seconds, kind.changes, kind.wanted = time.monotonic() - started, int(note.read_text()), hashes(place / "out")
        return made

    def _make(self, task: str) -> None:
        from builders.tiny_images import draw_pictures, make_sd
        from builders.tiny_text import make_base, write_config, write_rows

        common = {"lora_rank": 4, "lora_dropout": 0.1, "batch_size": 2, "gradient_accumulation": 2, "learning_rate": 0.01, "save_steps": 2,
                  "save_total_limit": 2, "eval_ratio": 0.3, "eval_answers": False}  # fmt: skip
        if task != "image":
            base = make_base(self.folder / "base")
            write_rows(self.folder / "rows" / "metadata.csv", 12)
            text = {"train_data_dir": str(self.folder / "rows"), "base_model": str(base), "epochs": 3, **common}
            write_config(self.folder / "text.yaml", **text)
            write_config(self.folder / "compared.yaml", **{**text, "epochs": 1, "eval_answers": True})
        if task != "text":
            base = make_sd(self.folder / "sd")
            draw_pictures(self.folder / "pictures", 8)
            write_config(
                self.folder / "image.yaml", train_data_dir=str(self.folder / "pictures"), base_model=str(base), resolution=64, bucket_step=16,
                epochs=2, export=["diffusers", "webui"], sample_steps=1, sample_prompts=["a ball"], caption_shuffle=True, flip=True,
                crop="random", caption_dropout=0.2, **common,
            )  # fmt: skip

    def start(self, kind: Kind, place: Path, *more: str, prepare: Callable[[], None] | None = None, note: Path | None = None) -> int:
        """Starts ``loraforge train`` in a fork, into ``place/out``."""
        place.mkdir(parents=True, exist_ok=True)

        def work() -> None:
            from loraforge.cli.main import main

            own = [f"output_dir={place / 'out'}", *([f"cache_dir={place / 'cache'}"] if kind.task == "image" else [])]
            self.stage.watch()
            count = at_change(0, [place / "out", place / "cache"], kill_here) if note else []
            if prepare is not None:
                prepare()
            try:
                main(["train", kind.task, str(kind.config), *(word for value in own for word in ("--set", value)), *more])
            finally:
                if note:
                    note.write_text(str(count[0]))

        self.stage.set("start")
        return forked(work, place / "output")

    def killed(self, kind: Kind, place: Path, fault: str, rng: random.Random, *more: str) -> int:
        """Starts a run and has it killed; how it ended."""
        if fault in ("before", "torn"):
            number = rng.randint(1, kind.changes)
            act = kill_here if fault == "before" else kill_torn(rng)
            return ended(self.start(kind, place, *more, prepare=lambda: void(at_change(number, [place / "out", place / "cache"], act))))
        pid = self.start(kind, place, *more)
        time.sleep(rng.uniform(0, kind.seconds))
        for pause in (0, rng.uniform(0, 0.3))[: 2 if fault == "SIGINT twice" else 1]:
            time.sleep(pause)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, getattr(signal, fault.split()[0]))
        return ended(pid)

    def trial(self, kind: Kind, place: Path, rng: random.Random, fault: str) -> tuple[str, str]:
        """(the stage at which the first kill came, what went wrong): kills a run once or several times, resumes it, compares."""
        code = self.killed(kind, place, fault, rng)
        stage = self.stage.get() if code else "none"
        history = [f"{fault} at {stage}: {code}"]
        for attempt in range(12):
            text = (place / "output").read_text(errors="replace")
            # Python itself shows a Ctrl-C that comes while it clears away an object.
            if text.count("Traceback") > text.count("Exception ignored in"):
                return stage, f"a traceback: {history}: {text[-2000:]}"
            if code == 0 or "this run is finished" in text:
                return stage, "; ".join(self._judge(kind, place, history))
            if attempt < 3 and rng.random() < 0.3:
                again = rng.choice(FAULTS)
                code = self.killed(kind, place, again, rng, "--resume")
                history.append(f"{again} at {self.stage.get()}: {code}")
            else:
                code = ended(self.start(kind, place, "--resume"))
                history.append(f"--resume: {code}")
                if code not in (0, 2):
                    return stage, f"the resumed run ended with {code}: {history}: {(place / 'output').read_text(errors='replace')[-2000:]}"
        return stage, f"never finished: {history}: {(place / 'output').read_text(errors='replace')[-2000:]}"

    def _judge(self, kind: Kind, place: Path, history: list[str]) -> Iterator[str]:
        run = place / "out"
        found = hashes(run)
        if found != kind.wanted:
            wrong = sorted(name for name in {*found, *kind.wanted} if found.get(name) != kind.wanted.get(name))
            yield f"other bytes in {wrong}: {history}"
        left = [str(path.relative_to(run)) for path in run.rglob(".*")]
        if left:
            yield f"left behind: {left}: {history}"
        code = ended(forked(lambda: verify(run), place / "verified"))
        if code:
            yield f"verify says {code}: {history}: {(place / 'verified').read_text(errors='replace')}"


def void(value: object) -> None:
    """Nothing, for a lambda."""


def verify(run: Path) -> None:
    """``loraforge verify``, and whether the run is finished at all."""
    from loraforge.cli.main import main
    from loraforge.runs.folder import RunFolder

    assert RunFolder(run).manifest()["status"] == "finished" and (run / "manifest.sha256").is_file()
    main(["verify", str(run)])


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of the adapter and of every file of the exports."""
    files = [path for part in ("adapter", "export") for path in sorted((run / part).rglob("*")) if path.is_file()]
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(tried: dict[tuple[str, str], list[bool]]) -> str:
    """Stages down, faults across: survived / tried."""
    names = [*dict.fromkeys(["start", *(name for name, _, _ in STAGES), "none"])]
    rows = [["stage", *FAULTS]]
    for stage in [name for name in names if any(key[1] == name for key in tried)]:
        cells = [tried.get((fault, stage), []) for fault in FAULTS]
        rows.append([stage, *(f"{sum(cell)}/{len(cell)}" if cell else "" for cell in cells)])
    columns = [[result for (fault, _), results in tried.items() if fault == name for result in results] for name in FAULTS]
    rows.append(["all", *(f"{sum(column)}/{len(column)}" for column in columns)])
    return "\n".join("  ".join(cell.ljust(13) for cell in row).rstrip() for row in rows)


def _turn(kinds: list[Kind], number: int) -> Kind:
    """Each kind in turn, once for all faults; the comparison, which takes long, seldom."""
    quick = [kind for kind in kinds if kind.config.stem != "compared"]
    turn = number // len(FAULTS)
    return kinds[1] if len(kinds) > len(quick) and turn % 5 == 4 else quick[turn % len(quick)]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--task", choices=("text", "image", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    warm()
    gc.freeze()  # or every fork would look through all that is imported, twice
    tried: dict[tuple[str, str], list[bool]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, blank_plots():
        bench = Bench(Path(folder).resolve())
        kinds = bench.kinds(given.task, compared=given.kills >= 30)  # a comparison takes long
        print("; ".join(f"{kind.config.stem}: {kind.seconds:.1f} s, {kind.changes} changes" for kind in kinds), flush=True)
        for number in range(given.kills):
            kind, fault = _turn(kinds, number), FAULTS[number % len(FAULTS)]
            place = bench.folder / f"trial-{number}"
            stage, problem = bench.trial(kind, place, random.Random(rng.random()), fault)
            tried[fault, stage].append(not problem)
            if problem:
                print(f"trial {number} ({kind.config.stem}): {problem}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
            if number % 20 == 19:
                print(f"{number + 1} kills\n{table(tried)}", flush=True)
    print(table(tried))
    return 0 if all(all(results) for results in tried.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
