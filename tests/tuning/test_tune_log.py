"""A failed trial is one line of the log."""

from __future__ import annotations

import logging

import pytest

from tuning import tune_log


def test_a_traceback_becomes_the_last_line_of_its_error(caplog: pytest.LogCaptureFixture) -> None:
    tune_log.shorten()
    tune_log.shorten()
    logger = logging.getLogger(tune_log.CONTROLLER)
    assert len([one for one in logger.filters if isinstance(one, tune_log.OneLine)]) == 1
    try:
        raise ValueError("The actor died.\n\nThe node of this actor was lost.\n")
    except ValueError as error:
        logger.error("Trial task failed for trial %s", "t1", exc_info=error)
    logger.error("another line")
    assert caplog.messages == [
        "Trial task failed for trial t1: ValueError: The node of this actor was lost.",
        "another line",
    ]
    assert "Traceback" not in caplog.text
