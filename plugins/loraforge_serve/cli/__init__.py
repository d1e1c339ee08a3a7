# SPDX-License-Identifier: Apache-2.0
"""``loraforge serve``: the command, and what it starts."""
