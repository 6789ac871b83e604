"""Show the settings in which two results differ, to explain why a result was not reused.

    forkdiv why 3f9a 81c2
    forkdiv why runs/quickstart runs/mine
    forkdiv why 3f9a place.root=/shared/runs

A result is named by its fingerprint (the name of its folder in runs/store/STAGE/), by the first
characters of it, or by its folder; a study by its folder. A single result is compared with the most
similar result of its stage. If the results depend on other results that differ (a checkpoint
depends on a dataset), those are compared too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.explain import Results
from forkdiv.terminal import say


def run(study: StudyConfig, results: Sequence[Path] = ()) -> None:
    known = Results(study.place.root)
    if not 1 <= len(results) <= 2:
        raise refuse(
            "why compares one or two results",
            f"{len(results)}",
            "fingerprints, their first characters, or folders",
            "name two results, or one to compare it with the nearest",
        )
    first, *others = (known.resolve(str(name)) for name in results)
    second = others[0] if others else known.nearest(first)
    if second is None:
        raise refuse(
            f"there is no other result to compare {first.name} with",
            f"no other {first.stage} result under {known.root}",
            "a second result",
            "name the second result",
        )
    say(f"first:  {first.name}, {first.path}")
    say(f"second: {second.name}, {second.path}{'' if others else ' (the nearest)'}")
    for line in known.explain(first, second):
        say(f"  {line}")


if __name__ == "__main__":
    cli.run_job("why")
