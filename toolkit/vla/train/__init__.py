"""Stage 2: small projectors trained on cached features."""
