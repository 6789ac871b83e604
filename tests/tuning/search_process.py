"""A search whose trials measure nothing, in a process that can be killed.

python -m tests.tuning.search_process ROOT SETTING...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from forkdiv.core.config.load import load
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import open_checkpoint
from tests.stack import BASE
from tests.tuning import made_up
from tuning import session, sweep
from tuning.open_study import OpenStudy
from tuning.resources import Work
from tuning.space import Point
from tuning.study_record import StudyRecord
from tuning.trial import Pipeline, TrialResult

FINGERPRINT = "5" * 32
SECONDS = 1.0  # of a trial


class MadeUp(Pipeline):
    """Returns pass@k that depends on the learning rate."""

    def run(self, point: Point) -> TrialResult:
        time.sleep(SECONDS)
        value = min(float(point.varied.get("sft.learning_rate", 0.5)), 1.0)
        return made_up.result(point, value, 1.0 if point.tuned else None)


def main(root: Path, settings: list[str]) -> None:
    place = [f"base={BASE}", f"place.root={root}", "place.dashboard=false", "eval.samples=8"]
    place += ["place.ray_start_timeout_s=600"]
    study = load(None, [*place, *settings])
    with session.running(study.place, Work(trains=False, samples=False)) as running:
        study = study.model_copy(update={"place": running})
        progress = Progress(study.folder / "progress.jsonl", "study")
        store = Store.of(study.place)
        work = OpenStudy(study, open_checkpoint(BASE), progress, store, "no-sampler", {})
        record = StudyRecord(study, FINGERPRINT)
        for result in sweep.run(work, record.folder, FINGERPRINT, MadeUp):
            sys.stdout.write(f"measured {result.point.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
