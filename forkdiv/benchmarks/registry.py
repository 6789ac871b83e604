"""All benchmarks by name. Each registers itself: a new one is a file in this folder, or a module of
yours, named as `package.module:NAME`."""

from __future__ import annotations

import importlib
import pkgutil

from forkdiv.benchmarks.base import Benchmark
from forkdiv.core.config.open_list import OpenList, import_foreign
from forkdiv.core.errors import refuse

BENCHMARKS: OpenList[Benchmark] = OpenList(
    "benchmark", "forkdiv.benchmarks.shipped", "forkdiv.benchmarks"
)


def register(benchmark: Benchmark) -> Benchmark:
    """Registers a benchmark under its name, and returns it."""
    BENCHMARKS.register(benchmark.name, lambda: benchmark)
    return benchmark


def find_benchmark(name: str) -> Benchmark:
    """Returns the benchmark with a registered name, or the one that `package.module:NAME` names.

    Raises UserError for an unknown name, and for an object that is no benchmark.
    """
    if ":" in name:
        return _own(name)
    if name in BENCHMARKS.names():
        return BENCHMARKS.get(name)
    allowed = f"{', '.join(BENCHMARKS.names())} or package.module:NAME"
    raise refuse("unknown benchmark", repr(name), allowed, "correct --as (task.benchmark)")


def _own(name: str) -> Benchmark:
    module, _, attribute = name.partition(":")
    allowed = "package.module:NAME of an instance of forkdiv.benchmarks.base.Benchmark"
    found = getattr(import_foreign(module, "benchmark", allowed), attribute, None)
    if not isinstance(found, Benchmark):
        came = f"{name!r}, which is {'missing' if found is None else type(found).__name__}"
        raise refuse("the benchmark cannot be loaded", came, allowed, "correct --as")
    return found


def import_all(package: str) -> None:
    """Imports all modules of a package, so that their benchmarks register themselves."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
