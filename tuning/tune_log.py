"""Ray Tune's log of a study, without the tracebacks of trials that failed."""

from __future__ import annotations

import logging

CONTROLLER = "ray.tune.execution.tune_controller"
FAILED = "Trial task failed for trial"  # how the controller's line begins


class WithoutFailedTrials(logging.Filter):
    """Leaves out the line and the traceback of a trial that failed: the study reports it in one
    line (tuning.follow_trials), and Ray Tune keeps the traceback in a file."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(FAILED)


def shorten() -> None:
    """Leaves the tracebacks of failed trials out of the log from now on. They are in `error.txt` in
    the trial's folder below place.root/tune."""
    logger = logging.getLogger(CONTROLLER)
    if not any(isinstance(one, WithoutFailedTrials) for one in logger.filters):
        logger.addFilter(WithoutFailedTrials())
