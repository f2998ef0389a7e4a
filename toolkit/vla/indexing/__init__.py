"""Index of the segments of videos: segmentation, fragments on disk, synchronization with the cache, autotuning."""
