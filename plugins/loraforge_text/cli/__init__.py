# SPDX-License-Identifier: Apache-2.0
"""The commands that the text plugin adds: ``chat``, ``golden``, ``metadata``."""
