"""Naming: names of videos and files, matched, parsed and made portable."""
