"""Retrieval: from a query to ranked moments."""
