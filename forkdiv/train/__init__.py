"""One SFT run on Ray Train and DeepSpeed: steps, losses, packing, checkpoints, resume, memory."""
