"""The MLflow run of reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import Store
from forkdiv.rl.rl_run import Inputs


@contextmanager
def recording(
    study: StudyConfig, inputs: Inputs, store: Store, show: Callable[[str], None]
) -> Iterator[None]:
    yield
