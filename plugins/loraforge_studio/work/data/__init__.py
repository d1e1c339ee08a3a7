# SPDX-License-Identifier: Apache-2.0
"""A work's data: what the commands say of them, the table in which they are mended, and small pictures of the large ones."""
