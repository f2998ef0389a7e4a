"""Feature cache: frozen features on disk, written so that an interruption loses only unfinished videos."""
