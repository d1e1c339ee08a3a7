"""Whose fault an error is."""

from __future__ import annotations

import errno

import pytest

from loraforge import DataError, MachineError, RunError, out_of_something, panics_as_errors, refuse_machines_fault
from loraforge.errors import machines_fault

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
