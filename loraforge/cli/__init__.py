# SPDX-License-Identifier: Apache-2.0
"""The command line. What the core prints when a command ends is printed here; while a run goes on, ``runs.observers`` speaks."""
