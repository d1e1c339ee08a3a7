# SPDX-License-Identifier: Apache-2.0
"""What pictures are kept as: colours of every kind as sRGB, and the sizes of files that are decoded to tell theirs."""
