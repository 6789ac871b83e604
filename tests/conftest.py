"""Tiny models run fastest on one thread; set before anything imports torch."""

import importlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
importlib.import_module("forkdiv.tasks.registry")  # tasks register their settings there
