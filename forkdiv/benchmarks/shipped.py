"""Imports every file of this folder, so that the benchmarks in them register themselves."""

from forkdiv.benchmarks.registry import import_all

import_all("forkdiv.benchmarks")
