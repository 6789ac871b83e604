"""What only a GPU can show: `make gpu-check`.

`python -m tests.gpu.kit` makes a folder that brings what a bare machine with PyTorch lacks (Ray,
DeepSpeed, transformers, a real model), in pieces of under 60 MB, for machines that can be reached
with small files only. `python -m tests.gpu.check` runs the checks.
"""
