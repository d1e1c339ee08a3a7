# SPDX-License-Identifier: Apache-2.0
"""Malformed inputs. Each is built into a folder of its own."""
