# SPDX-License-Identifier: Apache-2.0
"""Each promise of docs/security.md: no foreign code is run, no path leaves its folder, no cell is a formula, nothing is connected to."""

from __future__ import annotations

import ast
import csv
import http.server
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from builders import ROOT
from builders.odd_pictures import ODD_LORAS, Bomb, _saved, pickled, place
from builders.tiny_text import make_base, write_config, write_rows

SOURCES = sorted(p for top in ("loraforge", "plugins") for p in (ROOT / top).rglob("*.py"))
MODULE = "class {0}:\n    pass\nopen({1!r}, 'w').write('run')\n"


# --- the source ---------------------------------------------------------------------------------------------------------------


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _given(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), None)


FORBIDDEN = re.compile(
    r"(eval|exec|compile|__import__|pickle\.\w+|marshal\.\w+|shelve\.\w+|dill\.\w+|joblib\.load|yaml\.(load|load_all|full_load|unsafe_load)"
    r"|os\.(system|popen|exec\w+|spawn\w+)|.*\.(extractall|extract)|shutil\.unpack_archive|torch\.hub\.\w+|numpy\.load|np\.load)"
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path):
    for name, call in _calls(path):
        if name == "os.execve":  # the same command once more, of the same interpreter
            assert path.name == "allocator.py" and ast.unparse(call.args[0]) == "sys.executable", call.lineno
            assert ast.unparse(call.args[1]) == "[sys.executable, *sys.orig_argv[1:]]", call.lineno
            continue
        assert not FORBIDDEN.fullmatch(name), (name, call.lineno)
        assert _given(call, "shell") in (None, "False"), call.lineno
        assert _given(call, "trust_remote_code") in (None, "False"), call.lineno
        if name == "torch.load":
            assert _given(call, "weights_only") == "True", call.lineno
        if name == "Image.open" and ast.unparse(call.args[0]) == "path":
            assert _given(call, "formats"), call.lineno
        if name == "jinja2.Environment":
            assert _given(call, "autoescape") == "True", call.lineno
        if re.fullmatch(r"Auto[A-Z]\w+\.from_pretrained", name):
            source = path.read_text(encoding="utf-8")
            options = _given(call, "trust_remote_code") or re.search(r'"trust_remote_code": False', source)
            assert options, call.lineno
    source = path.read_text(encoding="utf-8")
    assert not re.search(r'"trust_remote_code": (?!False)', source)
    assert not _imports(path) & {"pickle", "marshal", "shelve", "dill", "socketserver", "http.server", "xmlrpc", "ftplib", "telnetlib"}


def test_few_speak_to_a_server_and_few_start_a_program():
    network = {"socket", "urllib.request", "http.client", "requests", "httpx", "aiohttp"}
    serve, studio = "plugins/loraforge_serve/", "plugins/loraforge_studio/"
    # Besides: llama.cpp reads a finished GGUF file in a child that listens on the loopback; `serve` listens, and speaks to a vLLM;
    # `studio` listens at 127.0.0.1, and gives commands of loraforge to processes of their own.
    assert {p.relative_to(ROOT).as_posix() for p in SOURCES if _imports(p) & network} == {
        "plugins/loraforge_text/cli/server_client.py",
        "plugins/loraforge_text/export/gguf_proof.py",
        *(serve + name for name in ("cli/starting.py", "backends/remote.py", "backends/vllm.py")),
        studio + "starting.py",
    }
    starts = {p.relative_to(ROOT).as_posix() for p in SOURCES if "subprocess" in _imports(p)}
    tiny = (
        "plugins/loraforge_image/tiny_sd/sample_data.py",
        "plugins/loraforge_image/tiny_sd/build.py",
        "plugins/loraforge_text/tiny_chat/build.py",
    )
    # A stranger's chat template is rendered by a process that is ended when it takes too much.
    assert starts <= {
        "loraforge/testing/checks.py",
        "plugins/loraforge_text/templates/rendering.py",
        "plugins/loraforge_text/families/meta_model.py",
        "plugins/loraforge_text/export/gguf_proof.py",
        serve + "backends/vllm.py",
        *(studio + f"work/{name}.py" for name in ("asking", "jobs", "keeper")),
        *tiny,
    }
    rendering = (ROOT / "plugins/loraforge_text/templates/rendering.py").read_text(encoding="utf-8")
    assert "[sys.executable, str(Path(render_child.__file__))]" in rendering


