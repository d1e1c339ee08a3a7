# SPDX-License-Identifier: Apache-2.0
"""From a config to a finished run, step by step; and the same again, to compare."""
