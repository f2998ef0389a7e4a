"""Batches: from a corpus of cached features to the tensors of a step."""
