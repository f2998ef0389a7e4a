"""Stage 1: frozen features on disk, written so that whatever is interrupted, what was finished is there and true."""
