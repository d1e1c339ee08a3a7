# SPDX-License-Identifier: Apache-2.0
"""Malformed input of image runs: each ends in a message that names it, with exit code 2, and leaves no file behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT
from builders.odd_pictures import (
    BAD_CONFIGS,
    BAD_FILES,
    BAD_LORAS,
    BAD_PARTS,
    BROKEN,
    METADATA,
    ODD,
    ODD_LORAS,
    _saved,
    change,
    pickled,
    place,
    safetensors,
)
from builders.tiny_text import write_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EMBEDDED = ROOT / "plugins" / "loraforge_image" / "tiny_sd" / "model"
FUZZ = settings(derandomize=True, deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def _libraries():
    """Imported before any clock runs."""
    import diffusers
    import peft
    import transformers

    return diffusers.UNet2DConditionModel, diffusers.StableDiffusionPipeline, transformers.CLIPTextModel, peft.LoraConfig


@pytest.fixture(autouse=True)
def _watchdog(tmp_path, monkeypatch, _libraries):
    """Nothing hangs. On a busy machine much takes long."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def late(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def files_in(folder: Path) -> dict[str, str]:
    """Everything in a folder with what it holds, but the logs of trainings that did not begin; links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(".failed.jsonl"):
            continue
        plain = path.is_file() and not path.is_symlink()
        try:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else "other"
        except PermissionError:
            found[str(path)] = "closed"
    return found


@pytest.fixture
def refused(tmp_path, command) -> Callable[..., str]:
    """Runs a command that must refuse, with a message that names something, and change nothing; the message."""

    def go(*arguments: object, names: str = "") -> str:
        before = files_in(tmp_path)
        code, out, err = command(*arguments)
        assert code == 2, (code, out, err)
        assert "Traceback" not in out + err
        assert names in err, err
        assert err.strip()
        assert files_in(tmp_path) == before
        return str(err)

    return go


@pytest.fixture
def config(tmp_path) -> Callable[..., Path]:
    """A config over the folder ``pictures``, in which one good picture lies."""

    def make(*, good: bool = True, **values: Any) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        if good:
            place(folder, "a.png", _saved("PNG"))
            if not values.pop("bare", False):
                place(folder, "a.txt", b"a cat")
        given = {"train_data_dir": str(folder), "base_model": "tiny-sd", "output_dir": str(tmp_path / "out"), "resolution": 64, **values}
        return write_config(tmp_path / "config.yaml", **given)

    return make


# --- pictures -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_named(name, tmp_path, config, refused):
    file = config(good=False)
    place(tmp_path / "pictures", name, BROKEN[name]())
    place(tmp_path / "pictures", f"{Path(name).stem}.txt", b"a cat")
    refused("check", "image", file, names=name)


@pytest.mark.parametrize("name", ODD)
def test_a_strange_picture_is_taken_or_named(name, tmp_path, config, command):
    file = config(good=False)
    place(tmp_path / "pictures", name, ODD[name]())
    place(tmp_path / "pictures", f"{Path(name).stem}.txt", b"a cat")
    before = files_in(tmp_path)
    code, out, err = command("check", "image", file)
    assert code == 0 or (code == 2 and name in err), err
    assert "Traceback" not in out + err
    assert files_in(tmp_path) == before


def _unreadable(folder: Path) -> None:
    place(folder, "a.png", _saved("PNG"))
    (folder / "a.png").chmod(0)


PLACES: Mapping[str, Callable[[Path], object]] = {
    "nothing": lambda f: None,
    "a-folder-called-png": lambda f: (f / "a.png").mkdir(),
    "a-dangling-link": lambda f: (f / "a.png").symlink_to(f / "gone.png"),
    "a-link-in-a-circle": lambda f: (f / "a.png").symlink_to(f / "a.png"),
    "a-link-outside": lambda f: (f / "a.png").symlink_to(place(f.parent / "elsewhere", "b.png", _saved("PNG"))),
    "a-folder-outside": lambda f: (f / "sub").symlink_to(place(f.parent / "elsewhere", "b.png", _saved("PNG")).parent),
    "a-pipe": lambda f: os.mkfifo(f / "a.png"),
    "a-hidden-one": lambda f: place(f, ".a.png", _saved("PNG")),
    "a-mac-shadow": lambda f: place(f / "__MACOSX", "a.png", _saved("PNG")),
    "another-kind": lambda f: place(f, "a.svg", BROKEN["svg.png"]()),
    "repeats-without-end": lambda f: place(f / "999999999_cat", "a.png", _saved("PNG")),
    "metadata-as-folder": lambda f: (f / "metadata.csv").mkdir(),
    "a-caption-outside": lambda f: (place(f, "a.png", _saved("PNG")), (f / "a.txt").symlink_to("/etc/hostname")),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_folder_without_a_usable_picture_is_refused(name, tmp_path, config, refused):
    file = config(good=False)
    PLACES[name](tmp_path / "pictures")
    refused("check", "image", file)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_picture_is_named(tmp_path, config, refused):
    file = config(good=False, trigger_word="sks")
    _unreadable(tmp_path / "pictures")
    refused("check", "image", file, names="a.png")


def test_postscript_never_reaches_ghostscript(tmp_path, config, refused, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("Ghostscript was called"))
    file = config(good=False)
    place(tmp_path / "pictures", "a.png", BROKEN["postscript.png"]())
    place(tmp_path / "pictures", "a.txt", b"a cat")
    refused("check", "image", file, names="a.png")


@pytest.mark.parametrize("name", METADATA)
def test_bad_metadata_is_refused(name, tmp_path, config, refused):
    file = config(bare=True)
    place(tmp_path, "outside.png", _saved("PNG"))
    where, content = METADATA[name]
    place(tmp_path / "pictures", where, content)
    refused("check", "image", file, names=where)


# --- prepare ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["latin-1", "nul", "bytes", "quote-open", "deep-file", "many-digits", "utf-16-odd"])
def test_prepare_refuses_bad_metadata(name, tmp_path, refused):
    where, content = METADATA[name]
    place(tmp_path / "pictures", "a.png", _saved("PNG"))
    place(tmp_path / "pictures", where, content)
    refused("prepare", "image", tmp_path / "pictures", "--out", tmp_path / "new", names=where)


def test_prepare_survives_every_broken_picture(tmp_path, command):
    for name, content in {**BROKEN, **ODD}.items():
        place(tmp_path / "pictures", name, content())
    code, out, err = command("prepare", "image", tmp_path / "pictures", "--out", tmp_path / "new", "--json")
    assert code == 0, err
    told = json.loads(out)
    # All but those that are only small.
    assert {f["file"] for f in told["findings"] if f["kind"] == "damaged"} >= set(BROKEN) - {
        "one-pixel.png",
        "one-wide.png",
        "one-high.jpg",
    }
    assert not list((tmp_path / "new").glob(".*"))


@pytest.mark.parametrize(
    "options",
    [
        ("--out", "PICTURES/a.png"),
        ("--out", "PICTURES/a.png/x"),
        ("--copy-to", "PICTURES/new"),
        ("--copy-to", "PICTURES/../pictures/new"),
        ("--copy-to", "PICTURES/a.png"),
        ("--caption", "{caption.__class__}{x}"),
        ("--caption", "{0}"),
        ("--caption", "{trigger}"),
        ("--captioner", "/nowhere/blip"),
        ("--captioner", "../nowhere/blip"),
        ("--captioner", "a/b/c"),
        ("--captioner", "org/name\n"),
    ],
)
def test_prepare_refuses(options, tmp_path, refused):
    place(tmp_path / "pictures", "a.png", _saved("PNG"))
    given = [option.replace("PICTURES", str(tmp_path / "pictures")) for option in options]
    extra = [] if "--out" in options or "--copy-to" in options else ["--out", tmp_path / "new"]
    refused("prepare", "image", tmp_path / "pictures", *given, *extra)


def test_prepare_replaces_no_picture_that_is_called_like_its_sheet(tmp_path, refused):
    for content in (_saved("PNG"), BROKEN["bomb-50000.png"](), BROKEN["text-bomb.png"]()):
        place(tmp_path / "pictures", "a.png", _saved("PNG"))
        place(tmp_path / "pictures", "contact-sheet.png", content)
        refused("prepare", "image", tmp_path / "pictures", "--overwrite", names="contact-sheet.png")


# --- LoRA files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_LORAS)
def test_inspect_refuses(name, tmp_path, refused):
    refused("inspect", place(tmp_path, f"{name}.safetensors", BAD_LORAS[name]()), names=f"{name}.safetensors")


@pytest.mark.parametrize("name", ODD_LORAS)
def test_inspect_judges_tensors_under_strange_metadata(name, tmp_path, command):
    file = place(tmp_path, f"{name}.safetensors", ODD_LORAS[name]())
    before = files_in(tmp_path)
    for options in ((), ("--json",)):
        code, out, err = command("inspect", file, *options)
        assert code == 0, err
        assert not [sign for sign in out if not sign.isprintable() and sign != "\n"]
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"\xff\xfe{", b'{"r": ' + b"9" * 9000 + b"}", b"x" * 5_000_000])
def test_inspect_refuses_a_bad_adapter_config(content, tmp_path, refused):
    place(tmp_path / "adapter", "adapter_model.safetensors", ODD_LORAS["nan"]())
    place(tmp_path / "adapter", "adapter_config.json", content)
    refused("inspect", tmp_path / "adapter", names="adapter_config.json")


@pytest.mark.parametrize("name", ["empty", "length-100-mb", "json-garbage", "overlap", "dtype-unknown", "pickle", "no-lora", "no-tensors"])
def test_an_adapter_to_start_from_is_refused(name, tmp_path, config, refused):
    place(tmp_path / "adapter", "adapter_model.safetensors", BAD_LORAS[name]())
    place(tmp_path / "adapter", "adapter_config.json", b'{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["to_q"]}')
    refused("train", "image", config(init_from_adapter=str(tmp_path / "adapter")), names="adapter")


# --- bases --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_single_file_is_refused(name, tmp_path, config, refused):
    file = place(tmp_path, f"{name}.safetensors", BAD_FILES[name]())
    given = {"base_config": str(EMBEDDED)} if name == "body-missing" else {}
    command = "train" if name == "body-missing" else "check"
    refused(command, "image", config(base_model=str(file), **given), names=f"{name}.safetensors")


@pytest.fixture
def base_folder(tmp_path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "base"))


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_bad_configuration_of_a_base_is_refused(name, base_folder, config, refused):
    change(base_folder, *BAD_CONFIGS[name])
    refused("check", "image", config(base_model=str(base_folder)), names="base")


@pytest.mark.parametrize("name", BAD_PARTS)
def test_a_bad_part_of_a_base_is_refused(name, base_folder, config, refused):
    change(base_folder, *BAD_PARTS[name])
    refused("train", "image", config(base_model=str(base_folder)), names="base")


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_a_pickled_base_runs_nothing(suffix, zipped, allow, tmp_path, config, refused):
    file = place(tmp_path, f"base{suffix}", pickled(tmp_path / "mark", zipped=zipped))
    refused(
        "train", "image", config(base_model=str(file), allow_pickle=allow, model_family="sd15", base_config=str(EMBEDDED)), names=file.name
    )


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/pytorch_model"])
def test_a_pickled_part_runs_nothing(part, tmp_path, base_folder, config, refused):
    for weights in (base_folder / part).parent.glob("*.safetensors"):
        weights.unlink()
    place(base_folder, f"{part}.bin", pickled(tmp_path / "mark", zipped=True))
    for allow in (False, True):
        refused("train", "image", config(base_model=str(base_folder), allow_pickle=allow), names="base")


def test_a_packed_or_inflated_checkpoint_is_refused(tmp_path, config, refused):
    import zipfile

    import torch

    torch.save({"state_dict": {"a": torch.zeros(1_000_000)}}, tmp_path / "plain.ckpt")
    with zipfile.ZipFile(tmp_path / "plain.ckpt") as old, zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    torch.save({"state_dict": {"a": torch.zeros(1).expand(2**40)}}, tmp_path / "view.ckpt")
    for name in ("packed.ckpt", "view.ckpt"):
        file = config(base_model=str(tmp_path / name), allow_pickle=True, model_family="sd15", base_config=str(EMBEDDED))
        refused("train", "image", file, names="damaged")


# --- memory -------------------------------------------------------------------------------------------------------------------

_CHILD = """
import contextlib, io, resource, sys
from pathlib import Path
from loraforge.cli.main import main

