"""Building blocks of networks: packing of padded batches, normalization, late interaction."""
