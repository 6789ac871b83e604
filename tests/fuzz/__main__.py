"""See the package: what to run, and how to see one case again."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.case import Tally


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("what", choices=("readers", "commands", "requests"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of `forkdiv serve`")
    given = parser.parse_args()
    tally = run(given.what, given.seed, given.only or range(given.cases), given.url)
    print(f"seed {given.seed}\n{tally.report()}")
    sys.exit(1 if tally.finds else 0)


def run(what: str, seed: int, numbers: range | list[int], url: str) -> Tally:
    if what == "readers":
        from tests.fuzz import readers

        return readers.fuzz(seed, numbers)
    if what == "commands":
        from tests.fuzz import commands

        return commands.fuzz(seed, numbers)
    from tests.fuzz import requests

    return requests.fuzz(seed, numbers, url)


if __name__ == "__main__":
    main()
