"""Storage: atomic files, locks, records and the workspace folder."""
