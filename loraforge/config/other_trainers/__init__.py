# SPDX-License-Identifier: Apache-2.0
"""Keys and values as other trainers write them: taken where they mean the same, answered where they do not."""
