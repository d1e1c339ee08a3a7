# SPDX-License-Identifier: Apache-2.0
"""Base against adapter on the same held-out examples; intervals; the blind sheet and its grades."""
