# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures: reading, captions, buckets, perceptual hashes."""
