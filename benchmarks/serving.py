# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks serve``: tokens per second for several clients at once, and two minutes of 32 clients of whom some leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from .measuring import environment, middle
from .reporting import Table, machine, publish, spread
from .workload import TINY, Size, cache_folder, prepare

_LOOP = """
import json, sys, time
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
base, questions, most = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8")), int(sys.argv[3])
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(base)
made, begun = 0, time.perf_counter()
for question in questions:
    said = [{"role": "user", "content": question}]
    given = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        out = model.generate(**given, max_new_tokens=most, do_sample=False)
    made += out.shape[1] - given["input_ids"].shape[1]
print(json.dumps({"tokens": made, "seconds": time.perf_counter() - begun}))
"""


@dataclass(frozen=True)
class Server:
    """One server that is measured.

    Attributes:
        line: starts it; ``PORT`` is replaced.
        models: the names that its clients ask for, in turn.
    """

    name: str
    line: Sequence[str]
    models: Sequence[str]


def write_adapters(base: Path, folder: Path, names: Sequence[str]) -> None:
    """Random adapters on the attention of ``base``, in the folders that ``loraforge serve --adapters`` watches."""
    from safetensors import safe_open

    from loraforge.plugin_api.host import PluginHost
    from loraforge.testing.adapters import make_adapter

    shapes: dict[str, Sequence[int]] = {}
    for file in base.glob("*.safetensors"):
        with safe_open(file, "np") as opened:
            for key in opened.keys():  # noqa: SIM118  it is no dict
                if key.endswith(("q_proj.weight", "v_proj.weight")):
                    shapes[key.removesuffix(".weight")] = opened.get_slice(key).get_shape()
    exporter: Any = PluginHost().component("loraforge_exporters", "text", "peft")
    jinja = (base / "chat_template.jinja").read_text(encoding="utf-8") if (base / "chat_template.jinja").is_file() else None
    told = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = {
        "name": "auto",
        "jinja": jinja or told["chat_template"],
        "tokens": {"eos_token": told["eos_token"]},
        "stops": [told["eos_token"]],
    }
    for seed, name in enumerate(names):
        adapter = make_adapter(modules=shapes, rank=8, base_model=str(base), seed=seed, facts={"name": name, "template": template})
        (folder / name).mkdir(parents=True)
        exporter.export(adapter, folder / name)


