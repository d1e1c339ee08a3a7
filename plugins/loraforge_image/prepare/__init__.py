# SPDX-License-Identifier: Apache-2.0
"""``loraforge prepare image``: which pictures of a folder to train on, and with which captions."""
