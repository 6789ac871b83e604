"""Samples of a checkpoint: the warm vLLM engine with proved checkpoint swaps, the Ray Serve
deployment, the HTTP API, and sample sets that a killed run continues."""
