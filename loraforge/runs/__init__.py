# SPDX-License-Identifier: Apache-2.0
"""A run on disk: its folder, checkpoints, log, provenance and seal; and a finished run that is used."""
