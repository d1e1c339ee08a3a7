# SPDX-License-Identifier: Apache-2.0
"""Whose fault an error is, and in which words and language it is told."""

from __future__ import annotations

import errno
import json
import os
import re
import types

import pytest

from loraforge import DataError, MachineError, RunError, messages, out_of_something, panics_as_errors, refuse_machines_fault, speaker, why
from loraforge.errors import machines_fault
from loraforge.messages import language

MACHINES = (
    MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), OSError(errno.EMFILE, "Too many open files", "x.png"), OSError(errno.ENFILE, "x"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), RuntimeError("can't start new thread"),
)  # fmt: skip
OTHERS = (
    ValueError("x"),
    FileNotFoundError(errno.ENOENT, "x"),
    RuntimeError("mat1 and mat2"),
    OSError("x"),
    PermissionError(errno.EACCES, "x"),
    DataError("x"),
)


@pytest.mark.parametrize("error", MACHINES, ids=repr)
def test_a_shortage_is_the_computers(error):
    assert machines_fault(error)
    with pytest.raises(MachineError, match="this computer refuses what is needed: .+ No row and no file is wrong") as told:
        refuse_machines_fault(error)
    assert told.value.exit_code == 1 and not isinstance(told.value, DataError | RunError)


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_anything_else_is_not(error):
    assert not machines_fault(error)
    refuse_machines_fault(error)


def test_what_it_is_short_of_is_said():
    assert "Too many open files." in str(out_of_something(OSError(errno.EMFILE, "Too many open files", "x")))
    assert "MemoryError." in str(out_of_something(MemoryError()))


def test_a_panic_of_a_library_in_rust_becomes_an_error():
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(ValueError, match="left: 2 right: 0"), panics_as_errors():
        raise panic("left: 2\n right: 0")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


LOCALES = [
    ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh_TW.UTF-8"}, "zh"), ({"LANG": "zh_HK"}, "zh"), ({"LANG": "zh_Hans_CN"}, "zh"), ({"LANG": "en_GB.UTF-8"}, "en"),
    ({"LANG": "de_DE.UTF-8"}, "en"), ({"LANG": "C.UTF-8"}, "en"), ({"LANG": "POSIX"}, "en"), ({}, "en"), ({"LANG": ""}, "en"),
    ({"LC_ALL": "zh_CN", "LANG": "en_US"}, "zh"), ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"), ({"LC_MESSAGES": "en_US", "LANG": "zh_CN"}, "en"),
    ({"LC_CTYPE": "zh_CN.UTF-8", "LANG": "en_US"}, "en"), ({"LC_ALL": "", "LANG": "zh_CN"}, "zh"),
    ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, "zh"), ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en_US:zh"}, "en"), ({"LANG": "zh_CN", "LANGUAGE": "de:fr"}, "zh"),
    ({"LANG": "de_DE", "LANGUAGE": "de:zh_CN:en"}, "zh"), ({"LANG": "C", "LANGUAGE": "zh_CN"}, "en"), ({"LC_ALL": "C.UTF-8", "LANGUAGE": "zh"}, "en"),
    ({"LANG": "zh_CN", "LORAFORGE_LANG": "en"}, "en"), ({"LANG": "en_US", "LANGUAGE": "en", "LORAFORGE_LANG": "zh"}, "zh"),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "expected"), LOCALES, ids=[str(one) for one, _ in LOCALES])
def test_the_language(monkeypatch, variables, expected):
    for name in ("LORAFORGE_LANG", "LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [("zh_CN", "zh"), ("Chinese (Simplified)_China", "zh"), ("Chinese_Taiwan", "zh"), ("English_United States", "en"), (None, "en")],
)
def test_the_language_of_windows(monkeypatch, said, expected):
    for name in ("LORAFORGE_LANG", "LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(messages, "os", types.SimpleNamespace(name="nt", environ=os.environ))
    monkeypatch.setattr(messages.locale, "getlocale", lambda: (said, "cp936"))
    assert language() == expected


# What POSIX lets open, read, write, rename, mkdir, unlink, fsync, bind and connect fail with.
FAILURES = [
    name
    for name in [
        "EACCES",
        "EAGAIN",
        "EBADF",
        "EBUSY",
        "EDQUOT",
        "EEXIST",
        "EFBIG",
        "EINTR",
        "EINVAL",
        "EIO",
        "EISDIR",
        "ELOOP",
        "EMFILE",
        "EMLINK",
        "ENAMETOOLONG",
        "ENFILE",
        "ENODEV",
        "ENOENT",
        "ENOLCK",
        "ENOMEM",
        "ENOSPC",
        "ENOSYS",
        "ENOTDIR",
        "ENOTEMPTY",
        "ENXIO",
        "EOVERFLOW",
        "EPERM",
        "EPIPE",
        "EROFS",
        "ESPIPE",
        "ESTALE",
        "ETXTBSY",
        "EXDEV",
        "EOPNOTSUPP",
        "EDEADLK",
        "ENOBUFS",
        "EADDRINUSE",
        "EADDRNOTAVAIL",
        "ECONNREFUSED",
        "ECONNRESET",
        "ECONNABORTED",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ENETDOWN",
        "ENOTCONN",
        "ETIMEDOUT",
        "ECANCELED",
        "EILSEQ",
    ]
    if hasattr(errno, name)
]


@pytest.mark.parametrize("name", FAILURES)
def test_what_the_system_refuses_is_told_in_the_users_language(name, monkeypatch):
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number), "/a/file")
    say = speaker("loraforge")
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    assert re.search("[\u4e00-\u9fff]", why(error)) and not re.search("[A-Za-z]{3}", why(error))
    assert say("{path}: cannot be read: {error}.", path="/a/file", error=error) == f"/a/file: 无法读取：{why(error)}。"
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    assert why(error) == os.strerror(number)


def test_reasons_of_our_own_and_of_others_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    assert why(OSError(errno.EISDIR, "这里是一个管道", "x")) == "这里是一个管道"
    assert why(ValueError("header too large")) == "header too large" and why(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    "text", ["", "{", '{"a"', '{"a": 1', '{"a": 1,}', "[1,]", '"abc', '"a\nb"', r'"\q"', r'"\u12"', "1 2", "{a: 1}", "nul"]
)
def test_what_is_wrong_with_json_is_told_in_chinese(text, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    with pytest.raises(json.JSONDecodeError) as told:
        json.loads(text)
    assert re.fullmatch(r"第 \d+ 行第 \d+ 列：.*[\u4e00-\u9fff].*", why(told.value)) and not re.search("[A-Za-z]{3}", why(told.value))


def test_an_error_of_the_system_names_its_file_unless_the_sentence_does():
    error = PermissionError(13, "Permission denied", "/data/a.csv")
    assert speaker("loraforge")("cannot be read: {error}", error=error) == "cannot be read: Permission denied: /data/a.csv"
    assert speaker("loraforge")("{file}: {error}", file="a.csv", error=error) == "a.csv: Permission denied"
    assert speaker("loraforge")("{error}", error=OSError("no number")) == "no number"
