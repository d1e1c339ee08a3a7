# SPDX-License-Identifier: Apache-2.0
"""What lies on the disk, and the commands that change it: nothing here knows HTTP."""
