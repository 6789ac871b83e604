"""`make bench`: every benchmark in turn, a table, and runs/bench.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from forkdiv.core.code_version import commit
from forkdiv.core.store import versions, write_text
from forkdiv.terminal import say, show_table
from tests.bench import (
    decoding_trials,
    generate,
    packing,
    passk,
    problems,
    real,
    real_sampling,
    real_training,
    sampling,
    store,
    swap,
    training,
    trials,
)
from tests.bench.row import Row

OUT = Path("runs/bench.json")


MODULES = (
    problems,
    passk,
    packing,
    training,
    swap,
    sampling,
    generate,
    store,
    trials,
    decoding_trials,
    real,
    real_sampling,
    real_training,
)


def main(names: Sequence[str]) -> None:
    """All benchmarks, or those named."""
    rows: list[Row] = []
    for module in MODULES if not names else [one for one in MODULES if _name(one) in names]:
        say(f"bench: {_name(module)} …")
        rows += module.measure()
    OUT.parent.mkdir(exist_ok=True)
    stamped = [asdict(row) | {"versions": versions(), "commit": commit()} for row in rows]
    write_text(OUT, json.dumps(stamped, indent=1))
    show_table(
        ["name", "value", "unit", "against"],
        [[row.name, f"{row.value:.4g}", row.unit, row.against] for row in rows],
        title="benchmarks",
    )
    say(f"written to {OUT}")


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


if __name__ == "__main__":
    main(sys.argv[1:])
