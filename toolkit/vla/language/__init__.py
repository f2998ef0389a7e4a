"""Language: sentences of captions and rewriting of queries."""
