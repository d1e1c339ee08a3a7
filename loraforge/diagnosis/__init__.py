# SPDX-License-Identifier: Apache-2.0
"""What the losses of a run say, in words and pictures."""
