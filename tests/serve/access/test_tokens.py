# SPDX-License-Identifier: Apache-2.0
"""The file of tokens, and the rate of a client."""

from __future__ import annotations

import hashlib
import os

import pytest
from loraforge_serve.access.tokens import RateLimit, Tokens, new_token

from loraforge import ConfigError


def test_the_file_keeps_hashes_and_no_token(tmp_path):
    file = tmp_path / "t"
    token = new_token(file, "anna", False)
    assert token not in file.read_text()
    assert hashlib.sha256(token.encode()).hexdigest() in file.read_text()
    if os.name != "nt":
        assert file.stat().st_mode & 0o077 == 0
    assert Tokens(file).holder(token).name == "anna"
    assert Tokens(file).holder(token[:-1]) is None
    with pytest.raises(ConfigError, match="'anna' already"):
        new_token(file, "anna", False)
    with pytest.raises(ConfigError, match="without blanks"):
        new_token(file, "an na", False)


def test_what_is_wrong_with_a_file_is_said_at_once(tmp_path):
    file = tmp_path / "t"
    file.write_text("# people\nanna sha256:xyz\nbob secret\n")
    with pytest.raises(ConfigError) as caught:
        Tokens(file)
    assert len(caught.value.problems) == 2
    assert "line 2" in caught.value.problems[0]
    file.write_text("# nobody\n")
    with pytest.raises(ConfigError, match="no token"):
        Tokens(file)


def test_a_minute_passes_between_requests():
    rate = RateLimit(2)
    assert [rate.seconds_to_wait("a", now) for now in (0, 10, 20, 59.5, 60.5, 61)] == [0, 0, 41, 1, 0, 10]
    assert rate.seconds_to_wait("b", 20) == 0, "each client has its own"


def test_a_token_that_is_struck_out_counts_no_more_whatever_else_stands_there(tmp_path):
    file = tmp_path / "t"
    anna, bob = new_token(file, "anna", False), new_token(file, "bob", False)
    tokens = Tokens(file)
    first, second = file.read_text().splitlines()
    file.write_text(f"{first}\nbob is on holiday\n")
    assert (tokens.holder(anna).name, tokens.holder(bob)) == ("anna", None), "a line that is none spoils the others neither way"
    file.write_text(f"# {first}\n")
    assert tokens.holder(anna) is None, "the last one too"
    file.write_text(f"{first}\n{second}\n")
    assert tokens.holder(bob).name == "bob"
    file.unlink()
    assert tokens.holder(bob) is None


def test_a_place_where_no_token_can_be_added_is_said(tmp_path):
    (tmp_path / "garbage").write_bytes(b"\xff\xfe\x80")
    (tmp_path / "folder").mkdir()
    for place in ("garbage", "folder", "no/such"):
        with pytest.raises(ConfigError, match="no token can be added"):
            new_token(tmp_path / place, "anna", False)
