"""Captions of a workspace: stored by content and source, matched with videos by name."""
