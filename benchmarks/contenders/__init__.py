# SPDX-License-Identifier: Apache-2.0
"""What is compared: one module for each kind, with ``train(spec) -> {"steps": ..., "adapter": ...}``."""
