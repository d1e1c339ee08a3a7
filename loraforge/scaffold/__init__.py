# SPDX-License-Identifier: Apache-2.0
"""Packages for people who write plugins: ``loraforge new-plugin``. The files in ``kinds`` are the examples of docs/hooks.md as well."""