def test_sentences_are_written_by_us():
    """str.format sees only sentences of ours: what a stranger wrote is a value, and values are not formatted again."""
    for path in SOURCES:
        for name, call in _calls(path):
            if name == "say" and path.name != "messages.py":
                assert call.args, (path, call.lineno)
                assert isinstance(call.args[0], ast.Constant) or not call.keywords, (path, call.lineno)


# --- no connection ------------------------------------------------------------------------------------------------------------

_CHILD = """
import contextlib, os, sys
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(name, None)  # not forbidden: nobody tries
tried = []
WATCHED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg", "urllib.Request")
def hook(event, given):
    # urllib3 looks, when it is imported, whether this computer has IPv6: it takes a free port of the loopback and gives it back.
    if event in WATCHED and not (event == "socket.bind" and given[1][:1] in (("::1",), ("127.0.0.1",))):
        tried.append((event, str(given[1:])[:200]))
sys.addaudithook(hook)
from loraforge.cli.main import main
for line in sys.stdin.read().splitlines():
    code = 0
    try:
        main(line.split("|"))
    except SystemExit as exit_:
        code = exit_.code
    assert not code, (line, code)
print("TRIED", tried)
"""


@pytest.mark.parametrize("task", ["text", "image"])
def test_a_run_connects_to_nothing(task, tmp_path, base):
    run = str(tmp_path / "run")
    common = {"output_dir": run, "max_steps": 2, "batch_size": 2, "lora_rank": 2, "save_steps": 0}
    if task == "text":
        write_rows(tmp_path / "data" / "metadata.csv")
        config = write_config(tmp_path / "c.yaml", train_data_dir=str(tmp_path / "data"), base_model=str(base), **common)
        exports = ["merged"]
    else:
        from builders.tiny_images import draw_pictures

        draw_pictures(tmp_path / "data")
        drawn = {"resolution": 64, "sample_steps": 1, "sample_prompts": ["a ball"]}
        config = write_config(tmp_path / "c.yaml", train_data_dir=str(tmp_path / "data"), base_model="tiny-sd", **common, **drawn)
        exports = ["webui", "diffusers"]
    settings = "|--set|save_precision=fp32" if task == "image" else ""
    lines = [
        f"check|{task}|{config}",
        f"train|{task}|{config}{settings}",
        f"sample|{run}|a ball|--base" + ("|--steps|1" if task == "image" else ""),
        f"eval|{run}|--limit|2",
        *(f"export|{run}|--to|{name}|--out|{tmp_path / name}" for name in exports),
        f"verify|{run}",
        f"card|{run}",
    ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _CHILD], input="\n".join(lines), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    assert done.stdout.rstrip().splitlines()[-1] == "TRIED []"


@pytest.mark.parametrize("base_model", ["nobody/nothing", "modelscope:nobody/nothing"])
def test_offline_nothing_is_asked_of_a_hub(base_model, tmp_path, command, monkeypatch):
    import socket

    asked: list[Any] = []
    hub = types.ModuleType("modelscope")

    def download(repository, **options):
        asked.append(options)
        raise ValueError("not in the cache")

    hub.snapshot_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", hub)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("a name was looked up"))
    write_rows(tmp_path / "data" / "metadata.csv")
    config = write_config(
        tmp_path / "c.yaml", train_data_dir=str(tmp_path / "data"), base_model=base_model, output_dir=str(tmp_path / "out")
    )
    code, _out, err = command("check", "text", config)
    assert code == 2
    assert "nobody/nothing" in err
    assert all(options["local_files_only"] for options in asked)


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends every question on to somebody else."""

    asked: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.send_response(302 if self.path.endswith("template") else 307)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


def test_golden_follows_no_redirection(tmp_path, command):
    server = http.server.HTTPServer(("127.0.0.1", 0), _Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    prompt = {"messages": [], "text": "a", "ids": [1], "starts": [0]}
    place(tmp_path, "golden_prompts.json", json.dumps({"format": 1, "prompts": [prompt]}).encode())
    code, _out, err = command("golden", tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    assert code == 2
    assert "302" in err or "307" in err
    assert _Elsewhere.asked
    assert "/elsewhere" not in _Elsewhere.asked


# --- pickles and code of strangers --------------------------------------------------------------------------------------------


@pytest.fixture
def mark(tmp_path) -> Iterator[Path]:
    """A file that malicious input would write."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists()


