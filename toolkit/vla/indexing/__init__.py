"""Index of the segments of videos.

Segmentation, fragments on disk, synchronization with the cache, autotuning.
"""