@contextlib.contextmanager
def running(line: Sequence[str], log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server and its address, when it answers.

    Raises:
        RuntimeError: with the end of what it said, if it does not.
    """
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as said:
        process = subprocess.Popen([word.replace("PORT", str(port)) for word in line], stdout=said, stderr=said, env=environment())
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + 300
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/health", trust_env=False, timeout=5).status_code == 200:
                        break
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(" ".join(log.read_text(encoding="utf-8", errors="replace").split())[-300:])
                time.sleep(0.3)
            yield url, process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def body(model: str, question: str, most: int, **more: Any) -> dict[str, Any]:
    """A request that all servers understand."""
    said = [{"role": "user", "content": question}]
    return {"model": model, "messages": said, "max_tokens": most, "temperature": 0, **more}


async def asked_by(clients: int, url: str, requests: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    """(tokens, seconds) of ``clients`` who ask until nothing is left to ask."""
    import httpx

    left, tokens = list(requests)[::-1], 0
    async with httpx.AsyncClient(trust_env=False, timeout=600) as http:

        async def client() -> None:
            nonlocal tokens
            while left:
                answer = await http.post(f"{url}/v1/chat/completions", json=left.pop())
                if answer.status_code != 200:
                    raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")
                tokens += int(answer.json()["usage"]["completion_tokens"])

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return tokens, time.perf_counter() - begun


def rates(server: Server, questions: Sequence[str], clients: Sequence[int], most: int, work: Path) -> dict[int, float]:
    """Tokens per second, by the number of clients.

    Raises:
        RuntimeError: saying why it cannot be told.
    """
    found = {}
    with running(server.line, work / "server.log") as (url, _):
        requests = [body(server.models[n % len(server.models)], question, most) for n, question in enumerate(questions)]
        for count in clients:
            asyncio.run(asked_by(count, url, requests[:count]))  # what is loaded or compiled at the first questions
            tokens, seconds = asyncio.run(asked_by(count, url, requests))
            found[count] = tokens / seconds
    return found


def loop_rate(base: Path, questions: Sequence[str], most: int, work: Path) -> float:
    """Tokens per second of one ``generate`` after the other."""
    file = work / "questions.json"
    file.write_text(json.dumps(list(questions)), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", _LOOP, str(base), str(file), str(most)], capture_output=True, env=environment(), text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return float(told["tokens"]) / float(told["seconds"])


def speed(
    base: Path, adapters: Path, questions: Sequence[str], clients: Sequence[int], most: int, rounds: int, work: Path, paged: bool
) -> tuple[Table, Any]:
    """Every server for every number of clients; the ratios inside one round."""
    import httpx

    ours = [sys.executable, "-m", "loraforge", "serve", "--adapters", str(adapters), "--port", "PORT", "--no-page"]
    theirs = [
        str(Path(sys.executable).with_name("transformers")),
        "serve",
        str(base),
        "--port",
        "PORT",
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ]
    servers = [
        Server("loraforge serve, base", ours, ["base"]),
        Server("loraforge serve, base and 2 adapters mixed", ours, ["base", "one", "two"]),
        Server("transformers serve", theirs, [str(base)]),
    ]
    if paged:
        servers.append(Server("transformers serve --continuous-batching", [*theirs, "--continuous-batching"], [str(base)]))
    found: dict[tuple[str, int], list[float]] = {}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
            try:
                values = rates(server, questions, clients, most, work)
            except (RuntimeError, OSError, KeyError, ValueError, httpx.HTTPError) as error:
                failed[server.name] = f"{type(error).__name__}: {error}"[:300]
                values = dict.fromkeys(clients, float("nan"))
            click.echo(f"{server.name}: {values}", err=True)
            for count, value in values.items():
                found.setdefault((server.name, count), []).append(value)
        found.setdefault(("generate, one after the other", 1), []).append(loop_rate(base, questions, most, work))
    loop = found["generate, one after the other", 1]
    table = Table(
        f"Tokens a second, {len(questions)} questions, {most} tokens each",
        ["server", "clients", "tokens/s", "against generate", "against transformers serve"],
        facts=machine(),
    )
    for (name, count), values in found.items():
        peer = found.get(("transformers serve", count), [float("nan")] * len(values))
        table.rows.append([
            name,
            str(count),
            spread(middle(values)),
            spread(middle([a / b for a, b in zip(values, loop, strict=True)]), 2),
            spread(middle([a / b for a, b in zip(values, peer, strict=True)]), 2),
        ])  # fmt: skip
    table.notes += [f"{name}: {reason}" for name, reason in failed.items()]
    return table, {f"{name}, {count}": values for (name, count), values in found.items()}


async def _load(url: str, seconds: float, clients: int, questions: Sequence[str], memory: Any) -> dict[str, Any]:
    import httpx

    models, most = ["base", "one", "two"], 24
    told: dict[str, Any] = {"asked": 0, "answered": 0, "left": 0, "wrong": 0, "lost": 0, "busy": 0, "memory": []}
    async with httpx.AsyncClient(trust_env=False, timeout=120, limits=httpx.Limits(max_connections=None)) as http:

        async def whole(model: str, question: str) -> str:
            answer = await http.post(f"{url}/v1/chat/completions", json=body(model, question, most))
            return str(answer.json()["choices"][0]["message"]["content"]) if answer.status_code == 200 else f"status {answer.status_code}"

        expected = {(model, question): await whole(model, question) for model in models for question in questions}
        end = time.monotonic() + seconds

        async def client(seed: int) -> None:
            chance = random.Random(seed)
            while time.monotonic() < end:
                key = (chance.choice(models), chance.choice(questions))
                leaves = chance.random() < 0.2
                told["asked"] += 1
                try:
                    text = ""
                    async with http.stream("POST", f"{url}/v1/chat/completions", json=body(*key, most, stream=True)) as answer:
                        if answer.status_code != 200:
                            told["busy" if answer.status_code == 429 else "lost"] += 1
                            continue
                        ended = False
                        async for line in answer.aiter_lines():
                            if line == "data: [DONE]":
                                ended = True
                            elif line.startswith("data: "):
                                part = json.loads(line[6:])
                                text += part["choices"][0]["delta"].get("content") or ""
                                if leaves and len(text) > 3:
                                    break
                    if leaves and not ended:
                        told["left"] += 1
                    else:
                        told["answered"] += 1
                        told["lost"] += not ended
                        told["wrong"] += text != expected[key]
                except httpx.HTTPError:
                    told["lost"] += 1

        async def watch() -> None:
            while time.monotonic() < end:
                told["memory"].append(memory())
                await asyncio.sleep(2)

        await asyncio.gather(watch(), *(client(seed) for seed in range(clients)))
        after = {(model, question): await whole(model, question) for model in models for question in questions}
        told["wrong"] += sum(after[key] != text for key, text in expected.items())
        metrics = (await http.get(f"{url}/metrics")).text
        told["still inside"] = next(
            float(line.split()[1]) for line in metrics.splitlines() if line.startswith("loraforge_answers_in_progress ")
        )
    return told


def load(adapters: Path, questions: Sequence[str], seconds: float, clients: int, work: Path) -> Table:
    """Many clients on one server, some of whom leave in mid-stream: nothing lost, answers as one by one, memory flat."""
    import psutil

    line = [
        sys.executable,
        "-m",
        "loraforge",
        "serve",
        "--adapters",
        str(adapters),
        "--port",
        "PORT",
        "--queue",
        str(2 * clients),
        "--no-page",
    ]
    with running(line, work / "load.log") as (url, process):
        watched = psutil.Process(process.pid)
        told = asyncio.run(_load(url, seconds, clients, questions, lambda: watched.memory_info().rss / 1e6))
    rows, memory = told["memory"], told.pop("memory")
    middle_, last = memory[len(rows) // 4 : len(rows) // 2] or memory, memory[-max(1, len(rows) // 4) :]
    told["memory MB, second quarter"], told["memory MB, last quarter"] = round(max(middle_)), round(max(last))
    table = Table(f"{clients} clients at once for {seconds:g} seconds", ["figure", "value"], facts=machine())
    table.rows += [[name, str(value)] for name, value in told.items()]
    return table


@click.command("serve")
@click.option("--out", type=click.Path(path_type=Path), help="Write serve.md and serve.json here.")
@click.option("--work", type=click.Path(path_type=Path), help="Where bases are kept.")
@click.option("--clients", type=int, multiple=True, default=(1, 8), show_default=True)
@click.option("--questions", type=int, default=32, show_default=True)
@click.option("--max-tokens", type=int, default=48, show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--load", "load_seconds", type=float, default=120.0, show_default=True, help="Seconds of the load test; 0 leaves it out.")
@click.option("--load-clients", type=int, default=32, show_default=True)
@click.option("--paged", is_flag=True, help="Also `transformers serve --continuous-batching`, which wants a GPU.")
@click.option("--tiny", is_flag=True, help="A tiny base, to see whether all works.")
def command(
    out: Path | None,
    work: Path | None,
    clients: Sequence[int],
    questions: int,
    max_tokens: int,
    rounds: int,
    load_seconds: float,
    load_clients: int,
    paged: bool,
    tiny: bool,
) -> None:
    """How fast several clients are answered, beside `transformers serve` and `generate`; and whether many at once lose anything."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    tables, raw = [], None
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        small = replace(TINY, rows=max(TINY.rows, questions))
        for name, size in (("speed", small if tiny else replace(Size(), rows=max(48, questions))), ("load", small)):
            if (name == "load" and not load_seconds) or (name == "speed" and not rounds):
                continue
            workload = prepare(size, work or cache_folder())
            write_adapters(workload.base, place / name, ["one", "two"])
            texts = _questions(workload, questions)
            if name == "speed":
                table, raw = speed(workload.base, place / name, texts, clients, max_tokens, rounds, place, paged)
                tables.append(table)
            else:
                tables.append(load(place / name, texts[:8], load_seconds, load_clients, place))
        publish("serve", tables, out, raw)


def _questions(workload: Any, count: int) -> list[str]:
    import csv

    with (workload.folder / "data" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return [row["instruction"] for row in csv.DictReader(file)][:count]