def run(*arguments):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(list(arguments))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

root = Path(sys.argv[1])
run("inspect", str(root / "good.safetensors"))
before = run("prepare", "image", str(root / "good"), "--out", str(root / "out-good"))
for bomb in sorted((root / "loras").iterdir()):
    print(bomb.name, run("inspect", str(bomb)) - before, flush=True)
for number, folder in enumerate(sorted((root / "bombs").iterdir())):
    print(folder.name, run("prepare", "image", str(folder), "--out", str(root / f"out-{number}")) - before, flush=True)
"""


def test_bombs_stay_below_half_a_gigabyte(tmp_path):
    place(tmp_path / "good", "a.png", _saved("PNG"))
    place(tmp_path, "good.safetensors", ODD_LORAS["nan"]())
    bombs = [name for name in {**BROKEN, **ODD} if "bomb" in name or name in ("many-texts.png", "frames-100000.gif")]
    for name in bombs:
        place(tmp_path / "bombs" / name, name, {**BROKEN, **ODD}[name]())
    for name in ("length-100-mb", "huge-shape", "tags-many", "patterns-many", "thumbnail"):
        place(tmp_path / "loras", f"{name}.safetensors", {**BAD_LORAS, **ODD_LORAS}[name]())
    signal.alarm(900)
    done = subprocess.run([sys.executable, "-c", _CHILD, str(tmp_path)], capture_output=True, text=True, check=True)
    grown = {name: int(more) for name, more in (line.split() for line in done.stdout.splitlines())}
    assert len(grown) == len(bombs) + 5
    assert max(grown.values()) < 500, grown


# --- anything -----------------------------------------------------------------------------------------------------------------

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64) | st.floats(allow_subnormal=False) | st.text(max_size=12),
    lambda s: st.lists(s, max_size=4),
    max_leaves=6,
)
_names = st.sampled_from(["lora_unet_x_to_q", "unet.a.to_q", "base_model.model.a", "text_encoder.q"])
_ends = st.sampled_from([".lora_down.weight", ".lora_up.weight", ".lora_A.weight", ".alpha", ".dora_scale", ".hada_w1_a", ".lokr_w1", ".x"])
_entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "U8"]) | _values,
        "shape": st.lists(st.integers(0, 4), max_size=4) | _values,
        "data_offsets": st.tuples(st.integers(0, 64), st.integers(0, 64)) | _values,
    }
)
_header = st.dictionaries(st.builds(lambda a, b: a + b, _names, _ends) | st.text(max_size=8), _entry | _values, max_size=4)


@FUZZ
@given(header=_header, told=st.dictionaries(st.text(max_size=9), _values, max_size=3), body=st.binary(max_size=64))
def test_inspect_of_any_header(header, told, body, tmp_path_factory):
    from loraforge_image.inspect.summary import summarise
    from loraforge_image.lora_files.lora_file import read_lora

    from loraforge import RunError

    file = place(tmp_path_factory.getbasetemp(), "any.safetensors", safetensors({"__metadata__": told, **header}, body))
    try:
        json.dumps(summarise(read_lora(file)), allow_nan=False)
    except RunError as error:
        assert "any.safetensors" in str(error)


_ENDS = (".lora_down.weight", ".lora_up.weight", ".alpha", ".dora_scale", ".lora_mid.weight", ".hada_w1_a", ".hada_w1_b", ".hada_w2_a",
         ".hada_w2_b", ".hada_t1", ".lokr_w1", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2", ".diff", ".oft_blocks")  # fmt: skip


@FUZZ
@given(
    parts=st.dictionaries(st.sampled_from(_ENDS), st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=5),
    told=st.dictionaries(
        st.sampled_from(["ss_tag_frequency", "ss_steps", "ss_training_started_at", "modelspec.trigger_phrase", "lora_adapter_metadata",
                         "ss_base_model_version", "ss_v2", "sshs_model_hash", "ss_network_args", "modelspec.architecture"]),
        _values.map(json.dumps) | st.text(max_size=20), max_size=4,
    ),
)  # fmt: skip
def test_inspect_of_any_shapes_and_metadata(parts, told, tmp_path_factory):
    import math

    from loraforge_image.inspect.summary import summarise
    from loraforge_image.lora_files.lora_file import read_lora

    from loraforge import RunError

    header, offset = {}, 0
    for end, shape in parts.items():
        size = 4 * math.prod(shape)
        header[f"lora_unet_down_blocks_0_attentions_0_to_q{end}"] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    file = place(tmp_path_factory.getbasetemp(), "shapes.safetensors", safetensors({"__metadata__": told, **header}, b"\x3f" * offset))
    try:
        json.dumps(summarise(read_lora(file)), allow_nan=False)
    except RunError as error:
        assert "holds no LoRA" in str(error)


_SAMPLES = {kind: _saved(kind, (24, 20)) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}
_EXIF = _saved("JPEG", (24, 20), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")


@FUZZ
@given(
    whole=st.sampled_from([*_SAMPLES.values(), _EXIF]),
    edits=st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=4)), max_size=5),
    cut=st.integers(0, 40),
)
def test_a_picture_with_any_bytes_is_read_or_refused(whole, edits, cut, tmp_path_factory):
    from loraforge_image.data.perceptual_hash import picture_info
    from loraforge_image.data.pictures import read_size
    from loraforge_image.prepare.inspection import inspect_picture

    from loraforge import DataError

    data = bytearray(whole[: len(whole) - cut])
    for at, new in edits:
        data[at : at + len(new)] = new
    path = place(tmp_path_factory.getbasetemp(), "any.png", bytes(data))
    inspect_picture(path, "any.png", 8)
    picture_info(str(path))
    try:
        read_size(path)
    except DataError as error:
        assert str(error)


@FUZZ
@given(text=st.text(max_size=60), suffix=st.sampled_from([".csv", ".jsonl", ".json", ".tsv"]), head=st.booleans())
def test_any_metadata_is_read_or_refused(text, suffix, head, tmp_path_factory):
    from loraforge_image.data.folders.metadata import metadata_rows

    from loraforge import DataError

    content = ("file_name,text,repeats\n" if head else "") + text
    path = place(tmp_path_factory.getbasetemp(), f"metadata{suffix}", content.encode("utf-8", "surrogatepass"))
    try:
        list(metadata_rows(path, []))
    except DataError as error:
        assert path.name in str(error)


@FUZZ
@given(cell=st.text(alphabet="=+-@＝＋－＠'\t\r\n;, ax", max_size=12))
def test_a_cell_that_is_no_formula_comes_back(cell):
    from loraforge_image.data.cells import quoted, unquoted

    assert unquoted(quoted(cell)) == cell
    assert not any(part.lstrip()[:1] in tuple("=+-@＝＋－＠") for part in quoted(cell).replace("\t", ";").split(";") if part.strip())


@FUZZ
@given(facts=st.dictionaries(st.text(max_size=9), st.text(max_size=30), max_size=4), stem=st.text(min_size=1, max_size=12))
def test_any_words_make_a_header_that_is_read(facts, stem):
    """Whatever notes, author and captions say, the exported header is one that readers take, and holds it."""
    import safetensors.torch as st_torch
    import torch
    from loraforge_image.export.webui_metadata import serialise

    told = {f"ss_{key}": value for key, value in facts.items()} | {"modelspec.title": stem}
    data = serialise({"lora_unet_x.alpha": torch.ones(1)}, told)
    assert set(st_torch.load(data)) == {"lora_unet_x.alpha"}
    length = int.from_bytes(data[:8], "little")
    assert json.loads(data[8 : 8 + length])["__metadata__"].items() >= told.items()
