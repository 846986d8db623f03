"""Benchmarks: each figure beside the peer or the limit, measured in the same run."""
