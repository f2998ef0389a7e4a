"""Indexing: from cached features to an index of segments on disk."""
