"""What the store costs: publishing small results, finding them, and one sample on disk."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store, write_text
from forkdiv.core.store_contents import read
from tests.bench.row import Row

SIZES = (200, 800)
FOUND = 100


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        publish: list[float] = []
        find: list[float] = []
        listing: list[float] = []
        made = 0
        for size in SIZES:
            began = time.perf_counter()
            for number in range(made, size):
                store.obtain(_identity(number), _build)
            publish.append((time.perf_counter() - began) / (size - made))
            made = size
            began = time.perf_counter()
            for number in range(0, size, size // FOUND):
                assert store.find(_identity(number))
            find.append((time.perf_counter() - began) / FOUND)
            began = time.perf_counter()
            assert len(read(store.root).entries) >= size
            listing.append((time.perf_counter() - began) / size)
    few, many = SIZES
    return [
        Row(
            "store_publish",
            1e3 * publish[1],
            "ms",
            f"{_of(publish)} ms up to {few}, {many} results",
        ),
        Row("store_find", 1e3 * find[1], "ms", f"{_of(find)} ms among {few}, {many} results"),
        Row("store_list", 1e3 * listing[1], "ms a result", f"{_of(listing)} ms at {few}, {many}"),
    ]


def _identity(number: int) -> Identity:
    return Identity("verdicts", {"number": number}, {})


def _build(folder: Path) -> None:
    write_text(folder / "counts.jsonl", "{}\n" * 100)


def _of(seconds: list[float]) -> str:
    return ", ".join(f"{1e3 * value:.2g}" for value in seconds)
