"""Ray Tune's log of a study: a failed trial is one line; Tune keeps its traceback in a file."""

from __future__ import annotations

import logging

from forkdiv.core.errors import shortened

CONTROLLER = "ray.tune.execution.tune_controller"


class OneLine(logging.Filter):
    """Replaces the traceback of a record by the last line of its error."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = shortened(lines[-1], 300) if lines else "no message"
            record.msg = f"{record.getMessage()}: {type(error).__name__}: {reason}"
            record.args, record.exc_info, record.exc_text = (), None, None
        return True


def shorten() -> None:
    """Makes every error of a trial one line from now on. The whole traceback is in `error.txt` in
    the trial's folder below place.root/tune."""
    logger = logging.getLogger(CONTROLLER)
    if not any(isinstance(one, OneLine) for one in logger.filters):
        logger.addFilter(OneLine())
