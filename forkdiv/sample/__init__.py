"""Completions of a checkpoint: the warm vLLM engine, its proved swaps, the Ray Serve deployment,
HTTP, and samples that a killed run goes on with."""
