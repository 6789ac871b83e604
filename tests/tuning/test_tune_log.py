"""The log has no traceback of a failed trial, which the study reports in one line."""

from __future__ import annotations

import inspect
import logging

import pytest
from ray.tune.execution import tune_controller

from tuning import tune_log


def test_failed_trials_are_left_out_and_other_errors_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tune_log.shorten()
    tune_log.shorten()
    logger = logging.getLogger(tune_log.CONTROLLER)
    assert sum(isinstance(one, tune_log.WithoutFailedTrials) for one in logger.filters) == 1
    error = ValueError("The actor died.")
    logger.error(f"{tune_log.FAILED} t1", exc_info=error)
    logger.error("Failed to restore the run state.", exc_info=error)
    assert caplog.messages == ["Failed to restore the run state."]


def test_ray_tune_logs_failed_trials_so() -> None:
    assert tune_controller.logger.name == tune_log.CONTROLLER
    assert f'"{tune_log.FAILED} {{trial}}"' in inspect.getsource(tune_controller)
