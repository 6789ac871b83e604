"""`python -m forkdiv.requirements cpu`: where the pins are."""

from __future__ import annotations

import sys

from forkdiv.requirements import DEVICES, EXTRAS, pins

if __name__ == "__main__":
    given = sys.argv[1:]
    if len(given) != 1 or given[0] not in (*DEVICES, *EXTRAS):
        sys.exit(
            f"forkdiv: which pins are wanted: got {' '.join(given) or 'nothing'}; allowed: "
            f"{' or '.join((*DEVICES, *EXTRAS))}; run python -m forkdiv.requirements cpu"
        )
    sys.stdout.write(f"{pins(given[0])}\n")
