"""`make bench`: every benchmark in turn, a table, and runs/bench.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from forkdiv.artifacts import commit, versions, write_text
from forkdiv.terminal import say, show_table
from tests.bench import packing, passk, problems, swap

OUT = Path("runs/bench.json")


def main() -> None:
    rows = []
    for module in (problems, passk, packing, swap):
        say(f"bench: {module.__name__.rpartition('.')[2]} …")
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


if __name__ == "__main__":
    main()
