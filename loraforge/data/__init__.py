# SPDX-License-Identifier: Apache-2.0
"""The examples: read, reviewed, compared, checked, split; and the runs that they come from."""
