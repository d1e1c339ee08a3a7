# SPDX-License-Identifier: Apache-2.0
"""Who is let in, and what is written of it."""
