"""Checkpoints: files and digests, loading, prompts, decoders, interpolation, LoRA, and the base
model that ships with forkdiv."""
