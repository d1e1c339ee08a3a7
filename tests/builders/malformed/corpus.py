# SPDX-License-Identifier: Apache-2.0
"""All malformed inputs: configs, overrides, tables, workbooks, bases, adapters, runs, waivers, plugins."""

from __future__ import annotations

from builders.malformed.adapters import _adapter_cases
from builders.malformed.bases import _base_cases
from builders.malformed.case import Case
from builders.malformed.configs import _config_cases, _override_cases
from builders.malformed.plugins import _plugin_cases
from builders.malformed.runs import _run_cases, _waiver_cases
from builders.malformed.tables import _data_cases
from builders.malformed.workbooks import _workbook_cases

CASES: tuple[Case, ...] = (
    *_config_cases(), *_override_cases(), *_data_cases(), *_workbook_cases(), *_base_cases(), *_adapter_cases(), *_run_cases(), *_waiver_cases(),
    *_plugin_cases(),
)  # fmt: skip
