"""forkdiv: measure, locate and repair the loss of coverage that fine-tuning causes."""

__version__ = "0.1.0"
