"""Losses for fine-tuning, over response tokens only; `sft.loss` selects one.

To add a loss, add a file with a subclass of `Loss` to this folder and a line to `registry.LOSSES`.
This module imports nothing, so that the names can be read without importing torch.
"""
