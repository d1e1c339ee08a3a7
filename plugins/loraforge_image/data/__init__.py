"""Folders of pictures: reading, captions, buckets, perceptual hashes."""
