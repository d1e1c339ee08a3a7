# SPDX-License-Identifier: Apache-2.0
"""What ``init_from_adapter`` names, made into an adapter of the run's own layers."""
