# SPDX-License-Identifier: Apache-2.0
"""What is forbidden while a plugin's code runs is seen, whether or not torch is loaded already, and nothing else is."""

from __future__ import annotations

import builtins
import subprocess
import sys

import numpy as np
import pytest

from loraforge.testing.guards import equal, without_output, without_torch

FRESH = """
import sys
from loraforge.testing.guards import without_torch
assert "torch" not in sys.modules
try:
    with without_torch("it"):
        import loraforge.adapters.peft_format
except AssertionError as error:
    print(error)
"""


def test_torch_behind_another_module_is_seen_in_a_fresh_process():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("it must not import torch: it imports"), done.stderr


def test_torch_is_seen_where_it_is_loaded_already():
    import torch

    assert torch
    with pytest.raises(AssertionError, match="it imports torch$"), without_torch("x"):
        import torch
    with pytest.raises(AssertionError, match="it imports torch.nn$"), without_torch("x"):
        from torch.nn import functional

        assert functional
    with pytest.raises(AssertionError, match="it imports loraforge.adapters.lora$"), without_torch("x"):
        from loraforge.adapters import lora

        assert lora
    with pytest.raises(AssertionError, match="it imports transformers.modeling_utils"), without_torch("x"):
        from transformers import PreTrainedModel

        assert PreTrainedModel


def test_other_imports_and_scipys_look_at_torch_are_nothing():
    import torch

    before = builtins.__import__
    with without_torch("x"):
        import json

        import scipy.fft
        from scipy import stats
        from transformers.utils.chat_template_utils import render_jinja_template

        assert json and render_jinja_template and scipy.fft.dct([1.0, 2.0]).sum() and stats.norm.cdf(0) == 0.5 and torch
    assert builtins.__import__ is before


def test_other_libraries_can_be_forbidden_too():
    with pytest.raises(AssertionError, match="x must not import torch or json: it imports json"), without_torch("x", "json"):
        import json

        assert json


def test_an_error_of_the_body_comes_through():
    before = builtins.__import__
    with pytest.raises(KeyError), without_torch("x"), without_output("x"):
        raise KeyError
    assert builtins.__import__ is before


def test_what_is_printed_is_seen():
    with (
        pytest.raises(AssertionError, match="a loader must not print: printing is for commands. It printed 'rows"),
        without_output("a loader"),
    ):
        print("rows")


def test_values_are_compared_through_and_through():
    import torch

    value = {"a": [torch.arange(3), (1, "x")], "b": np.ones(2)}
    assert equal(value, {"a": [torch.arange(3), (1, "x")], "b": np.ones(2)})
    assert not equal(value, {"a": [torch.arange(3) + 1, (1, "x")], "b": np.ones(2)})
    assert not equal(value, {"a": [torch.arange(3).float(), (1, "x")], "b": np.ones(2)})
    assert (
        not equal(value, {"a": [torch.arange(3)], "b": np.ones(2)})
        and not equal(value, {"a": 1})
        and not equal(torch.ones(1), torch.ones(2))
    )
