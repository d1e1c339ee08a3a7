# SPDX-License-Identifier: Apache-2.0
"""The page: static files as they are, and what may be done with them."""
