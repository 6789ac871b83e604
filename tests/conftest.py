"""Tiny models run fastest on one thread; set before anything imports torch."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
