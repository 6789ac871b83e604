"""Show the settings in which two results differ, which explains why a stage ran again.

    forkdiv why 3f9a 81c2
    forkdiv why runs/quickstart runs/mine
    forkdiv why 3f9a place.root=/shared/runs

Name a result by its fingerprint (its folder name in runs/store/STAGE/), the first characters of the
fingerprint, or its folder; a study by the folder of its results. A single result is compared with
the most similar result of its stage. If the results were made from inputs that differ (a checkpoint
from a dataset), these inputs are compared too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.explain import Results
from forkdiv.core.store import Store
from forkdiv.terminal import say


def run(study: StudyConfig, results: Sequence[Path] = ()) -> None:
    store = Store.of(study.place)
    if store.remote is None:
        _explain(Results(study.place.root, store.root), results)
        return
    with TemporaryDirectory(prefix="forkdiv-") as folder:
        store.remote.copy_records(Path(folder))
        _explain(Results(study.place.root, Path(folder)), results, store.remote.objects.url)


def _explain(known: Results, results: Sequence[Path], url: str = "") -> None:
    """`url` is where the records were copied from."""
    if not 1 <= len(results) <= 2:
        raise refuse(
            "why compares one or two results",
            f"{len(results)}",
            "fingerprints, their first characters, or folders",
            "pass two results, or one to compare it with the most similar result of its stage",
        )
    first, *others = (known.resolve(str(name)) for name in results)
    second = others[0] if others else known.nearest(first)
    if second is None:
        raise refuse(
            f"there is no other result to compare {first.name} with",
            f"no other {first.stage} result under {known.root}",
            "a second result",
            "pass the second result too",
        )
    paths = [
        f"{url}/{one.path.relative_to(known.store)}"
        if url and one.path.is_relative_to(known.store)
        else f"{one.path}"
        for one in (first, second)
    ]
    say(f"first:  {first.name}, {paths[0]}")
    say(f"second: {second.name}, {paths[1]}{'' if others else ' (the most similar)'}")
    for line in known.explain(first, second):
        say(f"  {line}")


if __name__ == "__main__":
    cli.run_job("why")
