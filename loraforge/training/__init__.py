# SPDX-License-Identifier: Apache-2.0
"""The training loop and its parts. torch is imported inside the functions that need it."""
