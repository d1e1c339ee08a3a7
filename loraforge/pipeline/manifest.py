# SPDX-License-Identifier: Apache-2.0
"""What ``manifest.json`` says of a run: enough to audit it, and to repeat it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data import findings
from ..data.dataset import Data
from ..diagnosis.diagnose import Diagnosis
from ..plan import Plan
from ..runs import provenance
from ..runs.folder import FORMAT
from .resume import identity


@dataclass
class RunState:
    """What is known of a training by now.

    Attributes:
        started: seconds since 1970.
        lineage: the runs before it, see ``Parent.lineage``.
        advice: why this is the second training of a run (``lr_advice: apply``).
        base: the name, revision, folder and files (with hashes) of the base.
        facts: what the summary shows: examples, parameters, device ...
        metrics: losses, seconds.
        chosen: which step the adapter comes from, and why.
        diagnoses: what the losses say.
    """

    started: float
    lineage: Sequence[Mapping[str, Any]] = ()
    advice: Mapping[str, Any] | None = None
    base: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)
    diagnoses: Sequence[Diagnosis] = ()


def describe(
    plan: Plan, data: Data, state: RunState, code: Mapping[str, str], *, processes: int, status: str, error: str | None = None
) -> dict[str, Any]:
    """The manifest of a run as it stands now.

    Args:
        code: see ``provenance.code``.
        processes: how many train together.
        status: see ``runs.folder``.
        error: why it ended, if it did not end well.
    """
    return {
        "format": FORMAT,
        "status": status,
        "error": error,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(state.started)),
        "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "task": plan.task.name,
        "family": plan.family.name,
        "config": plan.keys.flat(),
        "identity": identity(plan, data),
        "seed": plan.config.seed,
        "template": dict(data.template.describe()),
        "base": state.base,
        "init_from_adapter": plan.config.init_from_adapter,
        "lineage": list(state.lineage),
        "data": {
            "sha256": data.digest(),
            "rows": data.rows(),
            "notes": list(data.notes),
            "findings": findings.counts(data.found),
            "review": data.review,
            "skipped": list(data.skipped),
            "waivers": findings.waived(data.found),
        },
        "inherited": data.inherited,
        "cautions": [*plan.task.cautions, *plan.family.cautions(plan.config, plan.keys)],
        "facts": state.facts,
        "metrics": state.metrics,
        "chosen": state.chosen,
        "advice": dict(state.advice) if state.advice else None,
        "diagnosis": [{"kind": d.kind, "sentence": d.sentence, "evidence": d.evidence} for d in state.diagnoses],
        "versions": provenance.versions(),
        "machine": {**provenance.machine(), "device": state.facts.get("device"), "processes": processes},
        "code": dict(code),
    }
