# SPDX-License-Identifier: Apache-2.0
"""The checks together: the shipped data have no finding, and nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
from builders import ROOT
from builders.text_checks import CHECKS, run_check
from loraforge_text.data.table_loader import TableKeys, TableLoader

from loraforge import KeySet, RunConfig


@pytest.mark.parametrize("name", list(CHECKS))
@pytest.mark.parametrize("data", ["legal", "medical"])
def test_good_data_have_no_finding(name, data):
    config = RunConfig(train_data_dir=str(ROOT / "configs" / "data" / data), base_model="x")
    records = list(TableLoader().load(config, KeySet({RunConfig: config, TableKeys: TableKeys()}), lambda text: None))
    assert len(records) >= 120 and run_check(name, records) == []


def test_the_checks_are_components_with_a_sentence_each(host):
    there = host.components("loraforge_checks", "text")
    assert set(there) == set(CHECKS)
    for check in CHECKS.values():
        assert check.task == "text" and check.help.endswith(".") and check.name.isidentifier() and check.name.islower()


def test_checks_import_no_heavy_library():
    code = (
        "import sys; from loraforge_text.checks import checks; from loraforge_text.checks.similar import near_pairs; checks()\n"
        "from loraforge_text.records import Conversation as C; near_pairs((C('试用期工资', where=''), C('试用期的工资', where=''))); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
