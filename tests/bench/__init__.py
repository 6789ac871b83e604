"""Benchmarks: each a ratio against a named alternative within one run, or a figure with a unit."""
