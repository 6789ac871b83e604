"""The audit of a dataset: where its forks are, how dense, and which are under-covered."""
