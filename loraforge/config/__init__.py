# SPDX-License-Identifier: Apache-2.0
"""The YAML file: read with its lines, checked against the keys that each owner declares, explained."""
