"""Losses of fine-tuning, over response tokens alone, one a file; `sft.loss` chooses.

A new loss is a file in this folder with a class like those here, and a line in `registry.LOSSES`.
Nothing is imported here: the names are read where torch is not wanted.
"""
