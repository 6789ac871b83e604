"""Ray Train's set-up of torch's process group, torch imported by none but the workers.

`ray.train.torch` imports torch wherever it is named: in the trial and again in Ray Train's
controller, one after the other and before a worker starts, which took five seconds of every run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

from forkdiv.core.gc_pause import gc_paused

LEAVE_S = 30
log = logging.getLogger(__name__)


@dataclass
class ProcessGroup(BackendConfig):  # type: ignore[misc]
    """Workers joined by torch's `backend`, nccl or gloo."""

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        return _InWorkers

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[None]]:
        return _on_its_device

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _InWorkers(Backend):  # type: ignore[misc]
    """Runs in the controller, and has the workers do what Ray's own backend has them do."""

    share_cuda_visible_devices = True  # LOCAL_RANK counts the devices of a node

    def on_start(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        where = worker_group.execute_single(0, get_address_and_port)
        of = len(worker_group)
        joining = [
            worker_group.execute_single_async(rank, _join, backend_config.backend, where, rank, of)
            for rank in range(of)
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        leaving = worker_group.execute_async(_leave, len(worker_group) > 1)
        try:
            ray.get(leaving, timeout=LEAVE_S)
        except ray.exceptions.GetTimeoutError:  # as in Ray: the processes are ended next
            log.warning("the process group did not end within %d s", LEAVE_S)


def _join(backend: str, where: tuple[str, int], rank: int, of: int) -> None:
    with gc_paused():
        from ray.train.torch import config

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = where[0], str(where[1])
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(backend, rank, of, "env://")


def _leave(destroy: bool) -> None:
    from ray.train.torch import config

    config._shutdown_torch(destroy)


@contextmanager
def _on_its_device() -> Iterator[None]:
    """Around the workers' function: each on the GPU that it was given."""
    from ray.train.torch.config import TorchConfigContextManager

    with TorchConfigContextManager():
        yield
