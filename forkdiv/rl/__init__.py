"""Reinforcement learning from verifiable rewards: GRPO with TRL on the warm sampler."""
