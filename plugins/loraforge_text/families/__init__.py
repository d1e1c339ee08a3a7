# SPDX-License-Identifier: Apache-2.0
"""The model family ``causal-lm``: loading, encoding, training, answering, and the memory that it needs."""
