"""What ``manifest.json`` says of a run: enough to audit it, and to repeat it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import findings, provenance, rundir
from .provenance import versions
from .resume import identity

if TYPE_CHECKING:
    from .session import Session


def describe(session: Session, status: str, error: str | None = None) -> dict[str, Any]:
    """The manifest of a run as it stands now.

    Args:
        status: see ``rundir``.
        error: why it ended, if it did not end well.
    """
    return {
        "format": rundir.FORMAT,
        "status": status,
        "error": error,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(session.started)),
        "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "task": session.plan.task.name,
        "family": session.plan.family.name,
        "config": session.plan.keys.flat(),
        "identity": identity(session.plan, session.data),
        "seed": session.config.seed,
        "template": dict(session.data.template.describe()),
        "base": session.base,
        "init_from_adapter": session.config.init_from_adapter,
        "lineage": session.lineage,
        "data": {
            "sha256": session.data.digest(),
            "rows": session.data.rows(),
            "notes": list(session.data.notes),
            "findings": findings.counts(session.data.found),
            "review": session.data.review,
            "skipped": list(session.data.skipped),
            "waivers": findings.waived(session.data.found),
        },
        "inherited": session.data.inherited,
        "cautions": list(session.plan.task.cautions),
        "facts": session.facts,
        "metrics": session.metrics,
        "chosen": session.chosen,
        "advice": dict(session.advice) if session.advice else None,
        "diagnosis": [{"kind": d.kind, "sentence": d.sentence, "evidence": d.evidence} for d in session.diagnoses],
        "versions": versions(),
        "machine": {**provenance.machine(), "device": session.facts.get("device"), "processes": session.accelerator.num_processes},
        "code": provenance.code(session.host),
    }
