# SPDX-License-Identifier: Apache-2.0
"""Measures LoRAForge beside its peers, in whole processes: ``python -m benchmarks text|image|startup|memory|lengths|gpu``."""
