# SPDX-License-Identifier: Apache-2.0
""""""

from __future__ import annotations

QUESTION = "第3问：试用期工资怎么算？"
