# SPDX-License-Identifier: Apache-2.0
"""The links on the page of the package: to wherever the repository lives that it is built from, a fork included."""

from __future__ import annotations

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Links(MetadataHookInterface):
    """Reads ``PROJECT_URL``, which the workflow of a release sets; a build without it has no links rather than somebody else's."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fills ``project.urls``."""
        home = os.environ.get("PROJECT_URL", "").rstrip("/")
        pages = {
            "Homepage": "",
            "Documentation": "/blob/main/docs/index.md",
            "Changelog": "/blob/main/CHANGELOG.md",
            "Source": "",
            "Issues": "/issues",
            "Security": "/security/policy",
        }
        metadata["urls"] = {name: home + path for name, path in pages.items()} if home else {}
