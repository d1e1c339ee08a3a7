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


@pytest.mark.parametrize("left", ["", "# nobody\n", "bob sha256:xyz\n", None])
def test_a_token_that_was_struck_out_counts_no_more_whatever_is_left_of_the_file(tmp_path, left):
    file = tmp_path / "t"
    anna, tokens = new_token(file, "anna", False), Tokens(file)
    assert tokens.holder(anna)
    line = file.read_text()
    file.unlink() if left is None else file.write_text(left)
    assert tokens.holder(anna) is None
    file.write_text(f"{line}bob sha256:xyz\n")
    assert tokens.holder(anna).name == "anna", "and a line that is right counts beside one that is not"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_adds_is_still_read_by_the_server_and_a_file_of_comments_can_be_added_to(tmp_path):
    file = tmp_path / "t"
    file.write_text("# nobody\n")
    os.chown(file, 10001, 10001)
    new_token(file, "anna", False)
    assert file.stat().st_uid == file.stat().st_gid == 10001 and file.read_text().startswith("# nobody\nanna sha256:")


def test_a_minute_passes_between_requests():
    rate = RateLimit(2)
    assert [rate.seconds_to_wait("a", now) for now in (0, 10, 20, 59.5, 60.5, 61)] == [0, 0, 41, 1, 0, 10]
    assert rate.seconds_to_wait("b", 20) == 0, "each client has its own"
