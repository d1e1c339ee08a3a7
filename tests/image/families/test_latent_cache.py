# SPDX-License-Identifier: Apache-2.0
"""What was encoded is kept whole or not at all."""

from __future__ import annotations

import os
import time

import pytest
from loraforge_image.families.latent_cache import Cache, weights_hash

from loraforge import cache_folder

torch = pytest.importorskip("torch")

KEY = {"picture": "a", "size": [64, 64]}


def test_what_was_made_is_found_again_by_its_key(tmp_path):
    made = torch.arange(6.0).view(2, 3)
    cache = Cache(tmp_path)
    for _ in range(2):
        assert cache.get(KEY, lambda: {"latents": made.t()})["latents"].equal(made.t())
    assert (cache.made, cache.found) == (1, 1)
    assert cache.get(dict(reversed(KEY.items())), lambda: pytest.fail("made"))["latents"].equal(made.t())  # whatever the order
    assert Cache(tmp_path).get({**KEY, "size": [64, 80]}, lambda: {"latents": made})["latents"].equal(made)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2 and all(path.suffix == ".safetensors" and path.parent.name == path.name[:2] for path in files)
    if os.name != "nt":
        assert {path.stat().st_mode & 0o777 for path in files} == {0o644}  # a cache may be shared


@pytest.mark.parametrize("content", [b"", b"torn", None], ids=str)
def test_a_damaged_file_is_made_again(content, tmp_path):
    cache = Cache(tmp_path)
    cache.get(KEY, lambda: {"x": torch.ones(3)})
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-4] if content is None else content)
    assert cache.get(KEY, lambda: {"x": torch.zeros(3)})["x"].equal(torch.zeros(3))
    assert cache.get(KEY, lambda: pytest.fail("made"))["x"].equal(torch.zeros(3)) and (cache.made, cache.found) == (2, 1)


def test_a_file_is_renamed_when_it_is_whole_and_on_the_disk(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (done.append(name), real(*given))[1])
    Cache(tmp_path).get(KEY, lambda: {"x": torch.ones(3)})
    assert done == ["fsync", "replace"]

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "other").mkdir()
    assert Cache(tmp_path / "other").get(KEY, lambda: {"x": torch.ones(3)})["x"].equal(torch.ones(3))
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]


def test_what_a_killed_process_left_goes_after_a_day_and_not_before(tmp_path):
    cache = Cache(tmp_path)
    cache.get(KEY, lambda: {"x": torch.ones(3)})
    (file,) = tmp_path.rglob("*.safetensors")
    ages = {".old": 25, ".young": 23}
    for name, hours in ages.items():
        (file.parent / name).touch()
        os.utime(file.parent / name, (time.time() - hours * 3600,) * 2)
    file.unlink()
    cache.get(KEY, lambda: {"x": torch.ones(3)})
    assert sorted(path.name for path in file.parent.iterdir()) == [".young", file.name]


def test_a_cache_that_cannot_be_written_is_told_once(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    cache = Cache(tmp_path / "file" / "cache")
    for number in range(2):
        assert cache.get({"n": number}, lambda: {"x": torch.ones(3)})["x"].equal(torch.ones(3))
    said = capsys.readouterr().err
    assert said.count("cannot be kept") == 1 and "Not a directory" in said.replace("File exists", "Not a directory")
    assert (cache.made, cache.found) == (2, 0)


def test_every_weight_its_name_its_shape_and_its_type_count():
    def hashed(**tensors):
        return weights_hash(
            torch.nn.ParameterDict({name: torch.nn.Parameter(value, requires_grad=False) for name, value in tensors.items()})
        )

    one, two = torch.ones(2, 3), torch.zeros(3)
    plain = hashed(a=one, b=two)
    assert plain == hashed(b=two.clone(), a=one.clone()) and len(plain) == 64
    others = [{"a": one, "b": two + 1}, {"a": one, "c": two}, {"a": one.view(3, 2), "b": two}, {"a": one, "b": two.int()}, {"a": one}]
    assert plain not in [hashed(**tensors) for tensors in others]
    assert hashed(a=torch.arange(6.0).view(2, 3).t()) == hashed(a=torch.arange(6.0).view(2, 3).t().contiguous())


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.name != "nt":
        assert cache_folder() == tmp_path / "loraforge"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "loraforge"