def test_the_bombs_are_live(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors", "consolidated.00.pth"])
def test_a_pickled_language_model_is_refused(name, project, mark, base, tmp_path, command):
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    (folder / "model.safetensors").unlink()
    place(folder, name, pickled(mark, zipped=True))
    code, _out, err = command("train", "text", project(base_model=str(folder)))
    assert (code, "Traceback" in err) == (2, False), err
    assert "base" in err


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_adapter_is_refused(name, zipped, project, mark, tmp_path, command):
    place(tmp_path / "adapter", "adapter_config.json", b'{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}')
    file = place(tmp_path / "adapter", name, pickled(mark, zipped=zipped))
    for arguments in (
        ("train", "text", project(init_from_adapter=str(tmp_path / "adapter"))),
        ("inspect", tmp_path / "adapter"),
        ("inspect", file),
    ):
        code, _out, err = command(*arguments)
        assert (code, "Traceback" in err) == (2, False), err
        assert "adapter" in err


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin", ".safetensors", ".pkl"])
def test_inspect_opens_no_pickle(suffix, mark, tmp_path, command):
    for zipped in (True, False):
        code, _out, err = command("inspect", place(tmp_path, f"lora{suffix}", pickled(mark, zipped=zipped)))
        assert code == 2
        assert "pickle" in err


@pytest.mark.parametrize("option", ["--captioner", "prompt_scorer"])
@pytest.mark.parametrize("code", [True, False])
def test_helping_models_run_nothing(option, code, mark, tmp_path, command):
    folder = tmp_path / "helper"
    remote = (
        {"auto_map": {"AutoModelForImageTextToText": "evil.Evil", "AutoProcessor": "evil.Evil", "AutoConfig": "evil.Evil"}} if code else {}
    )
    place(folder, "config.json", json.dumps({"model_type": "evil" if code else "blip", "architectures": ["Evil"], **remote}).encode())
    place(folder, "evil.py", MODULE.format("Evil", str(mark)).encode())
    place(folder, "pytorch_model.bin", pickled(mark, zipped=True))
    place(tmp_path / "pictures", "a.png", _saved("PNG"))
    if option == "--captioner":
        code_, _out, err = command("prepare", "image", tmp_path / "pictures", "--captioner", folder)
        assert code_ == 2
        assert "captioner" in err
        return
    from loraforge_image.evaluation.prompt_adherence import Scorer  # the class that loads it

    from loraforge import ModelError

    with pytest.raises(ModelError):
        Scorer(str(folder))


def _with_code(folder: Path, mark: Path, model_type: str) -> Path:
    """A base that brings code of its own for everything."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kinds = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
    config |= {"model_type": model_type, "auto_map": {kind: "modeling_evil.Evil" for kind in kinds}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokens = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens |= {"auto_map": {"AutoTokenizer": ["modeling_evil.Evil", "modeling_evil.Evil"]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens), encoding="utf-8")
    for name in ("modeling_evil.py", "__init__.py", "conftest.py", "sitecustomize.py", "custom_generate/generate.py"):
        place((folder / name).parent, Path(name).name, MODULE.format("Evil", str(mark)).encode())
    return folder


@pytest.mark.parametrize("model_type", ["evil", "llama"])
def test_the_code_of_a_base_is_not_run(model_type, project, mark, base, tmp_path, command, monkeypatch):
    folder = _with_code(Path(shutil.copytree(base, tmp_path / "base")), mark, model_type)
    monkeypatch.chdir(folder)
    config = project(base_model=str(folder), max_steps=1)
    assert command("check", "text", config)[0] in (0, 2)
    code, _out, err = command("train", "text", config)
    assert "Traceback" not in err
    # A kind that transformers knows is loaded with transformers' own code; an unknown one is refused.
    assert code == (2 if model_type == "evil" else 0), err
    if code:
        assert "base" in err
        assert "code" in err


def test_a_base_that_gains_code_after_training_runs_none(project, mark, tmp_path, command):
    folder = make_base(tmp_path / "base")
    assert command("train", "text", project(base_model=str(folder), max_steps=1))[0] == 0
    _with_code(folder, mark, "evil")
    for arguments in (("sample", tmp_path / "out", "?"), ("eval", tmp_path / "out"), ("export", tmp_path / "out", "--to", "merged")):
        code, _out, err = command(*arguments)
        assert (code, "Traceback" in err) == (2, False), err


def test_plugins_come_from_the_command_line_only(project, mark, tmp_path, command):
    plugin = place(tmp_path, "evil.py", MODULE.format("Evil", str(mark)).encode())
    for key in ("plugins", "plugin", "plugin_files", "p", "-p", "import"):
        code, _out, err = command("check", "text", project(**{key: str(plugin)}))
        assert code == 2
        assert key in err
    for key in ("train_data_dir", "metadata_path", "init_from_adapter", "prompt_template", "waivers", "base_model"):
        command("check", "text", project(**{key: str(plugin)}))


# --- YAML, templates, format strings ------------------------------------------------------------------------------------------

_TAGS = (
    "!!python/object/apply:os.system ['touch {mark}']", "!!python/object/new:os.system ['touch {mark}']", "!!python/name:os.system",
    "!!python/module:os", "!!python/object/apply:builtins.exec [\"open('{mark}', 'w')\"]", "!!python/tuple [1, 2]", "!evil x",
    "!!binary '/w=='", "!!set {{a, b}}", "!!timestamp nonsense",
)  # fmt: skip


@pytest.mark.parametrize("written", _TAGS)
def test_yaml_makes_plain_values_only(written, project, mark, command):
    config = project()
    config.write_text(config.read_text(encoding="utf-8") + f"notes: {written.format(mark=mark)}\n", encoding="utf-8")
    code, _out, err = command("check", "text", config)
    assert (code, "Traceback" in err) == (2, False), err


@pytest.mark.parametrize(
    "payload",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
        "{{ lipsum.__globals__['os'].popen('touch MARK').read() }}",
        "{{ namespace.__init__.__globals__.__builtins__.open('MARK', 'w') }}",
        "{{ self._TemplateReference__context.environment.loader }}",
        "{{ (messages | attr('__class__')).__base__ }}",
        "{{ messages.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__ }}",
        "{{ tojson.__globals__.__builtins__ }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
        "{{ '%s' | format(messages.__init__.__globals__) }}",
        "{{ messages.append({'role': 'user', 'content': 'x'}) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('touch MARK') }}",
        "{% extends '/etc/passwd' %}",
    ],
)
def test_a_chat_template_cannot_leave_its_sandbox(payload, project, mark, base, tmp_path, command):
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    file = folder / "chat_template.jinja"
    file.write_text(payload.replace("MARK", str(mark)) + file.read_text(encoding="utf-8"), encoding="utf-8")
    code, out, err = command("check", "text", project(base_model=str(folder)), "--show", "1")
    assert code in (0, 2)
    shown = out + err.replace(payload, "")
    assert "Traceback" not in shown
    assert not re.search(r"<class|<function|<module|<built-in|root:|_frozen_importlib", shown)


@pytest.mark.parametrize(
    "attack", ["{instruction.__class__}", "{0.__init__.__globals__}", "{{7919*7927}}", "{instruction!r:>99999999}", "%(x)s${x}"]
)
def test_no_format_string_of_a_stranger_is_filled(attack, project, tmp_path, command):
    shown = attack.replace("[", "\\[")
    place(tmp_path / "data", "metadata.csv", f'instruction,output\n"{attack}?","{attack}!"\n'.encode())
    code, out, err = command("check", "text", project(prompt_template="{instruction} " + attack, eval_ratio=0), "--show", "1")
    assert "Traceback" not in err
    assert code in (0, 2)
    assert "<class" not in out + err
    assert "62773913" not in out, "what the expression comes to"
    if code == 0:
        assert shown in out


# --- sheets, pages, terminals -------------------------------------------------------------------------------------------------

FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", " =1+1", "\n=1+1", "＝1+1", "＋1", "－1", "＠x", "a;=1+1",
            "a\t=1", "x\n+1")  # fmt: skip


def _dangerous(cell: str) -> bool:
    """Whether a spreadsheet could take the cell, or a part of it that another country's spreadsheet cuts off, for a formula."""
    return any(part.lstrip()[:1] in tuple("=+-@＝＋－＠") for part in re.split(r"[;\t\r\n]", cell) if part.strip())


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_report_holds_no_formula(formula, tmp_path):
    from loraforge.data import findings

    one = findings.PlacedFinding(formula, "error", (formula, formula), formula, formula, "w1", formula)
    findings.write_report([one], tmp_path / "r.csv", "title")
    rows = list(csv.reader((tmp_path / "r.csv").read_text(encoding="utf-8-sig").splitlines(keepends=True)))
    assert not [cell for row in rows for cell in row if _dangerous(cell)]


@pytest.mark.parametrize("formula", [f for f in FORMULAS if "\n" not in f and "\r" not in f])
def test_prepare_writes_no_formula_and_reads_its_own_words(formula, tmp_path, command):
    name = formula.replace("/", "_") + ".png"
    place(tmp_path / "pictures", name, _saved("PNG"))
    place(tmp_path / "pictures", name.removesuffix(".png") + ".txt", formula.encode())
    place(tmp_path / "pictures", "=broken.png", b"x")
    for more in ((), ("--overwrite",)):
        assert command("prepare", "image", tmp_path / "pictures", *more)[0] == 0
        for table in ("metadata.csv", "findings.csv"):
            with (tmp_path / "pictures" / table).open(encoding="utf-8", newline="") as file:
                assert not [cell for row in csv.reader(file) for cell in row if _dangerous(cell)]
    from loraforge_image.data.folders.metadata import metadata_rows

    rows = [row for _, row in metadata_rows(tmp_path / "pictures" / "metadata.csv", [])]
    assert " ".join(formula.split()) in [row["text"] for row in rows]
    config = write_config(
        tmp_path / "c.yaml",
        train_data_dir=str(tmp_path / "pictures"),
        base_model="tiny-sd",
        output_dir=str(tmp_path / "out"),
        resolution=64,
    )
    assert command("check", "image", config)[0] == 0


def test_the_review_sheet_holds_no_formula(tmp_path):
    from loraforge.evaluation.review_sheet import write_sheet

    rows = [{"question": f, "reference": f, "base": f, "adapter": f + "x", "where": f} for f in FORMULAS]
    write_sheet(tmp_path / "r.xlsx", rows, tmp_path / "keys.json", "run")
    with zipfile.ZipFile(tmp_path / "r.xlsx") as book:
        pages = [book.read(name).decode() for name in book.namelist() if name.startswith("xl/worksheets/sheet")]
    assert pages
    assert not any("<f>" in page or "<f " in page for page in pages)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&[bold]x[/bold][link=http://evil]y[/link]![i](http://evil)"


def test_the_page_of_findings_shows_and_does_not_obey(tmp_path):
    from loraforge.data import findings

    one = findings.PlacedFinding(EVIL, "error", (EVIL, EVIL), EVIL, EVIL, "w1", EVIL)
    findings.write_report([one], tmp_path / "r.html", EVIL)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 6


def test_markdown_of_strangers_is_words():
    from loraforge.audit import markdown

    assert not re.search(r"(?<!\\)[<\[!]", markdown.text(EVIL))
    assert "\x1b" not in markdown.text("\x1b[2J") + markdown.code("\x1b[2J`")


@pytest.fixture
def terminal(monkeypatch):
    """What is printed goes where escape sequences are obeyed."""
    monkeypatch.setattr(click.utils, "should_strip_ansi", lambda *a, **k: False)


NASTY = "[bold]b[_bold][red]\x1b[31m\x1b]0;owned\x07\nnew line\r.png"


@pytest.mark.usefixtures("terminal")
def test_names_of_files_are_shown_and_not_obeyed(tmp_path, command):
    place(tmp_path / "pictures", NASTY, b"x")
    place(tmp_path / "pictures", NASTY.removesuffix(".png") + ".txt", b"a\x1b[2J")
    config = write_config(
        tmp_path / "c.yaml",
        train_data_dir=str(tmp_path / "pictures"),
        base_model="tiny-sd",
        output_dir=str(tmp_path / "out"),
        resolution=64,
    )
    code, out, err = command("check", "image", config)
    assert code == 2
    assert "[bold]" in err
    assert not {"\x1b", "\x07", "\r"} & set(out + err)


@pytest.mark.usefixtures("terminal")
def test_prepare_and_inspect_print_nothing_that_a_terminal_obeys(tmp_path, command):
    place(tmp_path / "pictures", NASTY, b"x")
    place(tmp_path / "pictures", "good.png", _saved("PNG"))
    place(tmp_path / "pictures", "good.txt", b"[blink]\x1b[2Jcat[/blink]")
    code, out, err = command("prepare", "image", tmp_path / "pictures", "--out", tmp_path / "new")
    assert code == 0
    assert "[bold]" in out
    assert not {"\x1b", "\x07", "\r"} & set(out + err)
    code, out, err = command("inspect", place(tmp_path, "x.safetensors", ODD_LORAS["escapes"]()))
    assert code == 0
    assert not {"\x1b", "\x07", "\r"} & set(out + err)


# --- paths --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..\\x", "a/b", "..", ".x", "", "a:b", "C:\\x"])
def test_an_export_stays_in_its_folder(name, tmp_path, command):
    place(tmp_path / "pictures", "a.png", _saved("PNG"))
    config = write_config(
        tmp_path / "c.yaml", train_data_dir=str(tmp_path / "pictures"), base_model="tiny-sd", output_dir=str(tmp_path / "out"), resolution=64,
        trigger_word="sks", output_name=name,
    )  # fmt: skip
    code, _out, err = command("train", "image", config)
    assert code == 2
    assert "output_name" in err
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_adapters_list_of_files_does_not_lead_outside(tmp_path):
    from loraforge.adapters.peft_format import _files

    place(tmp_path, "secret", b"s")
    place(tmp_path / "adapter", "inside", b"i")
    names = ["../secret", str(tmp_path / "secret"), "inside", "sub/../../secret", ".."]
    assert _files(tmp_path / "adapter", names) == {"inside": b"i"}


def test_a_manifest_that_names_files_outside_is_not_followed(project, tmp_path, command):
    assert command("train", "text", project(max_steps=1))[0] == 0
    place(tmp_path, "secret", b"s")
    manifest = tmp_path / "out" / "manifest.json"
    known = json.loads(manifest.read_text(encoding="utf-8"))
    known["files"]["../secret"] = next(iter(known["files"].values()))
    known["exports"] = {"peft": "../../secret"}
    manifest.write_text(json.dumps(known), encoding="utf-8")
    for arguments in (("verify", tmp_path / "out"), ("export", tmp_path / "out", "--to", "merged"), ("card", tmp_path / "out")):
        code, out, err = command(*arguments)
        assert code != 0, out
        assert "Traceback" not in err
    assert (tmp_path / "secret").read_bytes() == b"s"
