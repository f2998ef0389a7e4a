"""Training: small projectors and heads on cached features."""
