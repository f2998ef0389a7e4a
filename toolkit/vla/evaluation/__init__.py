"""Evaluation: the protocols of the benchmarks, over the predictions of a model."""
