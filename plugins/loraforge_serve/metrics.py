# SPDX-License-Identifier: Apache-2.0
"""Figures for Prometheus at /metrics: who asks how much, never what."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .admission import Admission


class Metrics:
    """Counts of one server; several in one process do not mix."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self._requests = Counter("loraforge_requests", "Requests, by path and status.", ["path", "status"], registry=self.registry)
        self._tokens = Counter("loraforge_completion_tokens", "Tokens of answers, by model.", ["model"], registry=self.registry)
        self._prompts = Counter("loraforge_prompt_tokens", "Tokens of questions, by model.", ["model"], registry=self.registry)
        self._left = Counter("loraforge_cancelled", "Answers whose client left before the end.", registry=self.registry)
        self._seconds = Histogram(
            "loraforge_answer_seconds",
            "From the question to the end of its answer.",
            ["model"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
            registry=self.registry,
        )
        self._inside = Gauge("loraforge_answers_in_progress", "Answers that are given or waited for.", registry=self.registry)

    def watch(self, admission: Admission) -> None:
        """Shows how many are inside."""
        self._inside.set_function(lambda: admission.inside)

    def request(self, path: str, status: int) -> None:
        self._requests.labels(path, str(status)).inc()

    def asked(self, model: str, tokens: int) -> None:
        self._prompts.labels(model).inc(tokens)

    def made(self, model: str, tokens: int) -> None:
        self._tokens.labels(model).inc(tokens)

    def answered(self, model: str, seconds: float) -> None:
        self._seconds.labels(model).observe(seconds)

    def left(self) -> None:
        self._left.inc()

    def text(self) -> bytes:
        """What Prometheus reads."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
