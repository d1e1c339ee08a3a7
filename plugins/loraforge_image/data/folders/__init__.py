# SPDX-License-Identifier: Apache-2.0
"""What a folder of pictures may look like, and what becomes of every file in it. One file per idea; ``reader`` puts them together."""
