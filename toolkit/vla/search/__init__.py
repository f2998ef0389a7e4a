"""Stage 3: from aligned vectors to an index, and from words to moments."""
