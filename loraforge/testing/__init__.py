# SPDX-License-Identifier: Apache-2.0
"""For the tests of plugins: a check of each contract, and an adapter, a run and events to try things on.

Importing it imports no torch. Fixtures for pytest are in ``loraforge.testing.fixtures``.
"""

from .adapters import make_adapter
from .checks import check_check, check_component, check_exporter, check_loader, check_plugin, check_template
from .commands import check_command
from .events import check_observer, event_stream
from .families import check_model_family
from .runs import finished_run
from .tasks import check_task

__all__ = [
    "check_check",
    "check_command",
    "check_component",
    "check_exporter",
    "check_loader",
    "check_model_family",
    "check_observer",
    "check_plugin",
    "check_task",
    "check_template",
    "event_stream",
    "finished_run",
    "make_adapter",
]
