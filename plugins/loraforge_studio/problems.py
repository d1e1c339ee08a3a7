# SPDX-License-Identifier: Apache-2.0
"""What a request cannot be done for, in sentences for whoever looks at the page."""

from __future__ import annotations

from collections.abc import Sequence


class Refused(Exception):
    """A request that is not carried out.

    Args:
        status: of HTTP.
        problems: one sentence each.
        command: the command that said so, if one did.
    """

    def __init__(self, status: int, problems: str | Sequence[str], command: str = "") -> None:
        self.status, self.command = status, command
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    @property
    def body(self) -> dict[str, object]:
        """The answer's JSON."""
        return {"problems": self.problems, "command": self.command}
